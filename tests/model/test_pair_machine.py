"""Every store beside a transport does what the in-memory one does beside the same one, whatever happens in whatever
order: what is claimed, what is kept, and what keepers are to send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis.stateful import invariant

from outwork.brokers.base import Broker, Outbox, Ticket
from outwork.brokers.memory import MemoryBroker
from outwork.brokers.memory_outbox import MemoryStore
from outwork.brokers.paired import PairedBroker
from outwork.brokers.redis.broker import RedisBroker
from outwork.brokers.sql.mysql import MySQLBroker
from outwork.brokers.sql.postgresql import PostgreSQLBroker
from outwork.brokers.sql.sqlite import SQLiteBroker
from outwork.job import Terms
from outwork.testing.machine import TOLERANCE, BrokerMachine, CheckedMemory
from support.mariadb_server import shared_mariadb
from support.postgres_server import shared_postgres
from support.redis_server import RedisServer


class CheckedStore(CheckedMemory, MemoryStore):
    """The specification of a store beside a transport, which refuses every move that the table does not allow."""


class PairMachine(BrokerMachine):
    """Two pairs, each with a transport in memory of its own, which delivers all in the same order."""

    def make_model(self, terms: Terms) -> tuple[CheckedMemory, Broker]:
        model = CheckedStore("memory:", terms)
        return model, PairedBroker(MemoryBroker(), model)

    def make_broker(self, terms: Terms) -> Broker:
        self.beside = self.make_store(terms)
        return PairedBroker(MemoryBroker(), self.beside)

    def make_store(self, terms: Terms) -> Broker:
        raise NotImplementedError

    @invariant()
    def the_outboxes_are_equal(self) -> None:
        assert isinstance(self.model, Outbox)
        assert isinstance(self.beside, Outbox)
        expected, got = self.model.unsent(1000), self.beside.unsent(1000)
        assert [_plain(ticket) for ticket in got] == [_plain(ticket) for ticket in expected]
        assert all(abs(one.delay - other.delay) < TOLERANCE for one, other in zip(got, expected, strict=True))


def _plain(ticket: Ticket) -> Ticket:
    return ticket._replace(delay=0.0)


class SQLitePairMachine(PairMachine):
    def make_store(self, terms: Terms) -> Broker:
        self.directory = TemporaryDirectory()
        return SQLiteBroker.from_url(f"sqlite:///{Path(self.directory.name) / 'store.db'}", terms)

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


class PostgreSQLPairMachine(PairMachine):
    def make_store(self, terms: Terms) -> Broker:
        shared_postgres().empty()
        return PostgreSQLBroker.from_url(shared_postgres().url(), terms)


class MySQLPairMachine(PairMachine):
    def make_store(self, terms: Terms) -> Broker:
        shared_mariadb().empty()
        return MySQLBroker.from_url(shared_mariadb().url(), terms)


class RedisPairMachine(PairMachine):
    server: ClassVar[RedisServer]

    def make_store(self, terms: Terms) -> Broker:
        self.server.ask("FLUSHALL")
        return RedisBroker.from_url(self.server.url(), terms)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    RedisPairMachine.server = RedisServer(tmp_path_factory.mktemp("redis"), appendonly="yes", appendfsync="no")
    yield
    RedisPairMachine.server.kill()


# Each store has a machine of its own, which looks at its moves; what is looked for here is what a pair adds. On
# servers each step waits for a disk, several times.
for machine, part in (
    (SQLitePairMachine, 4),
    (RedisPairMachine, 4),
    (PostgreSQLPairMachine, 12),
    (MySQLPairMachine, 12),
):
    machine.TestCase.settings = settings(max_examples=max(1, settings().max_examples // part))

TestSQLitePair = pytest.mark.timeout(3600)(SQLitePairMachine.TestCase)
TestPostgreSQLPair = pytest.mark.timeout(3600)(PostgreSQLPairMachine.TestCase)
TestMySQLPair = pytest.mark.timeout(3600)(MySQLPairMachine.TestCase)
TestRedisPair = pytest.mark.timeout(3600)(pytest.mark.usefixtures("redis_server")(RedisPairMachine.TestCase))
