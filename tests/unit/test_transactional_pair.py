"""A job written by the caller's connection, with a transport beside the database: it is sent after the commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from outwork import Concurrency, Outwork
from outwork.brokers.courier import Courier
from outwork.brokers.memory import MemoryBroker
from outwork.brokers.memory_outbox import MemoryStore
from outwork.brokers.paired import PairedBroker
from outwork.brokers.sql.sqlite import SQLiteBroker
from outwork.errors import BrokerUnavailable, Unsupported
from outwork.job import State
from support.inside import working
from support.waiting import until


def make_app(broker: PairedBroker) -> tuple[Outwork, list[str], Any]:
    app = Outwork(broker=broker)
    ran: list[str] = []

    @app.task(name="note")
    def note(what: str) -> None:
        ran.append(what)

    return app, ran, note


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PairedBroker]:
    with closing(PairedBroker(MemoryBroker(), SQLiteBroker(tmp_path / "shop.db"))) as pair:
        yield pair


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "shop.db", isolation_level=None)) as connection:
        yield connection


def test_what_is_committed_is_sent_and_run(pair: PairedBroker, connection: sqlite3.Connection) -> None:
    assert pair.capabilities.transactional
    app, ran, note = make_app(pair)

    @app.task(name="limited", limit=Concurrency(1))
    def limited(what: str) -> None:
        ran.append(what)

    app.broker.queues()  # makes the tables
    with working(app):
        connection.execute("BEGIN IMMEDIATE")
        results = app.enqueue_many([note.bind("one"), note.bind("two"), limited.bind("three")], connection=connection)
        assert ran == []
        connection.execute("COMMIT")
        until(lambda: sorted(ran) == ["one", "three", "two"], "their runs, without any keeper")
        for result in results:
            result.get(timeout=60)


def test_what_is_rolled_back_never_was(pair: PairedBroker, connection: sqlite3.Connection) -> None:
    app, ran, note = make_app(pair)
    app.broker.queues()
    with working(app):
        connection.execute("BEGIN IMMEDIATE")
        gone = note.using(connection=connection).enqueue("gone")
        connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        note.using(connection=connection).enqueue("kept")
        connection.execute("COMMIT")
        until(lambda: ran == ["kept"], "the run of what was committed")
    assert pair.get([gone.id]) == [None]


def test_a_keeper_sends_what_the_process_did_not_live_to_send(
    pair: PairedBroker, connection: sqlite3.Connection
) -> None:
    app, _, note = make_app(pair)
    app.broker.queues()
    pair._courier.close()  # it dies with the commit
    connection.execute("BEGIN IMMEDIATE")
    result = note.using(connection=connection).enqueue("late")
    connection.execute("COMMIT")
    assert not pair._transport.wait(["default"], 0.0)
    pair.clock_offset += 31
    pair.tend(None, rescue=False)
    assert pair._transport.wait(["default"], 0.0)
    [record] = pair.get([result.id])
    assert record is not None
    assert record.state is State.READY


def test_a_store_that_joins_no_transaction_says_so(connection: sqlite3.Connection) -> None:
    _, _, note = make_app(PairedBroker(MemoryBroker(), MemoryStore()))
    with pytest.raises(Unsupported, match="store_url"):
        note.using(connection=connection).enqueue("nowhere")


def test_a_courier_looks_until_all_are_there() -> None:
    looked: list[set[str]] = []
    done = Event()

    def send(ids: Any) -> set[str]:
        looked.append(set(ids))
        if len(looked) == 1:
            raise BrokerUnavailable("away")
        if len(looked) == 2:
            return {"a"}
        done.set()
        return set(ids)

    courier = Courier(send)
    courier.expect(["a", "b"])
    assert done.wait(60)
    until(lambda: courier._thread is None, "its rest")
    assert looked == [{"a", "b"}, {"a", "b"}, {"b"}]
    done.clear()
    courier.expect(["c"])
    assert done.wait(60)
    courier.close()
    courier.expect(["d"])
    assert looked[-1] == {"c"}
