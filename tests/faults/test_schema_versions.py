"""Two releases on one set of tables: the workers of each go on beside those of the other."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec import Raw

from outwork import codec
from outwork.brokers import open_broker
from outwork.brokers.base import Claimed, Settlement, Share, Store
from outwork.brokers.sql.outbox import SQLStore
from outwork.errors import SchemaError
from outwork.ids import new_claim_id, new_job_id
from outwork.job import Answer, Done, Job, State
from support.mariadb_server import shared_mariadb
from support.postgres_server import shared_postgres
from support.schema_1 import OldWorker


class Place(NamedTuple):
    """A database: its URL, and how a plain connection to it is opened."""

    url: str
    connect: Callable[[], Any]
    locks_all: bool
    """Whether one open transaction keeps all others from writing."""

    def ask(self, sql: str) -> None:
        with closing(self.connect()) as connection:
            connection.cursor().execute(sql)
            connection.commit()


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A database without tables."""
    if request.param == "sqlite":
        path = tmp_path / "jobs.db"
        yield Place(f"sqlite:///{path}", lambda: sqlite3.connect(path, timeout=20), True)
        return
    if request.param == "postgresql":
        postgres = shared_postgres()
        name = "versions"
        postgres.ask(f"DROP DATABASE IF EXISTS {name}")
        postgres.ask(f"CREATE DATABASE {name}")
        yield Place(postgres.url(name), lambda: postgres.connect(name, autocommit=False), False)
        return
    mariadb = shared_mariadb()
    with closing(mariadb.connect("root", None)) as connection, connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS versions")
        cursor.execute("CREATE DATABASE versions")
        cursor.execute("GRANT ALL ON versions.* TO tester@'%'")

    def connect() -> Any:
        connection = mariadb.connect(database="versions")
        connection.autocommit(False)
        return connection

    yield Place(mariadb.url(database="versions"), connect, False)


@contextmanager
def at_version(place: Place, version: int | None) -> Iterator[SQLStore]:
    """A broker of this release, on tables that it has brought to a version first."""
    broker = open_broker(place.url)
    assert isinstance(broker, SQLStore)
    broker.migrate(version)
    with closing(broker):
        yield broker


def a_job() -> Job:
    return Job(v=1, id=new_job_id(), task="suite.task", args=Raw(b'{"x":1}'), queue="default")


def claim(broker: SQLStore, most: int = 100) -> list[Claimed]:
    return broker.exchange(new_claim_id(), [], [Share("default", most)], most, most, "worker-2").claimed


def settle(broker: SQLStore, claimed: Claimed) -> Answer:
    done = Settlement(claimed.id, claimed.claim_id, Done(b"1"))
    [answer] = broker.exchange(new_claim_id(), [done], [Share("default", 1)], 0, 0, "worker-2").answers
    return answer


def state(broker: Store, job_id: str) -> State | None:
    [record] = broker.get([job_id])
    return record.state if record else None


def test_workers_of_the_first_version_go_on(place: Place) -> None:
    with at_version(place, 1):
        pass
    before, meanwhile, after, ours = a_job(), a_job(), a_job(), a_job()
    with closing(place.connect()) as connection:
        old = OldWorker(connection)
        old.enqueue(before.id, codec.encode_job(before))
        old.enqueue(meanwhile.id, codec.encode_job(meanwhile))
        connection.commit()
        job_id, first = old.claim()
        assert job_id == before.id
        if place.locks_all:
            connection.commit()
        with at_version(place, 2):  # which does not wait for the transaction that is open
            connection.commit()
        with at_version(place, None) as new:  # a step that adds a column waits, for the moment that one takes
            assert new.pending() == []
            assert state(new, before.id) is State.RUNNING

            old.settle(first)  # of a job that it had in hand
            connection.commit()
            assert state(new, before.id) is State.SUCCESSFUL

            old.enqueue(after.id, codec.encode_job(after))
            connection.commit()
            taken = claim(new)
            assert [one.id for one in taken] == [meanwhile.id, after.id]
            assert [codec.decode_job(one.body).id for one in taken] == [meanwhile.id, after.id]
            assert [settle(new, one) for one in taken] == [Answer.DONE, Answer.DONE]

            assert new.enqueue([ours]) == [None]
            job_id, second = old.claim()
            assert job_id == ours.id
            old.settle(second)
            connection.commit()
            assert state(new, ours.id) is State.SUCCESSFUL
            assert [count.jobs for count in new.counts()] == [4]


def test_this_release_goes_on_while_the_next_one_takes_over(place: Place) -> None:
    with at_version(place, None) as running:
        newest = running._database.steps()[-1].number
        assert running.enqueue([a_job()]) == [None]
        place.ask(f"UPDATE outwork_meta SET value = '{newest + 1}' WHERE name = 'version'")
        place.ask(f"UPDATE outwork_meta SET value = '{newest}' WHERE name = 'oldest'")
        with closing(open_broker(place.url)) as fresh:  # one that connects, now
            assert isinstance(fresh, SQLStore)
            assert fresh.enqueue([a_job()]) == [None]
            assert fresh.pending() == []
            assert [settle(fresh, one) for one in claim(running)] == [Answer.DONE, Answer.DONE]


def test_a_release_that_the_next_one_cannot_bear_says_so(place: Place) -> None:
    with at_version(place, None) as running:
        running.enqueue([a_job()])
    place.ask("UPDATE outwork_meta SET value = '99' WHERE name IN ('version', 'oldest')")
    with closing(open_broker(place.url)) as broker, pytest.raises(SchemaError, match="Upgrade outwork"):
        broker.enqueue([a_job()])
