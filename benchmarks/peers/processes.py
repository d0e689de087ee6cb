"""The processes of a contestant: a session of their own, its processor time, its memory and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def fields(pid: int) -> list[str]:
    """/proc/PID/stat after the name: state, parent, group, session...; nothing when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def everybody() -> dict[int, list[str]]:
    """The fields of all processes that are alive."""
    found = {int(path.name): fields(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    return {pid: values for pid, values in found.items() if values and values[0] not in "ZX"}


def family(leader: int) -> dict[int, list[str]]:
    """The living processes of the leader's session, and those below them that left it."""
    alive = everybody()
    members = {pid for pid, values in alive.items() if pid == leader or int(values[3]) == leader}
    while more := {pid for pid, values in alive.items() if int(values[1]) in members} - members:
        members |= more
    return {pid: alive[pid] for pid in members}


def cpu(leaders: Iterable[int]) -> float:
    """Processor seconds of the families of these processes, with those of their children that have ended."""
    members = {pid: values for leader in leaders for pid, values in family(leader).items()}
    return sum(sum(map(int, values[11:15])) for values in members.values()) / TICKS


def memory(leader: int) -> float:
    """Megabytes of a family: what it shares is divided among those who share it (PSS)."""
    total = 0
    for pid in family(leader):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e6


def until(condition: Callable[[], bool], seconds: float, pause: float = 0.01) -> bool:
    """Wait for something; whether it came in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True


class Worker:
    """A worker in a session of its own, with everything that it starts."""

    def __init__(self, command: list[str], environ: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as handle:
            self._process = subprocess.Popen(
                command,
                env=dict(environ),
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=handle,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def text(self) -> str:
        """The end of what it has logged."""
        return self.log.read_text(errors="replace")[-2000:]

    def kill(self) -> None:
        """`kill -9` of all of it, at one moment: those that are not of its process group are stopped before they can
        notice."""
        if not self.ended:
            os.killpg(self.pid, signal.SIGSTOP)
        seen = set(family(self.pid))
        if not self.ended:
            os.killpg(self.pid, signal.SIGKILL)
        for _ in range(100):
            seen |= set(family(self.pid))
            left = [pid for pid in seen if pid != self.pid and fields(pid) and fields(pid)[0] not in "ZX"]
            for pid in left:
                send(pid, signal.SIGKILL)
            if not left:
                break
            time.sleep(0.01)
        self._process.wait(10)

    def stop(self, seconds: float = 2.0) -> None:
        """As its operator would, and not for longer than this."""
        if not self.ended:
            self._process.terminate()
            until(lambda: self.ended, seconds)
        self.kill()


def send(pid: int, number: signal.Signals) -> None:
    """A signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
