"""A job written by the caller's connection lives and dies with the caller's transaction, with a worker running."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from outwork import Concurrency, Outwork
from outwork.brokers.base import Claimed, Filter, Settlement
from outwork.errors import BrokerRefused, Unsupported
from outwork.ids import new_claim_id
from outwork.job import Done, State
from outwork.testing.conformance.rig import shares
from support.inside import working
from support.mariadb_server import shared_mariadb
from support.postgres_server import shared_postgres
from support.waiting import until

pytest.importorskip("sqlalchemy")
pytest.importorskip("aiosqlite")
pytest.importorskip("greenlet")

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

ran: list[str] = []


def make_app(url: str) -> Outwork:
    app = Outwork(url)

    @app.task(name="note")
    def note(what: str) -> str:
        ran.append(what)
        return what

    return app


class Place:
    """A broker, its tables empty, and the ways to its database."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        if kind == "sqlite":
            self.path = folder / "jobs.db"
            self.url = f"sqlite:///{self.path}"
            self.engine_url = self.url
            self.async_engine_url = f"sqlite+aiosqlite:///{self.path}"
        elif kind == "postgresql":
            server = shared_postgres()
            server.empty()
            self.url = server.url()
            self.connect: Callable[..., Any] = server.connect
            self.engine_url = self.url.replace("postgresql:", "postgresql+psycopg:")
            self.async_engine_url = self.engine_url
        else:
            maria = shared_mariadb()
            maria.empty()
            self.url = maria.url()
            self.connect = lambda: maria.connect()
            self.engine_url = self.url.replace("mysql:", "mysql+pymysql:")
            self.async_engine_url = ""


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(request.param, tmp_path)


@pytest.fixture
def app(place: Place) -> Iterator[Outwork]:
    ran.clear()
    app = make_app(place.url)
    app.broker.queues()  # makes the tables
    with working(app):
        yield app
    app.close()


# ---- the kinds of connection: each yields (connection, commit, rollback) --------------------------------------------


@contextmanager
def of_the_driver(place: Place) -> Iterator[Any]:
    if place.kind == "sqlite":
        connection: Any = sqlite3.connect(place.path)
    elif place.kind == "postgresql":
        connection = place.connect(autocommit=False)
    else:
        connection = place.connect()
        connection.autocommit(False)
    with closing(connection):
        yield connection


