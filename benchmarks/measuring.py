"""One way to measure: by the clock, by processor time, and what a process weighs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

TICKS: Final = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """How many a second, and microseconds of processor time for each."""

    rate: float
    cpu: float


def rate(count: int, call: Callable[[], object]) -> float:
    """How many a second, when one call does so many."""
    began = time.perf_counter()
    call()
    return count / (time.perf_counter() - began)


def milliseconds(call: Callable[[], object]) -> float:
    return 1000 / rate(1, call)


def quantile(values: Iterable[float], part: float) -> float:
    """The value below which this part of them is, 0 to 1."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]


def family(pids: Iterable[int]) -> set[int]:
    """These processes and all below them."""
    parents = {pid: int(fields[1]) for pid, fields in _processes()}
    found = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def processor_time(pids: Iterable[int] | None = None) -> float:
    """Seconds that these and all below them have used, also those that have ended; this process if none are named."""
    wanted = family([os.getpid()] if pids is None else pids)
    return sum(sum(map(int, fields[11:15])) for pid, fields in _processes() if pid in wanted) / TICKS


def usage(pid: int) -> tuple[float, float]:
    """Seconds of processor time of a process and those below it, and resident megabytes of the largest of them.

    By the scheduler's nanoseconds: `stat` counts in hundredths of a second, as much as an idle worker uses in ten.
    """
    cpu = memory = 0.0
    wanted = family([pid])
    for one, fields in _processes():
        if one in wanted:
            threads = [_read(path) for path in Path(f"/proc/{one}").glob("task/*/schedstat")]
            cpu += sum(int(thread.split()[0]) for thread in threads if thread) / 1e9
            memory = max(memory, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
    return cpu, memory


def _processes() -> list[tuple[int, list[str]]]:
    """Each with the fields of its `stat` behind its name."""
    found = [(int(path.parent.name), _read(path)) for path in Path("/proc").glob("[0-9]*/stat")]
    return [(pid, text.rpartition(")")[2].split()) for pid, text in found if text]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended
        return ""
