"""Every broker does what the in-memory one does, whatever happens to it in whatever order."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

from outwork.brokers.base import Broker
from outwork.brokers.memory import MemoryBroker
from outwork.brokers.sql.mysql import MySQLBroker
from outwork.brokers.sql.postgresql import PostgreSQLBroker
from outwork.brokers.sql.sqlite import SQLiteBroker
from outwork.job import Terms
from outwork.testing.bound_machine import BoundMachine
from support.mariadb_server import shared_mariadb
from support.postgres_server import shared_postgres


class MemoryMachine(BoundMachine):
    """Against itself: what is checked are the moves and the invariants."""

    def make_broker(self, terms: Terms) -> Broker:
        return MemoryBroker("memory:", terms)


class SQLiteMachine(BoundMachine):
    def make_broker(self, terms: Terms) -> Broker:
        self.directory = TemporaryDirectory()
        return SQLiteBroker.from_url(f"sqlite:///{Path(self.directory.name) / 'tasks.db'}", terms)

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


class PostgreSQLMachine(BoundMachine):
    def make_broker(self, terms: Terms) -> Broker:
        server = shared_postgres()
        server.empty()
        return PostgreSQLBroker.from_url(server.url(), terms)


class MySQLMachine(BoundMachine):
    def make_broker(self, terms: Terms) -> Broker:
        server = shared_mariadb()
        server.empty()
        return MySQLBroker.from_url(server.url(), terms)


# Each step of a server waits for its disk, several times; what is wrong in all of them shows on SQLite.
for machine in (PostgreSQLMachine, MySQLMachine):
    machine.TestCase.settings = settings(max_examples=max(1, settings().max_examples // 4))

# What fails is made small before it is shown, which takes longer than a test usually may.
TestMemory = pytest.mark.timeout(3600)(MemoryMachine.TestCase)
TestSQLite = pytest.mark.timeout(3600)(SQLiteMachine.TestCase)
TestMySQL = pytest.mark.timeout(3600)(MySQLMachine.TestCase)
TestPostgreSQL = pytest.mark.timeout(3600)(PostgreSQLMachine.TestCase)
