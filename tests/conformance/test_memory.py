"""The in-memory broker keeps every promise: it is what the others are compared with."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from outwork.brokers.base import Broker
from outwork.brokers.memory import MemoryBroker
from outwork.job import Terms
from outwork.testing.conformance import BrokerConformance, MakeBroker


class TestMemory(BrokerConformance):
    @pytest.fixture(params=["memory:", "thread:", "process:"])
    def make_broker(self, request: pytest.FixtureRequest) -> MakeBroker:
        broker = MemoryBroker.from_url(request.param)

        def make(terms: Terms | None = None) -> MemoryBroker:
            """Its storage is the object itself, so a further object is the same one."""
            broker.terms = terms or broker.terms
            return broker

        return make

    def plant_garbage(self, broker: Broker, job_id: str, body: bytes) -> None:
        assert isinstance(broker, MemoryBroker)
        broker._shelf.records[job_id] = replace(broker._shelf.records[job_id], body=body)