@contextmanager
def of_sqlalchemy(place: Place) -> Iterator[Any]:
    engine = create_engine(place.engine_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@contextmanager
def session_of_sqlalchemy(place: Place) -> Iterator[Any]:
    engine = create_engine(place.engine_url)
    with Session(engine) as session:
        yield session
    engine.dispose()


SYNC = [of_the_driver, of_sqlalchemy, session_of_sqlalchemy]


def proves(app: Outwork, expected: list[str]) -> None:
    """Everything that was committed has run once, and there is nothing else."""
    until(lambda: len(ran) >= len(expected), "the end of the committed jobs")
    marker = app.tasks["note"].enqueue("marker")
    assert marker.get(timeout=60) == "marker"
    assert sorted(ran) == sorted([*expected, "marker"])
    records = app.store.find(Filter(), limit=1000).records
    assert len(records) == len(expected) + 1


@pytest.mark.parametrize("way", SYNC)
def test_a_job_follows_its_transaction(app: Outwork, place: Place, way: Any) -> None:
    note = app.tasks["note"]
    with way(place) as connection:
        lost = note.using(connection=connection).enqueue("rolled back")
        connection.rollback()
        assert app.store.get([lost.id]) == [None]
        kept = note.using(connection=connection).enqueue("committed")
        assert app.store.get([kept.id]) == [None]
        connection.commit()
        assert kept.get(timeout=60) == "committed"
    proves(app, ["committed"])


@pytest.mark.parametrize("way", SYNC)
def test_many_jobs_follow_their_transaction(app: Outwork, place: Place, way: Any) -> None:
    note = app.tasks["note"]
    with way(place) as connection:
        app.enqueue_many([note.bind(f"lost-{n}") for n in range(250)], connection=connection)
        connection.rollback()
        results = app.enqueue_many([note.bind(f"kept-{n}") for n in range(250)], connection=connection)
        later = note.using(connection=connection, run_after=0.2).enqueue("later")
        connection.commit()
    assert len({result.id for result in results}) == 250
    assert later.get(timeout=60) == "later"
    proves(app, [*(f"kept-{n}" for n in range(250)), "later"])


def test_without_a_transaction_it_is_written_at_once(app: Outwork, place: Place) -> None:
    if place.kind == "sqlite":
        connection: Any = sqlite3.connect(place.path, isolation_level=None)
    else:
        connection = place.connect()
    with closing(connection):
        assert app.tasks["note"].using(connection=connection).enqueue("at once").get(timeout=60) == "at once"
    proves(app, ["at once"])


@pytest.mark.parametrize("way", [of_the_driver, of_sqlalchemy])
def test_jobs_with_a_limit_follow_their_transaction_and_keep_it(place: Place, way: Any) -> None:
    app = make_app(place.url)
    note, broker = app.tasks["note"], app.broker
    broker.queues()

    @app.task(name="one", limit=Concurrency(1))
    def one(what: str) -> None: ...

    def claim(*outcomes: Settlement) -> list[Claimed]:
        return broker.exchange(new_claim_id(), outcomes, shares("default"), 10, 10, "worker-1").claimed

    with way(place) as connection:
        one.using(connection=connection).enqueue("rolled back")
        connection.rollback()
        calls = [note.bind("free"), one.bind("first"), one.bind("second"), note.bind("free, too")]
        free, first, second, free_too = app.enqueue_many(calls, connection=connection)
        later = one.using(connection=connection, run_after=3600).enqueue("later")
        assert app.store.get([first.id, later.id]) == [None, None]
        connection.commit()
    claimed = {job.id: job for job in claim()}
    assert claimed.keys() == {free.id, first.id, free_too.id}
    states = {record.id: record.state for record in app.store.find(Filter(), limit=10).records}
    assert (states[second.id], states[later.id], len(states)) == (State.HELD, State.SCHEDULED, 5)
    assert [job.id for job in claim(Settlement(first.id, claimed[first.id].claim_id, Done(b"1")))] == [second.id]
    app.close()


def test_what_takes_locks_is_refused(place: Place) -> None:
    app = make_app(place.url)
    app.broker.queues()

    @app.task(name="alone", unique=True)
    def alone() -> None: ...

    refused = pytest.raises(Unsupported, match="locks which the caller's transaction would hold")
    with of_the_driver(place) as connection, refused:
        alone.using(connection=connection).enqueue()
    app.close()


# ---- asynchronous ones ----------------------------------------------------------------------------------------------


async def through_psycopg(place: Place, use: Any) -> None:
    import psycopg

    connection = await psycopg.AsyncConnection.connect(place.url)
    async with connection:
        await use(connection)


async def through_async_connection(place: Place, use: Any) -> None:
    engine = create_async_engine(place.async_engine_url)
    async with engine.connect() as connection:
        await use(connection)
    await engine.dispose()


async def through_async_session(place: Place, use: Any) -> None:
    engine = create_async_engine(place.async_engine_url)
    async with AsyncSession(engine) as session:
        await use(session)
    await engine.dispose()


async def through_asyncpg(place: Place, use: Any) -> None:
    engine = create_async_engine(place.async_engine_url.replace("+psycopg:", "+asyncpg:"))
    async with engine.connect() as connection:
        await use(connection)
    await engine.dispose()


@pytest.mark.parametrize("place", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("way", [through_psycopg, through_async_connection, through_async_session, through_asyncpg])
def test_a_job_follows_an_asynchronous_transaction(app: Outwork, place: Place, way: Any) -> None:
    if place.kind == "sqlite" and way in (through_psycopg, through_asyncpg):
        pytest.skip("a driver of PostgreSQL's")
    note = app.tasks["note"]

    async def use(connection: Any) -> None:
        lost = await note.using(connection=connection).aenqueue("rolled back")
        await connection.rollback()
        assert app.store.get([lost.id]) == [None]
        kept = await note.using(connection=connection).aenqueue("committed")
        await app.aenqueue_many([note.bind(f"many-{n}") for n in range(120)], connection=connection)
        assert app.store.get([kept.id]) == [None]
        await connection.commit()
        assert await kept.aget(timeout=60) == "committed"

    asyncio.run(way(place, use))
    proves(app, ["committed", *(f"many-{n}" for n in range(120))])


# ---- connections that lead elsewhere --------------------------------------------------------------------------------


def test_a_connection_to_another_database_is_refused(app: Outwork, place: Place, tmp_path: Path) -> None:
    note = app.tasks["note"]
    if place.kind == "sqlite":
        connection: Any = sqlite3.connect(tmp_path / "other.db")
    elif place.kind == "postgresql":
        shared_postgres().ask("DROP DATABASE IF EXISTS elsewhere")
        shared_postgres().ask("CREATE DATABASE elsewhere")
        connection = shared_postgres().connect("elsewhere", autocommit=False)
    else:
        maria = shared_mariadb()
        maria.ask("CREATE DATABASE IF NOT EXISTS elsewhere", user="root", database=None)
        connection = maria.connect("root", "elsewhere")
    with closing(connection):
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE IF NOT EXISTS mine (x INT)")
        with pytest.raises(BrokerRefused, match="without the tables of"):
            note.using(connection=connection).enqueue("x")
        cursor.execute("INSERT INTO mine VALUES (1)")  # the caller's transaction goes on
        connection.commit()
    proves(app, [])


def test_tables_of_another_broker_are_refused(app: Outwork, place: Place, tmp_path: Path) -> None:
    if place.kind != "sqlite":
        pytest.skip("one copy is enough")
    other = make_app(f"sqlite:///{tmp_path}/copy.db")
    other.broker.queues()
    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection, pytest.raises(BrokerRefused, match="a copy"):
        app.tasks["note"].using(connection=connection).enqueue("x")
    other.close()


def test_what_is_no_connection_is_refused(app: Outwork, place: Place) -> None:
    for wrong in (object(), 7, "postgresql://"):
        with pytest.raises(Unsupported, match="takes a connection of psycopg"):
            app.tasks["note"].using(connection=wrong).enqueue("x")


def test_a_connection_of_another_kind_is_refused(app: Outwork, place: Place) -> None:
    with closing(sqlite3.connect(":memory:")) as lite:
        if place.kind != "sqlite":
            with pytest.raises(Unsupported, match="no transaction reaches both"):
                app.tasks["note"].using(connection=lite).enqueue("x")


@pytest.mark.parametrize("url", ["memory:", "immediate:"])
def test_a_broker_elsewhere_cannot_join(url: str) -> None:
    app = make_app(url)
    with closing(sqlite3.connect(":memory:")) as lite, pytest.raises(Unsupported, match="Enqueue after the commit"):
        app.tasks["note"].using(connection=lite).enqueue("x")
    app.close()


def test_a_process_that_begins_inside_a_transaction_can_enqueue(tmp_path: Path) -> None:
    """On SQLite, its first look at the broker's file must not wait for the transaction of its own; also after a reboot,
    when there is something to be written."""
    url = f"sqlite:///{tmp_path}/tasks.db"
    first = make_app(url)
    first.broker.queues()
    first.close()
    with closing(sqlite3.connect(tmp_path / "tasks.db")) as connection:
        connection.execute("UPDATE outwork_meta SET value = 'an earlier one' WHERE name = 'boot'")
        connection.commit()
        connection.execute("INSERT INTO outwork_meta VALUES ('mine', '1')")
        app = make_app(url)
        job = app.tasks["note"].using(connection=connection).enqueue("within")
        connection.commit()
    assert app.store.get([job.id])[0] is not None
    app.close()
