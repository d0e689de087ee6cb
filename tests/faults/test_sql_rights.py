"""What docs/production.md says that a database user needs is enough, where another one has made the tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from outwork.brokers import open_broker
from outwork.brokers.base import Broker, Claim, Filter, Settlement, Store
from outwork.errors import BrokerRefused
from outwork.ids import new_claim_id
from outwork.job import Answer, Done, State
from outwork.testing.conformance import new_job, shares
from support.mariadb_server import MariaDBServer, shared_mariadb
from support.postgres_server import PostgresServer, shared_postgres

PAGE = Path(__file__).parents[2] / "docs" / "production.md"
RIGHTS = "SELECT, INSERT, UPDATE, DELETE"


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    server = shared_postgres()
    server.empty()
    server.ask("CREATE ROLE shop LOGIN PASSWORD 'secret'")
    yield server
    server.ask("DROP OWNED BY shop")
    server.ask("DROP ROLE shop")


@pytest.fixture
def mariadb() -> Iterator[MariaDBServer]:
    server = shared_mariadb()
    server.empty()
    server.ask("CREATE USER shop IDENTIFIED BY 'secret'", user="root")
    yield server
    server.ask("DROP USER shop", user="root")


def migrated(url: str) -> None:
    with closing(open_broker(url)) as owner:
        owner.migrate()  # type: ignore[attr-defined]


def of_shop(url: str) -> str:
    return re.sub(r"//[^@/]*@", "//shop:secret@", url)


def test_the_page_says_so() -> None:
    assert PAGE.read_text().count(f"GRANT {RIGHTS}") == 2


def test_postgresql(postgres: PostgresServer) -> None:
    migrated(postgres.url())
    tables = [name for (name,) in postgres.ask("SELECT tablename FROM pg_tables WHERE tablename LIKE 'outwork%'")]
    postgres.ask(f"GRANT {RIGHTS} ON {', '.join(tables)} TO shop")
    url = of_shop(postgres.url(migrate="false"))
    live(url)
    postgres.ask("REVOKE DELETE ON outwork_ready FROM shop")
    refused(url)


def test_mariadb(mariadb: MariaDBServer) -> None:
    migrated(mariadb.url())
    mariadb.ask(f"GRANT {RIGHTS} ON jobs.* TO shop", user="root")
    url = of_shop(mariadb.url(migrate="false"))
    live(url)
    mariadb.ask("REVOKE DELETE ON jobs.* FROM shop", user="root")
    refused(url)


def live(url: str) -> None:
    """The life of some jobs, by the verbs that write, wake and look."""
    with closing(open_broker(url)) as broker, closing(open_broker(url)) as other:
        assert isinstance(broker, Store)
        wakes: list[bool] = []
        listening = Thread(target=lambda: wakes.append(broker.wait(["default"], 600.0)), daemon=True)
        listening.start()
        jobs = [new_job() for _ in range(6)]
        assert other.enqueue(jobs) == [None] * 6
        listening.join(60)
        assert wakes == [True]
        claimed = broker.exchange(new_claim_id(), [], shares("default"), 2, 2, "w").claimed
        assert broker.extend([Claim(job.id, job.claim_id) for job in claimed]).lost == frozenset()
        settled = [Settlement(job.id, job.claim_id, Done(b"1")) for job in claimed]
        assert broker.exchange(new_claim_id(), settled, [], 0, 0, "w").answers == [Answer.DONE] * 2
        waiting = [job.id for job in jobs if job.id not in {one.id for one in claimed}]
        assert broker.cancel(waiting[:2]) == [State.CANCELLED] * 2
        assert broker.retry(waiting[:1]) == [State.READY]
        assert broker.delete(waiting[-1:]) == [State.READY]
        broker.pause("task:suite.task")
        broker.resume("task:suite.task")
        assert broker.tick("nightly", None, 1.0, [new_job()])
        broker.tend(None, rescue=True)
        assert len(broker.find(Filter()).records) == 6
        assert broker.prune(Filter(), older_than=-1.0, failed_older_than=-1.0) == 3


def refused(url: str) -> None:
    """The test can fail: with less it does not work."""
    with closing(open_broker(url)) as broker:
        assert isinstance(broker, Broker)
        with pytest.raises(BrokerRefused):
            broker.exchange(new_claim_id(), [], shares("default"), 9, 9, "w")
