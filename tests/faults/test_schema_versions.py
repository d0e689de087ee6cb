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
from outwork.ties import Gate, Ties
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


def a_job(ties: Ties | None = None) -> Job:
    return Job(v=1, id=new_job_id(), task="suite.task", args=Raw(b'{"x":1}'), queue="default", ties=ties)


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


def test_workers_of_the_first_versions_leave_bound_jobs_alone(place: Place) -> None:
    """They claim past them, whatever comes first, and a job that waits for another one waits for this release."""
    one_at_a_time = Ties(gates=(Gate("c:one", most=1),))
    first, second, free = a_job(one_at_a_time), a_job(one_at_a_time), a_job()
    with at_version(place, None) as new, closing(place.connect()) as connection:
        assert new.enqueue([first, second, free]) == [None, None, None]
        old = OldWorker(connection)
        job_id, claimed = old.claim()
        assert job_id == free.id
        old.settle(claimed)
        connection.commit()
        assert [state(new, one.id) for one in (first, second, free)] == [State.READY, State.READY, State.SUCCESSFUL]
        for job in (first, second):
            [taken] = claim(new)
            assert taken.id == job.id
            assert settle(new, taken) is Answer.DONE


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_what_the_release_before_deletes_is_in_nobodys_way(place: Place) -> None:
    one_at_a_time = Ties(gates=(Gate("c:one", most=1),))
    first, held, last, ready = [*(a_job(one_at_a_time) for _ in range(3)), a_job(Ties(awaits=1, within=1.0))]
    with at_version(place, None) as new, closing(place.connect()) as connection:
        assert new.enqueue([first, held, last, ready]) == [None] * 4
        [taken] = claim(new)
        assert [state(new, one.id) for one in (held, last, ready)] == [State.HELD] * 3
        new.clock_offset += 2  # what it waits for never came: it is ready
        new.tend(None, rescue=False)
        assert state(new, ready.id) is State.READY
        old = OldWorker(connection)
        for job in (held, ready):
            old.delete(job.id)
        connection.commit()
        assert settle(new, taken) is Answer.DONE
        [taken] = claim(new)
        assert taken.id == last.id
        assert settle(new, taken) is Answer.DONE
        assert claim(new) == []
        [(left,)] = connection.execute("SELECT count(*) FROM outwork_bound WHERE place <> 'HELD'").fetchall()
        assert left == 0


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
