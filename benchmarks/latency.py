"""From `enqueue` to the first line of the task, in a worker that has nothing to do."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.measuring import quantile
from benchmarks.results import Recorder

PAUSE: Final = 0.02
"""Seconds of silence before each job: by then everybody sleeps."""
PATIENCE: Final = 30.0


class Latency(NamedTuple):
    """Milliseconds until the task was entered: since `enqueue` was called, and since it returned."""

    called: float
    returned: float


class Stamps:
    """A FIFO into which the tasks of a worker write when they were entered."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._read = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._kept_open = os.open(path, os.O_WRONLY)

    def latency(self, enqueue: Callable[[], object]) -> Latency:
        """Of one job. Raises TimeoutError if it did not start in time."""
        called = time.monotonic()
        enqueue()
        returned = time.monotonic()
        if not select.select([self._read], [], [], PATIENCE)[0]:
            raise TimeoutError(f"the job did not start within {PATIENCE:.0f} s")
        entered = float(os.read(self._read, 100))
        return Latency((entered - called) * 1e3, (entered - returned) * 1e3)

    def latencies(self, enqueue: Callable[[], object], count: int) -> list[Latency]:
        """Of so many, after a few that warm up; before each there is a pause."""
        found: list[Latency] = []
        for _ in range(count + 5):
            time.sleep(PAUSE)
            found.append(self.latency(enqueue))
        return found[5:]

    def close(self) -> None:
        os.close(self._read)
        os.close(self._kept_open)


@contextmanager
def idle(
    start: Callable[[Path], subprocess.Popen[bytes]], folder: Path, enqueue: Callable[[], object]
) -> Iterator[tuple[subprocess.Popen[bytes], Stamps]]:
    """A worker that has run one job and waits. `start` is given the FIFO of its stamps."""
    stamps = Stamps(folder / "stamps")
    process = start(folder / "stamps")
    try:
        stamps.latency(enqueue)
        yield process, stamps
    finally:
        process.terminate()
        process.wait(60)
        stamps.close()
        (folder / "stamps").unlink()


def record(run: Recorder, subject: str, found: list[Latency], whose: str = "") -> None:
    for since, times in (("call", [one.called for one in found]), ("return", [one.returned for one in found])):
        for name, part in (("p50", 0.5), ("p99", 0.99)):
            run.add(subject, f"{whose}latency from the {since}, {name}", "ms", quantile(times, part))
