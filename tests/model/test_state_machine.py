"""Every broker does what the in-memory one does, whatever happens to it in whatever order."""

from __future__ import annotations

from outwork.brokers.base import Broker
from outwork.brokers.memory import MemoryBroker
from outwork.job import Terms
from outwork.testing.machine import BrokerMachine


class MemoryMachine(BrokerMachine):
    """Against itself: what is checked are the moves and the invariants."""

    def make_broker(self, terms: Terms) -> Broker:
        return MemoryBroker("memory:", terms)


TestMemory = MemoryMachine.TestCase
