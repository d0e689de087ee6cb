"""Enqueues of jobs that are bound, beside plain ones, turn and turn about: python -m benchmarks.bound [BROKER...]

Every job has a key of its own, as it mostly is. `--clients` threads enqueue one at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

from msgspec.structs import replace

from benchmarks import direct
from benchmarks.measuring import rate
from benchmarks.options import options
from benchmarks.results import Recorder, recording
from benchmarks.servers import WITHOUT_RABBITMQ, Place, private
from outwork.brokers import open_broker
from outwork.brokers.base import Broker
from outwork.job import Job
from outwork.ties import Gate, Ties, Unique

ONES: Final = 100
"""Enqueues of one job in a round."""
KINDS: Final[dict[str, Callable[[str], Ties | None]]] = {
    "plain": lambda key: None,
    "unique": lambda key: Ties(unique=Unique(key)),
    "fair key": lambda key: Ties(fair=key[-3:]),
    "limit": lambda key: Ties(gates=(Gate(key, most=1),)),
}


def jobs(kind: str, count: int) -> list[Job]:
    return [replace(job, ties=KINDS[kind](f"bench:{job.id}")) for job in direct.jobs(count)]


def one_at_a_time(broker: Broker, kind: str, clients: ThreadPoolExecutor) -> float:
    some = jobs(kind, ONES)
    return rate(ONES, lambda: list(clients.map(lambda job: broker.enqueue([job]), some)))


def measure(run: Recorder, place: Place, rounds: int, clients: int) -> None:
    with closing(open_broker(place.url)) as broker, ThreadPoolExecutor(clients) as pool:
        for number in range(rounds + 2):
            for kind in KINDS:
                one, bulk = one_at_a_time(broker, kind, pool), direct.enqueue(broker, jobs(kind, direct.BULK))
                if number > 1:  # the first two warm up
                    run.add(place.subject, f"one at a time, {kind}", "jobs/s", one)
                    run.add(place.subject, f"1,000 at once, {kind}", "jobs/s", bulk)


def main() -> None:
    given = options(__doc__, WITHOUT_RABBITMQ, rounds=(10, 2), clients=(1, 1))
    with recording("bound", quick=given.quick) as run:
        for broker in given.brokers:
            with private(broker, run) as places:
                for place in places:
                    measure(run, place, given.rounds, given.clients)


if __name__ == "__main__":
    main()
