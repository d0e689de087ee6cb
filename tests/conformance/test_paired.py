"""A transport with a store beside it keeps the promises of both. Here the transport is in memory, which delivers at
once, so that all that is left to go wrong is the store's; RabbitMQ with a store is in `test_rabbitmq`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from msgspec.structs import replace

from outwork.brokers.base import Broker, Outbox
from outwork.brokers.memory import MemoryBroker
from outwork.brokers.memory_outbox import MemoryStore
from outwork.brokers.paired import PairedBroker
from outwork.brokers.redis.broker import RedisBroker
from outwork.brokers.sql.mysql import MySQLBroker
from outwork.brokers.sql.postgresql import PostgreSQLBroker
from outwork.brokers.sql.sqlite import SQLiteBroker
from outwork.job import Terms
from outwork.testing.conformance import BrokerConformance, MakeBroker, OutboxConformance
from support.mariadb_server import shared_mariadb
from support.postgres_server import shared_postgres
from support.redis_server import RedisServer


class TestPairedInMemory(BrokerConformance):
    @pytest.fixture
    def make_broker(self) -> MakeBroker:
        self.kept = MemoryStore(kept=100_000)
        pair = PairedBroker(MemoryBroker(), self.kept)

        def make(terms: Terms | None = None) -> PairedBroker:
            """Memory has one place in each process: a further object is the same one."""
            self.kept.terms = pair.terms = terms or pair.terms
            return pair

        return make

    def plant_garbage(self, broker: Broker, job_id: str, body: bytes) -> None:
        self.kept._shelf.records[job_id] = replace(self.kept._shelf.records[job_id], body=body)


class TestMemoryStore(OutboxConformance):
    @pytest.fixture
    def make_broker(self) -> MakeBroker:
        store = MemoryStore(kept=100_000)
        return lambda terms=None: store


class SharedTransport(MemoryBroker):
    """One queue in memory for several objects: the clock of all moves with that of each, and closing is for the end."""

    def close(self) -> None:
        self.interrupt()


class StoreConformance(BrokerConformance):
    """A real store, of which each pair has an object of its own, beside one transport in memory."""

    @abstractmethod
    def store(self, terms: Terms | None) -> Broker: ...

    @pytest.fixture
    def make_broker(self, tmp_path: Path) -> MakeBroker:
        self.directory = tmp_path
        self.empty()
        transport = SharedTransport()

        def make(terms: Terms | None = None) -> PairedBroker:
            store = self.store(terms)
            assert isinstance(store, Outbox)
            return PairedBroker(transport, store)

        return make

    def empty(self) -> None:
        """Forget what other tests have left."""


class TestPairedWithSQLite(StoreConformance):
    def store(self, terms: Terms | None) -> Broker:
        return SQLiteBroker.from_url(f"sqlite:///{self.directory / 'tasks.db'}", terms)


class TestPairedWithPostgreSQL(StoreConformance):
    def store(self, terms: Terms | None) -> Broker:
        return PostgreSQLBroker.from_url(shared_postgres().url(), terms)

    def empty(self) -> None:
        shared_postgres().empty()


class TestPairedWithRedis(StoreConformance):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        cls.redis = RedisServer(tmp_path_factory.mktemp("redis"), appendonly="yes")
        yield
        cls.redis.kill()

    redis: ClassVar[RedisServer]

    def store(self, terms: Terms | None) -> Broker:
        return RedisBroker.from_url(self.redis.url(), terms)

    def empty(self) -> None:
        self.redis.ask("FLUSHALL")


class TestPairedWithMySQL(StoreConformance):
    def store(self, terms: Terms | None) -> Broker:
        return MySQLBroker.from_url(shared_mariadb().url(), terms)

    def empty(self) -> None:
        shared_mariadb().empty()
