"""Each broker with a real worker process, from `enqueue` to the result: python -m benchmarks.endtoend [BROKER...]

The jobs do nothing and have two arguments, a number and a short text; their results are kept. A drain has as many of
them as last some seconds, by a first and smaller drain, but no more than `--jobs`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import latency, workload
from benchmarks.measuring import rate
from benchmarks.options import options
from benchmarks.results import ROOT, Recorder, recording
from benchmarks.servers import BROKERS, Place, private
from outwork import default_app, enqueue_many

AFTER = "after the drains"


@contextmanager
def default_broker(url: str, store: str = "") -> Iterator[None]:
    """What this process enqueues goes there."""
    default_app.override({"broker_url": url, "store_url": store})
    try:
        yield
    finally:
        default_app.close()


def worker(url: str, report: Path, *words: str, stamps: Path | None = None) -> subprocess.Popen[bytes]:
    """A real worker, as an operator starts it."""
    env = {**os.environ, "OUTWORK_BROKER_URL": url, "BENCH_REPORT": str(report), "BENCH_STAMPS": str(stamps or "")}
    command = [sys.executable, "-m", "outwork", "worker", "benchmarks.workload", "--queues", "bench", *words]
    return subprocess.Popen(command, env=env, cwd=ROOT, stderr=subprocess.DEVNULL)


def reported(report: Path) -> tuple[int, float]:
    """How many jobs the workers ran, and seconds from the first start to the last end."""
    lines = [line.split() for line in report.read_text().splitlines()]
    seconds = max(float(last) for _, _, last in lines) - min(float(first) for _, first, _ in lines)
    return sum(int(count) for count, _, _ in lines), seconds


def drained(url: str, report: Path, *words: str) -> tuple[int, float]:
    """The same of a worker that runs until nothing is left."""
    report.unlink(missing_ok=True)
    worker(url, report, "--drain", *words).wait(600)
    return reported(report)


def fill(count: int) -> float:
    """Enqueue many; jobs a second."""

    def enqueue() -> None:
        for start in range(0, count, 50_000):
            enqueue_many(workload.noop.bind(number, "hello") for number in range(start, min(count, start + 50_000)))

    return rate(count, enqueue)


def one_by_one(count: int) -> float:
    """Enqueue one at a time; jobs a second."""

    def enqueue() -> None:
        for number in range(count):
            workload.noop.enqueue(number, "hello")

    return rate(count, enqueue)


def enough(url: str, report: Path, most: int) -> int:
    """How many jobs last a few seconds: a drain of few is slower, as its begin counts for more."""
    fill(most // 20)
    ran, seconds = drained(url, report)
    return min(most, int(4 * ran / seconds))


def measure(run: Recorder, place: Place, most: int, few: int, rounds: int, latencies: int) -> None:
    add = partial(run.add, place.subject)
    with tempfile.TemporaryDirectory() as folder, default_broker(place.url):
        report = Path(folder) / "report"

        def latencies_now(when: str) -> None:
            with latency.idle(
                lambda stamps: worker(place.url, report, stamps=stamps), Path(folder), workload.stamp.enqueue
            ) as (_, stamps):
                latency.record(run, place.subject, stamps.latencies(workload.stamp.enqueue, latencies), when)

        latencies_now("")
        jobs = enough(place.url, report, most)
        add("drain, jobs", "jobs", jobs)
        for _ in range(rounds):
            add("enqueue, many", "jobs/s", fill(jobs))
            ran, seconds = drained(place.url, report)
            add("drain, one process", "jobs/s", ran / seconds)
            fill(jobs)
            ran, seconds = drained(place.url, report, "--processes", "2")
            add("drain, two processes", "jobs/s", ran / seconds)
            add("enqueue, one at a time", "jobs/s", one_by_one(few))
            drained(place.url, report)
        enqueue_many(workload.nap.bind(0.05) for _ in range(few))
        seconds = drained(place.url, report, "--concurrency", "100")[1]
        add("async tasks of 50 ms, of the least time there is", "%", 100 * seconds / (few / 100 * 0.05))
        latencies_now(f"{AFTER}, ")


def main() -> None:
    given = options(__doc__, BROKERS, jobs=(100_000, 5_000), few=(2_000, 200), rounds=(3, 1), latencies=(300, 30))
    with recording("endtoend", quick=given.quick) as run:
        for broker in given.brokers:
            with private(broker, run) as places:
                for place in places:
                    measure(run, place, given.jobs, given.few, given.rounds, given.latencies)


if __name__ == "__main__":
    main()
