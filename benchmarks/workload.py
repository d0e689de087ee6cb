"""The tasks of the benchmarks. The worker that runs them writes down when the first started and the last ended."""

from __future__ import annotations

import asyncio
import atexit
import os
import time
from pathlib import Path

from outwork import task

_first = 0.0
_last = 0.0
_count = 0
_tallied = 0.0


@task(name="bench.noop", queue_name="bench")
def noop(number: int, text: str) -> int:
    """Does nothing; its end is the time of the next one's start, near enough."""
    global _first, _last, _count
    _last = time.perf_counter()
    _first = _first or _last
    _count += 1
    return number


@task(name="bench.tally", queue_name="bench")
def tally(numbers: list[int]) -> int:
    """The callback of a group."""
    global _tallied
    _tallied = time.perf_counter()
    return len(numbers)


@task(name="bench.nap", queue_name="bench")
async def nap(seconds: float) -> None:
    """Sleeps on the event loop."""
    global _first, _last, _count
    _first = _first or time.perf_counter()
    await asyncio.sleep(seconds)
    _last = time.perf_counter()
    _count += 1


@task(name="bench.stamp", queue_name="bench")
def stamp() -> float:
    """When it was entered, by a clock that all processes of the machine share; written to a file descriptor, too."""
    entered = time.monotonic()
    if path := os.environ.get("BENCH_STAMPS"):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(handle, b"%r\n" % entered)
        os.close(handle)
    return entered


def _report() -> None:
    if (path := os.environ.get("BENCH_REPORT")) and _count:
        with Path(path).open("a") as file:
            file.write(f"{_count} {_first} {_tallied or _last}\n")


atexit.register(_report)
