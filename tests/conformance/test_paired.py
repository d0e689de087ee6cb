"""A transport with a store beside it keeps the promises of both; here both are in memory."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from outwork.brokers.base import Broker
from outwork.brokers.memory import MemoryBroker
from outwork.brokers.memory_outbox import MemoryStore
from outwork.brokers.paired import PairedBroker
from outwork.job import Terms
from outwork.testing.conformance import BrokerConformance, MakeBroker


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
        self.kept._records[job_id] = replace(self.kept._records[job_id], body=body)
