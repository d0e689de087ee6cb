"""RabbitMQ keeps its promises, on a server of the tests' own: what its capabilities deny is left out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest

from outwork.brokers.base import Broker
from outwork.brokers.paired import PairedBroker
from outwork.brokers.rabbitmq.broker import RabbitMQBroker
from outwork.brokers.redis.broker import RedisBroker
from outwork.brokers.sql.sqlite import SQLiteBroker
from outwork.ids import new_claim_id
from outwork.job import Job, Terms
from outwork.testing.conformance import BrokerConformance, MakeBroker, new_job
from support.rabbitmq_admin import Admin
from support.rabbitmq_server import RabbitServer
from support.redis_server import RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    server = RabbitServer(tmp_path_factory.mktemp("rabbitmq"))
    yield server
    server.close()


class RabbitConformance(BrokerConformance):
    queue_type = "quorum"

    @pytest.fixture
    def make_broker(self, server: RabbitServer) -> Iterator[MakeBroker]:
        prefix = f"t{new_claim_id()[:12]}"
        url = server.url(prefix=prefix, queue_type=self.queue_type)
        with closing(Admin(server.url())) as self.admin:
            made: list[RabbitMQBroker] = []

            def make(terms: Terms | None = None) -> RabbitMQBroker:
                made.append(RabbitMQBroker.from_url(url, terms))
                return made[-1]

            yield make
            for broker in made:
                self.admin.delete_queues_of(broker)

    def move_clock(self, broker: Broker, seconds: float) -> None:
        """RabbitMQ's clock cannot be moved; what would be due by now is taken out of the delay queues."""
        assert isinstance(broker, RabbitMQBroker)
        super().move_clock(broker, seconds)
        self.admin.deliver_due(broker.topology, broker.now())

    def plant_garbage(self, broker: Broker, job_id: str, body: bytes) -> None:
        assert isinstance(broker, RabbitMQBroker)
        self.admin.replace_body(broker.topology.tier("default", 0), job_id, body)

    def refused_job(self) -> Job:
        return new_job(delay=5 * 365 * 86_400.0)


class TestRabbitQuorum(RabbitConformance):
    pass


class TestRabbitClassic(RabbitConformance):
    queue_type = "classic"


class RabbitWithStore(RabbitConformance):
    """With a store beside it, of which each pair has an object of its own."""

    @abstractmethod
    def store(self, terms: Terms | None) -> Broker: ...

    @pytest.fixture
    def make_broker(self, server: RabbitServer, tmp_path: Path) -> Iterator[MakeBroker]:
        url = server.url(prefix=f"t{new_claim_id()[:12]}", queue_type=self.queue_type)
        self.directory = tmp_path
        with closing(Admin(server.url())) as self.admin:
            made: list[RabbitMQBroker] = []

            def make(terms: Terms | None = None) -> PairedBroker:
                made.append(RabbitMQBroker.from_url(url, terms))
                return PairedBroker(made[-1], self.store(terms))

            yield make
            for broker in made:
                self.admin.delete_queues_of(broker)

    def move_clock(self, broker: Broker, seconds: float) -> None:
        """What comes near is sent, as the next tend would; what is due is taken out of the delay queues."""
        assert isinstance(broker, PairedBroker)
        transport = broker._transport
        assert isinstance(transport, RabbitMQBroker)
        broker.clock_offset += seconds
        broker._send_unsent()
        self.admin.deliver_due(transport.topology, transport.now())

    def plant_garbage(self, broker: Broker, job_id: str, body: bytes) -> None:
        pytest.skip("the store's own suite does that")

    def refused_job(self) -> Job:
        pytest.skip("what RabbitMQ would refuse waits in the store")


class TestRabbitClassicWithSQLite(RabbitWithStore):
    queue_type = "classic"

    def store(self, terms: Terms | None) -> Broker:
        return SQLiteBroker.from_url(f"sqlite:///{self.directory / 'store.db'}", terms)


class TestRabbitQuorumWithRedis(RabbitWithStore):
    redis: ClassVar[RedisServer]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def redis_server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        cls.redis = RedisServer(tmp_path_factory.mktemp("redis"), appendonly="yes")
        yield
        cls.redis.kill()

    def store(self, terms: Terms | None) -> Broker:
        return RedisBroker.from_url(self.redis.url(namespace=self.directory.name), terms)
