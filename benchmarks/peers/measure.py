"""What is measured of a contestant, each in an empty space of its own, and nothing without a deadline."""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.contestant import FOLDER, HERE, Contestant, Home
from benchmarks.peers.course import Ledger
from benchmarks.peers.processes import Worker, cpu, memory, until
from benchmarks.peers.spaces import Space, Spaces

START: Final = 30.0
"""Seconds that a worker may take to its first job."""
PRODUCER: Final = 60.0
"""Seconds that a producer may take."""
SETTLED: Final = 1.0
"""Seconds after its last job at which an idle worker's memory is looked at."""
BEHIND: Final = 1.5
"""Seconds after the last job of a drain in which a worker's processor time still counts: some settle jobs once a
second."""
FOREIGN: Final = ("OUTWORK_", "CELERY_", "DRAMATIQ_", "RQ_", "TASKIQ_", "PYTHONPATH")


def percentile(values: list[float], percent: float) -> float:
    """The least of the values that at least so many percent of them do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


class Failed(Exception):
    """A contestant did not do what it was measured for."""


@dataclass(slots=True)
class Speed:
    """What is known of a contestant's speed, in jobs a second, to choose how many to measure with."""

    drain: float
    enqueue: float
    fill: float
    """In bulk, if it can."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    seconds: float = 3.0
    """What a drain is to last; the enqueue one by one lasts half of it."""
    fill: float = 8.0
    """Most seconds for filling the queue."""
    drain: float = 10.0
    """Most seconds of a drain; then its rate so far is taken."""
    most: int = 200_000
    """Most jobs of a drain."""
    first: int = 2000
    """Jobs of the drain that finds out how many to measure with."""
    stamps: int = 200
    slow: int = 500
    killed: int = 200
    """Slow jobs done when the worker is killed."""
    recovery: float = 180.0
    """Seconds after the kill in which all are to be done."""
    hopeless: float = 10.0
    """Seconds without any progress after which a peer that acknowledges before the job is given up."""

    def ones(self, speed: Speed) -> int:
        """Jobs to enqueue one at a time."""
        return max(50, int(min(speed.enqueue * self.seconds / 2, self.most / 10)))

    def many(self, speed: Speed) -> int:
        """Jobs to drain."""
        return max(50, int(min(speed.drain * self.seconds, speed.fill * self.fill, self.most)))


SMOKE: Final = Sizes(
    seconds=0.3, fill=1.0, drain=2.0, most=2000, first=200, stamps=10, slow=200, killed=20, recovery=4.0, hopeless=1.0
)


@dataclass(frozen=True, slots=True)
class Enqueued:
    count: int
    timed: int
    """Of these, how many were timed."""
    seconds: float
    cpu: float
    """Of the producer."""
    server: float
    """Processor seconds of the server, meanwhile."""

    @property
    def rate(self) -> float:
        return self.timed / self.seconds


@dataclass(frozen=True, slots=True)
class Drained:
    count: int
    seconds: float
    cpu: float
    """Of the worker, from about its first job on."""
    server: float
    measured: int
    """The jobs that were done while the processor seconds were counted."""

    @property
    def rate(self) -> float:
        return self.count / self.seconds


@dataclass(frozen=True, slots=True)
class Killed:
    lost: int
    """Of the jobs, not run to an end in time."""
    twice: int
    """Run to an end more than once."""
    seconds: float | None
    """From the kill to the end of the last job, if they were all run."""


class Course:
    """A contestant in its space."""

    def __init__(self, one: Contestant, home: Home, space: Space, folder: Path) -> None:
        self.one, self.home, self.space, self.folder = one, home, space, folder
        self.ledger = Ledger(folder / "ledger")
        self._stamps = folder / "stamps"
        os.mkfifo(self._stamps)
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)},
            "PATH": f"{home.bin}:{os.environ['PATH']}",
            "PYTHONPATH": f"{FOLDER}:{HERE}",
            "BENCH_URL": space.url,
            "BENCH_LEDGER": str(self.ledger.folder),
            "BENCH_STAMPS": str(self._stamps),
        }
        self._workers = 0

    def produce(self, command: str, count: int = 0, seconds: float = PRODUCER) -> dict[str, Any]:
        """Run the producer; what it says. Raises Failed."""
        words = [str(self.home.python), str(HERE / "produce.py"), self.one.name, command, str(count)]
        try:
            done = subprocess.run(
                words, env=self._environ, cwd=self.folder, capture_output=True, text=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"{command} {count} took more than {seconds:g} s") from None
        if done.returncode:
            raise Failed(f"{command} {count}: {done.stderr[-1500:]}")
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return said

    @contextmanager
    def worker(self) -> Iterator[Worker]:
        """Its worker, which does not outlive the block."""
        places = {
            "python": str(self.home.python),
            "bin": str(self.home.bin),
            "produce": str(HERE / "produce.py"),
            "name": self.one.name,
            "url": self.space.url,
        }
        self._workers += 1
        log = self.folder / f"worker-{self._workers}.log"
        worker = Worker([word.format(**places) for word in self.one.worker], self._environ, log)
        try:
            yield worker
        finally:
            worker.stop()

    def enqueue(self, command: str, count: int) -> Enqueued:
        server = cpu(self.space.servers)
        said = self.produce(command, count)
        return Enqueued(count, said["count"], said["seconds"], said["cpu"], cpu(self.space.servers) - server)

    def drain(self, count: int, most: float, behind: float = BEHIND) -> Drained:
        """From the first job to the last, by the ledger; the rate so far if that takes more than `most` seconds."""
        self.space.analyze()
        with self.worker() as worker:
            if not until(lambda: self.ledger.progress().count > 0 or worker.ended, START) or worker.ended:
                raise Failed(f"no job was run:\n{worker.text()}")
            first, used, served = self.ledger.progress().count, cpu([worker.pid]), cpu(self.space.servers)
            if until(lambda: self.ledger.progress().count >= count, most, 0.02):
                time.sleep(behind)
            done = self.ledger.progress()
            used, served = cpu([worker.pid]) - used, cpu(self.space.servers) - served
        if done.count < 2:
            raise Failed(f"a single job was run in {most:g} s:\n{worker.text()}")
        return Drained(done.count, done.seconds, used, served, done.count - first)

    def idle(self, count: int) -> tuple[dict[str, list[float]], float]:
        """Seconds from the call and from the return of an enqueue to the start of its job, for each; and megabytes."""
        with self.worker() as worker:
            times = self.produce("stamps", count, PRODUCER + START)
            time.sleep(SETTLED)
            return times, memory(worker.pid)

    def interrupt(self, sizes: Sizes) -> float:
        """Kill a worker in the midst of its slow jobs; when that was."""
        self.produce("slow", sizes.slow)
        with self.worker() as worker:
            if not until(lambda: len(self.ledger.slow("ends")) >= sizes.killed, START, 0.002):
                raise Failed(f"{len(self.ledger.slow('ends'))} slow jobs were run:\n{worker.text()}")
            worker.kill()
        if len(self.ledger.slow("ends")) >= sizes.slow:
            raise Failed("all slow jobs were run before the worker could be killed")
        return time.monotonic()

    def recover(self, sizes: Sizes, killed: float, busy: Callable[[float], object]) -> Killed:
        """Start another worker and see what becomes of the jobs; `busy` is told for how many seconds nothing was
        done."""
        changed, before = time.monotonic(), 0
        with self.worker():
            while True:
                ends, now = self.ledger.slow("ends"), time.monotonic()
                if len(ends) != before:
                    before, changed = len(ends), now
                busy(now - changed)
                hopeless = self.one.acks == "before" and now - changed > sizes.hopeless
                if len(set(ends)) == sizes.slow or now - killed > sizes.recovery or hopeless:
                    break
                time.sleep(0.02)
            until(lambda: len(self.ledger.slow("ends")) == len(self.ledger.slow("starts")), 0.5)
        done = Counter(self.ledger.slow("ends"))
        lost = sizes.slow - len(done)
        return Killed(lost, sum(1 for times in done.values() if times > 1), None if lost else now - killed)


@contextmanager
def course(one: Contestant, home: Home, spaces: Spaces) -> Iterator[Course]:
    """An empty space, set up for it."""
    with spaces.space(one.broker) as space:
        course = Course(one, home, space, space.folder)
        course.produce("setup")
        yield course
