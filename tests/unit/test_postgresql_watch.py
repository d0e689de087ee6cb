"""A worker says so when somebody's old snapshot keeps the server from vacuuming."""

from __future__ import annotations

import logging
from contextlib import closing

import pytest

from outwork.brokers.sql.postgresql import PostgreSQLBroker
from outwork.brokers.sql.postgresql.server import PostgreSQLServer
from outwork.brokers.sql.postgresql.watch import Lookout
from outwork.job import Terms
from support.postgres_server import shared_postgres


def test_an_old_snapshot_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    server = shared_postgres()
    server.empty()
    broker = PostgreSQLBroker.from_url(server.url(), Terms())
    database = broker._database
    assert isinstance(database, PostgreSQLServer)
    database.lookout = Lookout(broker.url, old=0.0, every=0.0)
    with caplog.at_level(logging.WARNING, "outwork.postgresql"), closing(broker):
        broker.tend(None, rescue=False)
        assert caplog.messages == []
        with closing(server.connect(autocommit=False)) as reader:
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            [(pid,)] = reader.execute("SELECT pg_backend_pid()").fetchall()
            for _ in range(2):
                broker.tend(None, rescue=False)
            database.lookout = Lookout(broker.url, old=3600.0, every=0.0)
            broker.tend(None, rescue=False)
    [said] = caplog.messages
    assert f"the transaction of process {pid}" in said
    assert "has kept its snapshot for 0 minutes" in said
    assert "pg_terminate_backend" in said


def test_it_does_not_look_all_the_time() -> None:
    assert not Lookout("postgresql://").due
    assert Lookout("postgresql://", every=0.0).due
