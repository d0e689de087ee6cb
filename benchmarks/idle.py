"""Workers that have nothing to do, one for each broker, all at once: python -m benchmarks.idle [BROKER...]

What they cost while nothing happens, and how long the first job after that silence waits. A round is one silence.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks import latency, workload
from benchmarks.endtoend import worker
from benchmarks.measuring import usage
from benchmarks.options import options
from benchmarks.results import Recorder, recording
from benchmarks.servers import BROKERS, Place, private
from outwork import Outwork, Task


class Idle(NamedTuple):
    """A worker, and a task that it runs at once."""

    subject: str
    pid: int
    stamps: latency.Stamps
    task: Task[[], float]


def started(place: Place, stack: ExitStack) -> Idle:
    folder = Path(stack.enter_context(TemporaryDirectory()))
    app = Outwork(place.url)
    stack.callback(app.close)
    task = app.task(name=workload.stamp.name, queue_name="bench")(workload.stamp.fn)
    start = partial(worker, place.url, folder / "report")
    process, stamps = stack.enter_context(latency.idle(lambda path: start(stamps=path), folder, task.enqueue))
    stamps.latencies(task.enqueue, 5)
    return Idle(place.subject, process.pid, stamps, task)


def measure(run: Recorder, workers: list[Idle], silence: int) -> None:
    before = [usage(one.pid)[0] for one in workers]
    began = time.monotonic()
    time.sleep(silence)
    after = [usage(one.pid) for one in workers]
    seconds = time.monotonic() - began
    for one, earlier, (cpu, memory) in zip(workers, before, after, strict=True):
        run.add(one.subject, "idle worker, CPU", "% of a core", 100 * (cpu - earlier) / seconds)
        run.add(one.subject, "idle worker, memory", "MB", memory)
    for one in workers:
        found = one.stamps.latency(one.task.enqueue)
        run.add(one.subject, "latency after a silence, from the call", "ms", found.called)
        run.add(one.subject, "latency after a silence, from the return", "ms", found.returned)
        run.fact(one.subject, "silence", f"{silence} s")


def main() -> None:
    given = options(__doc__, BROKERS, silence=(30, 2), rounds=(3, 1))
    with recording("idle", quick=given.quick) as run, ExitStack() as stack:
        places = [place for broker in given.brokers for place in stack.enter_context(private(broker, run))]
        workers = [started(place, stack) for place in places]
        for _ in range(given.rounds):
            measure(run, workers, given.silence)


if __name__ == "__main__":
    main()
