"""Each broker beside its bare driver, turn and turn about in one run: python -m benchmarks.drivers [BROKER...]

The bare driver writes what the broker writes. What the verbs of the broker can do is measured without a worker, on an
empty broker and beside so many finished and so many waiting jobs (`--crowd`, 0 for none).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from benchmarks import direct
from benchmarks.drivers.base import Driver
from benchmarks.drivers.mysql import MySQL
from benchmarks.drivers.postgresql import PostgreSQL
from benchmarks.drivers.rabbitmq import RabbitMQ
from benchmarks.drivers.redis import Redis
from benchmarks.drivers.sqlite import SQLite
from benchmarks.measuring import milliseconds, rate
from benchmarks.options import options
from benchmarks.results import Recorder, recording
from benchmarks.servers import Place, private
from outwork.brokers import open_broker
from outwork.brokers.base import Broker, Store

DRIVERS: dict[str, type[Driver]] = {
    "sqlite": SQLite,
    "redis": Redis,
    "postgresql": PostgreSQL,
    "mysql": MySQL,
    "rabbitmq": RabbitMQ,
}
CROWD = "beside a crowd"


@contextmanager
def emptied(url: str, driver: Driver) -> Iterator[Broker]:
    """A broker in which there is nothing, connected."""
    driver.empty()
    with closing(open_broker(url)) as broker:
        broker.now()
        yield broker


def beside(run: Recorder, place: Place, driver: Driver, count: int) -> None:
    """One round of what the driver does and what the broker does, each on an empty broker."""
    few = count // 30
    rows = driver.rows(direct.jobs(count))
    measured: dict[str, Callable[[Broker], float | None]] = {
        "bare driver, 1,000 at once": lambda _: rate(count, lambda: driver.many(rows)),
        "enqueue, 1,000 at once": lambda broker: direct.enqueue(broker, direct.jobs(count)),
        "bare driver, one at a time": lambda _: rate(few, lambda: driver.one_by_one(rows[:few])),
        "enqueue, one at a time": lambda broker: direct.enqueue(broker, direct.jobs(few), 1),
        "enqueue, eight threads": lambda broker: direct.enqueue_by_threads(broker, direct.jobs(2 * few), 8),
        "bare driver, consume": lambda _: driver.consume(rows),
    }
    if driver.exchanges:
        measured["exchange"] = lambda broker: direct.enqueue(broker, direct.jobs(count)) and direct.drain(broker)
        measured["extend"] = direct.extend
    for quantity, measure in measured.items():
        with emptied(place.url, driver) as broker:
            found = measure(broker)
        if found is not None:
            run.add(place.subject, quantity, "jobs/s", found)


def in_a_crowd(run: Recorder, place: Place, driver: Driver, count: int, crowd: int, rounds: int) -> None:
    """The same of the broker, beside so many finished and so many waiting jobs."""
    run.fact(place.subject, "crowd", f"{crowd:,}")
    with emptied(place.url, driver) as broker:
        for quantity, weight in driver.crowd(broker, crowd).items():
            run.add(place.subject, quantity, "B", weight)
        for _ in range(rounds):
            run.add(place.subject, f"enqueue, {CROWD}", "jobs/s", direct.enqueue(broker, direct.jobs(count)))
            run.add(place.subject, f"exchange, {CROWD}", "jobs/s", direct.drain(broker, count))
        assert isinstance(broker, Store)
        run.add(place.subject, f"counts, {CROWD}", "ms", milliseconds(broker.counts))


def main() -> None:
    given = options(__doc__, DRIVERS, jobs=(30_000, 3_000), rounds=(3, 1), crowd=(1_000_000, 10_000))
    with recording("drivers", quick=given.quick) as run:
        for broker in given.brokers:
            with private(broker, run) as places:
                for place in places:
                    with closing(open_broker(place.url)) as first:
                        first.enqueue(direct.jobs(1))  # makes the tables, or the queue
                    with closing(DRIVERS[broker](place.url)) as driver:
                        for _ in range(given.rounds):
                            beside(run, place, driver, given.jobs)
                        if driver.exchanges and given.crowd:
                            in_a_crowd(run, place, driver, given.jobs, given.crowd, given.rounds)


if __name__ == "__main__":
    main()
