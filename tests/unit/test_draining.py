"""When a drain is over, and when it only looks so."""

from __future__ import annotations

import pytest

from outwork.brokers.base import Count, Settlement, Share
from outwork.brokers.memory import MemoryBroker
from outwork.job import Again, Outcome
from outwork.testing.conformance import new_job
from outwork.worker.draining import left_to_drain

QUEUES = ["default"]


def settle(broker: MemoryBroker, outcome: Outcome) -> None:
    """Claim one job, and settle it so."""
    [claimed] = broker.exchange("claim", [], [Share("default", 1)], 1, 1, "worker").claimed
    broker.exchange("settle", [Settlement(claimed.id, "claim", outcome)], [], 0, 0, "worker")


def test_what_is_scheduled_for_later_is_left_and_said() -> None:
    broker = MemoryBroker("memory:")
    assert left_to_drain(broker, QUEUES) == 0
    broker.enqueue([new_job(delay=60.0), new_job(delay=60.0, queue="other")])
    assert left_to_drain(broker, QUEUES) == 1


def test_what_is_ready_or_waits_for_a_retry_is_waited_for() -> None:
    broker = MemoryBroker("memory:")
    broker.enqueue([new_job()])
    assert left_to_drain(broker, QUEUES) is None
    settle(broker, Again(60.0, ()))
    assert left_to_drain(broker, QUEUES) is None


def test_a_retry_that_falls_due_between_two_looks_is_not_taken_for_a_job_of_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = MemoryBroker("memory:")
    broker.enqueue([new_job()])
    settle(broker, Again(5.0, ()))
    counts = broker.counts

    def counts_and_wait() -> list[Count]:
        found = counts()
        broker.clock_offset += 10.0
        return found

    monkeypatch.setattr(broker, "counts", counts_and_wait)
    assert left_to_drain(broker, QUEUES) is None
