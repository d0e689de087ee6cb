"""A million jobs through PostgreSQL, with and without a transaction that pins a snapshot: python -m benchmarks.growth

After each tenth of them: the rate at which they were settled and claimed, without a worker, and what is left in the
tables. A pinned snapshot keeps vacuum from removing any row that died since.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Any

import psycopg

from benchmarks import direct
from benchmarks.drivers.postgresql import PostgreSQL
from benchmarks.options import options
from benchmarks.results import Recorder, recording
from benchmarks.servers import private
from outwork.brokers import open_broker
from outwork.brokers.base import Store
from support.waiting import until

PARTS = 10
ASK = """
    SELECT sum(n_dead_tup) FILTER (WHERE relname <> 'outwork_ended'),
        pg_relation_size('outwork_ready') + pg_indexes_size('outwork_ready')
        + pg_relation_size('outwork_running') + pg_indexes_size('outwork_running')
    FROM pg_stat_user_tables WHERE relname LIKE 'outwork%'"""


def measure(run: Recorder, subject: str, url: str, total: int, pinned: bool) -> None:
    part = total // PARTS
    with closing(PostgreSQL(url)) as driver:
        driver.empty()
    with ExitStack() as stack:
        asking = stack.enter_context(psycopg.connect(url, autocommit=True))
        if pinned:
            other = stack.enter_context(psycopg.connect(url))
            other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            other.execute("SELECT count(*) FROM outwork_meta")
        others = connections(asking)
        for number in range(1, PARTS + 1):
            with closing(open_broker(url)) as broker:
                for at in range(0, part, 10_000):
                    direct.enqueue(broker, direct.jobs(min(10_000, part - at)))
                rate = direct.drain(broker)
            # A server process reports what it did to its tables when it ends, and seldom before.
            until(lambda: connections(asking) == others, "the end of the broker's connections")
            found = asking.execute(ASK).fetchone()
            assert found is not None
            run.add(subject, "jobs so far", "jobs", number * part)
            run.add(subject, "exchange", "jobs/s", rate)
            run.add(subject, "dead rows", "rows", found[0])
            run.add(subject, "hot tables", "MB", found[1] / 1e6)


def connections(asking: psycopg.Connection[Any]) -> int:
    found = asking.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'").fetchone()
    assert found is not None
    return int(found[0])


def main() -> None:
    given = options(__doc__, jobs=(1_000_000, 20_000))
    with recording("growth", quick=given.quick) as run, private("postgresql", run) as [place]:
        with closing(open_broker(place.url)) as broker:
            assert isinstance(broker, Store)
            broker.counts()  # makes the tables
        measure(run, "PostgreSQL", place.url, given.jobs, pinned=False)
        measure(run, "PostgreSQL, beside a pinned snapshot", place.url, given.jobs, pinned=True)


if __name__ == "__main__":
    main()
