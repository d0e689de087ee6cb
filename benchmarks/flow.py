"""What compositions and unique keys cost: `python -m benchmarks.flow [sqlite|redis|postgresql|mysql|rabbitmq]...`.

For each broker, on a private server and in turns in one run: a plain drain of 10,000 jobs that do nothing, a group of
as many with a callback, each by a real worker process; then plain enqueues and unique ones, one at a time. RabbitMQ has
Redis beside it. Medians; the processor time is that of worker, server and producer together, without the start of the
worker: it is what tells on a machine that does other work as well.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks import __main__ as servers
from benchmarks import workload
from benchmarks.endtoend import drained, fill, worker
from outwork import default_app, group

ROUNDS = 3


class Cost(NamedTuple):
    """Of one round: how many jobs a second, and microseconds of processor time for each."""

    rate: float
    cpu: float


def processor_time() -> float:
    """Seconds that this process has used, and all below it, also those that have ended."""
    parents: dict[int, int] = {}
    spent: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(path.parent.name)
        parents[pid] = int(fields[1])
        spent[pid] = sum(map(int, fields[11:15]))
    mine = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return sum(spent.get(pid, 0) for pid in mine) / os.sysconf("SC_CLK_TCK")


def plain(url: str, count: int, report: Path, idle: float) -> Cost:
    fill(count)
    before = processor_time()
    _, seconds = drained(url, report)
    return Cost(count / seconds, 1e6 * (processor_time() - before - idle) / count)


def grouped(url: str, count: int, report: Path, idle: float) -> Cost:
    members = (workload.noop.bind(number, "hello") for number in range(count))
    result = group(members).then(workload.tally).enqueue()
    before = processor_time()
    _, seconds = drained(url, report)
    spent = processor_time() - before - idle
    assert result.get(10) == count
    return Cost(count / seconds, 1e6 * spent / count)


def one_by_one(enqueue: Callable[[int, str], object], count: int) -> Cost:
    before, began = processor_time(), time.perf_counter()
    for number in range(count):
        enqueue(number, "hello")
    seconds = time.perf_counter() - began
    return Cost(count / seconds, 1e6 * (processor_time() - before) / count)


def show(name: str, costs: list[Cost], beside: list[Cost] | None = None) -> None:
    """One line: medians, and those of the ratios, round by round."""
    line = f"{name:<26}{statistics.median(c.rate for c in costs):>9,.0f} jobs/s"
    line += f"{statistics.median(c.cpu for c in costs):>7,.0f} µs of CPU"
    if beside is not None:
        rates = statistics.median(one.rate / other.rate for one, other in zip(costs, beside, strict=True))
        cpus = statistics.median(other.cpu / one.cpu for one, other in zip(costs, beside, strict=True))
        line += f"   {rates:.0%} by the clock, {cpus:.0%} by CPU"
    print(line, flush=True)


def measure(url: str, count: int, rounds: int, folder: Path) -> None:
    report = folder / "report"
    plain(url, 1000, report, 0.0)  # so that what is opened once is open
    before = processor_time()
    worker(url, report, "--drain").wait(60)
    idle = processor_time() - before  # of a worker that starts, finds nothing and ends
    pairs = [(plain(url, count, report, idle), grouped(url, count, report, idle)) for _ in range(rounds)]
    show(f"drain of {count:,}", [one for one, _ in pairs])
    show("group with a callback", [other for _, other in pairs], [one for one, _ in pairs])
    few = count // 5
    singles = []
    for _ in range(rounds):
        singles.append((one_by_one(workload.noop.enqueue, few), one_by_one(workload.unique.enqueue, few)))
        worker(url, report, "--drain").wait(600)
    show("enqueue, one at a time", [one for one, _ in singles])
    show("unique enqueue", [other for _, other in singles], [one for one, _ in singles])


@contextmanager
def broker(name: str, folder: Path) -> Iterator[str]:
    """The URL of a private server; the store beside it is set in the environment, too."""
    with ExitStack() as stack:
        url = stack.enter_context(servers.BROKERS[name](folder))[-1]
        store = ""
        if name == "rabbitmq":
            below = folder / "store"
            below.mkdir()
            [store] = stack.enter_context(servers.BROKERS["redis"](below))
        os.environ["OUTWORK_STORE_URL"] = store
        default_app.override({"broker_url": url, "store_url": store})
        yield url
        default_app.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("brokers", nargs="*", choices=[*servers.BROKERS, []], help="all of them if none is named")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    for name in arguments.brokers or servers.BROKERS:
        with tempfile.TemporaryDirectory() as folder, broker(name, Path(folder)) as url:
            print(f"== {name}", flush=True)
            measure(url, arguments.jobs, arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()
