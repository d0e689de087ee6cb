"""Every broker does what the in-memory one does, whatever happens to it in whatever order."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from outwork.brokers.base import Broker
from outwork.brokers.memory import MemoryBroker
from outwork.brokers.sql.mysql import MySQLBroker
from outwork.brokers.sql.postgresql import PostgreSQLBroker
from outwork.brokers.sql.sqlite import SQLiteBroker
from outwork.job import Terms
from outwork.testing.bound_machine import BoundMachine
from outwork.testing.machine import BrokerMachine
from support.mariadb_server import shared_mariadb
from support.postgres_server import shared_postgres


class MemoryMachine(BoundMachine):
    """Against itself: what is checked are the moves and the invariants."""

    def make_broker(self, terms: Terms) -> Broker:
        return MemoryBroker("memory:", terms)


class SQLiteMachine(BrokerMachine):
    def make_broker(self, terms: Terms) -> Broker:
        self.directory = TemporaryDirectory()
        return SQLiteBroker.from_url(f"sqlite:///{Path(self.directory.name) / 'tasks.db'}", terms)

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


class PostgreSQLMachine(BrokerMachine):
    def make_broker(self, terms: Terms) -> Broker:
        server = shared_postgres()
        server.empty()
        return PostgreSQLBroker.from_url(server.url(), terms)


class MySQLMachine(BrokerMachine):
    def make_broker(self, terms: Terms) -> Broker:
        server = shared_mariadb()
        server.empty()
        return MySQLBroker.from_url(server.url(), terms)


# What fails is made small before it is shown, which takes longer than a test usually may.
TestMemory = pytest.mark.timeout(3600)(MemoryMachine.TestCase)
TestSQLite = pytest.mark.timeout(3600)(SQLiteMachine.TestCase)
TestMySQL = pytest.mark.timeout(3600)(MySQLMachine.TestCase)
TestPostgreSQL = pytest.mark.timeout(3600)(PostgreSQLMachine.TestCase)
