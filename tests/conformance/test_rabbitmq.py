"""RabbitMQ keeps its promises, on a server of the tests' own: what its capabilities deny is left out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from msgspec.structs import replace

from outwork.brokers.base import Broker
from outwork.brokers.memory_outbox import MemoryStore
from outwork.brokers.paired import PairedBroker
from outwork.brokers.rabbitmq.broker import RabbitMQBroker
from outwork.ids import new_claim_id
from outwork.job import Job, Terms
from outwork.testing.conformance import BrokerConformance, MakeBroker, new_job
from support.rabbitmq_admin import Admin
from support.rabbitmq_server import RabbitServer


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


class TestRabbitClassicWithStore(RabbitConformance):
    """With a store beside it: here one in memory, which all objects of a test share."""

    queue_type = "classic"

    @pytest.fixture
    def make_broker(self, server: RabbitServer) -> Iterator[MakeBroker]:
        url = server.url(prefix=f"t{new_claim_id()[:12]}", queue_type=self.queue_type)
        self.kept = MemoryStore(kept=100_000)
        with closing(Admin(server.url())) as self.admin:
            made: list[RabbitMQBroker] = []

            def make(terms: Terms | None = None) -> PairedBroker:
                made.append(RabbitMQBroker.from_url(url, terms))
                self.kept.terms = terms or self.kept.terms
                return PairedBroker(made[-1], self.kept)

            yield make
            for broker in made:
                self.admin.delete_queues_of(broker)

    def move_clock(self, broker: Broker, seconds: float) -> None:
        """The store's clock moves for all objects. What comes near is sent, as the next tend would; what is due is
        taken out of the delay queues."""
        assert isinstance(broker, PairedBroker)
        transport = broker._transport
        assert isinstance(transport, RabbitMQBroker)
        broker.clock_offset = max(self.kept.clock_offset, transport.clock_offset + seconds)
        broker._send_unsent()
        self.admin.deliver_due(transport.topology, transport.now())

    def plant_garbage(self, broker: Broker, job_id: str, body: bytes) -> None:
        self.kept._records[job_id] = replace(self.kept._records[job_id], body=body)

    def refused_job(self) -> Job:
        pytest.skip("what RabbitMQ would refuse waits in the store")
