"""What compositions cost: python -m benchmarks.flow [BROKER...]

For each broker, in turns: a plain drain of jobs that do nothing, and a group of as many with a callback that takes
their results, each by a real worker process. RabbitMQ has Redis beside it. Processor time is that of worker, server and
producer together, without the start of the worker: it is what tells on a machine that does other work as well.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks import workload
from benchmarks.endtoend import default_broker, drained, fill, worker
from benchmarks.measuring import Cost, processor_time
from benchmarks.options import options
from benchmarks.results import Recorder, recording
from benchmarks.servers import BROKERS, Place, private
from outwork import group


class Flow:
    """The measurements of one broker."""

    def __init__(self, url: str, report: Path, jobs: int) -> None:
        self.url = url
        self.report = report
        self.jobs = jobs
        self.idle = 0.0
        """Seconds of processor time of a worker that starts, finds nothing and ends."""

    def warm_up(self) -> None:
        fill(1000)
        drained(self.url, self.report)  # so that what is opened once is open
        before = processor_time()
        self.empty()
        self.idle = processor_time() - before

    def empty(self) -> None:
        worker(self.url, self.report, "--drain").wait(600)

    def drain(self) -> Cost:
        before = processor_time()
        _, seconds = drained(self.url, self.report)
        return Cost(self.jobs / seconds, 1e6 * (processor_time() - before - self.idle) / self.jobs)

    def plain(self) -> Cost:
        fill(self.jobs)
        return self.drain()

    def group(self) -> Cost:
        members = (workload.noop.bind(number, "hello") for number in range(self.jobs))
        result = group(members).then(workload.tally).enqueue()
        cost = self.drain()
        assert result.get(10) == self.jobs
        return cost


def measure(run: Recorder, place: Place, flow: Flow, rounds: int) -> None:
    def add(quantity: str, cost: Cost) -> None:
        run.add(place.subject, quantity, "jobs/s", cost.rate)
        run.add(place.subject, f"{quantity}, CPU", "µs a job", cost.cpu)

    flow.warm_up()
    for _ in range(rounds):
        add("plain drain", flow.plain())
        add("group with a callback", flow.group())


def main() -> None:
    given = options(__doc__, BROKERS, jobs=(10_000, 1_000), rounds=(3, 1))
    with recording("flow", quick=given.quick) as run:
        for broker in given.brokers:
            with ExitStack() as stack:
                place = stack.enter_context(private(broker, run))[-1]
                store = stack.enter_context(private("redis", run))[0].url if broker == "rabbitmq" else ""
                os.environ["OUTWORK_STORE_URL"] = store
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                stack.enter_context(default_broker(place.url, store))
                run.fact(place.subject, "jobs", f"{given.jobs:,}")
                measure(run, place, Flow(place.url, folder / "report", given.jobs), given.rounds)


if __name__ == "__main__":
    main()
