"""Real workers as processes: started, watched, signalled and killed, with everything they started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL, SIGSTOP, SIGTERM, Signals
from typing import IO, Final

from outwork.brokers.base import Broker
from support.waiting import until

PATIENCE: Final = 60.0


class Running:
    """A supervisor with its worker processes and their children, in a session of its own."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self._seen = {process.pid}

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        """What it has logged so far."""
        return self.log.read_text(errors="replace")

    def wait_for_line(self, part: str, *, times: int = 1, seconds: float = PATIENCE) -> None:
        """Wait until it has logged this `times` times."""
        until(
            lambda: self.text().count(part) >= times or self._ended(part),
            f"{part!r} in the log:\n{self.text()}",
            seconds=seconds,
        )

    def _ended(self, part: str) -> bool:
        if self.process.poll() is not None and part not in self.text():
            raise AssertionError(f"the worker ended with {self.process.returncode} before {part!r}:\n{self.text()}")
        return False

    def ready(self, processes: int = 1) -> Running:
        """Wait until its processes have loaded their tasks."""
        self.wait_for_line("slots · worker ", times=processes)
        return self

    def known(self, broker: Broker) -> Running:
        """Wait until a process of it has said where it is: before that nobody can know when it is dead, and its jobs
        would wait for the end of a lease."""
        until(lambda: any(one.worker in self.text() for one in broker.workers()), "its presence", seconds=PATIENCE)
        return self

    def descendants(self) -> list[int]:
        """Its worker processes and their children, now."""
        pids = descendants(self.pid)
        self._seen.update(pids)
        return pids

    def worker_pids(self) -> list[int]:
        """Its worker processes, now."""
        return [pid for pid in children_of(self.pid) if alive(pid)]

    def signal(self, number: Signals) -> None:
        """Send a signal to the supervisor."""
        self.process.send_signal(number)

    def signal_all(self, number: Signals) -> None:
        """Send a signal to the supervisor and everything below it."""
        for pid in [self.pid, *self.descendants()]:
            send(pid, number)

    def kill_all(self) -> None:
        """`kill -9` of everything at one moment: nothing is told, nothing is given back."""
        pids = [self.pid, *self.descendants()]
        for pid in pids:
            send(pid, SIGSTOP)  # so that nobody starts anybody, or tidies up, while the others are killed
        for pid in {*pids, *self.descendants()}:
            send(pid, SIGKILL)
        self.process.wait(PATIENCE)
        until(lambda: not any(map(alive, self._seen - {self.pid})), "the end of all processes", seconds=PATIENCE)

    def wait(self, seconds: float = PATIENCE) -> int:
        """The exit code, once it has ended by itself."""
        self.descendants()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker did not end within {seconds:g} s:\n{self.text()}") from None

    def stop(self, seconds: float = PATIENCE) -> int:
        """SIGTERM and wait; the exit code."""
        self.descendants()
        self.signal(SIGTERM)
        return self.wait(seconds)

    def clean_up(self) -> None:
        """Kill whatever still lives."""
        for pid in {*self._seen, *self.descendants()}:
            send(pid, SIGKILL)
        self.process.wait(PATIENCE)


class Workers:
    """Starts workers in one directory, on one broker, and leaves none behind."""

    def __init__(self, folder: Path, broker_url: str, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._url = broker_url
        self._environ = dict(environ)
        self._all: list[Running] = []
        self._logs: list[IO[bytes]] = []

    def start(self, *words: str, url: str | None = None) -> Running:
        """`outwork worker WORDS`. The worker may not be ready yet: see `Running.ready`."""
        log = self._folder / f"worker-{len(self._all) + 1}.log"
        handle = log.open("wb")
        self._logs.append(handle)
        process = subprocess.Popen(
            [sys.executable, "-m", "outwork", "worker", "--broker", url or self._url, *words],
            cwd=self._folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            start_new_session=True,
        )
        self._all.append(Running(process, log))
        return self._all[-1]

    def run(self, *words: str, url: str | None = None, seconds: float = PATIENCE) -> tuple[int, str]:
        """Run a worker to its end: its exit code and its log."""
        running = self.start(*words, url=url)
        return running.wait(seconds), running.text()

    def clean_up(self) -> None:
        for running in self._all:
            running.clean_up()
        for handle in self._logs:
            handle.close()


@contextmanager
def workers_in(folder: Path, broker_url: str, environ: Mapping[str, str]) -> Iterator[Workers]:
    """Workers that do not outlive the block."""
    workers = Workers(folder, broker_url, environ)
    try:
        yield workers
    finally:
        workers.clean_up()


# ---- processes -------------------------------------------------------------------------------------------------------


def send(pid: int, number: Signals) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    return _stat(pid) not in (None, "Z", "X")


def state(pid: int) -> str | None:
    """The state letter of a process (R, S, T, Z...), None when there is none."""
    return _stat(pid)


def children_of(pid: int) -> list[int]:
    """The processes that this one started and that have not been collected."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in task.read_text().split()]
        except OSError:
            continue  # that thread has ended meanwhile
    return found


def descendants(pid: int) -> list[int]:
    """The processes below this one that live."""
    below = [child for child in children_of(pid) if alive(child)]
    return below + [pid for child in below for pid in descendants(child)]


def _stat(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None
