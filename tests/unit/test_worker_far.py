"""A worker whose broker is far away or slow: what it believes of its leases, and how much it has under way."""

from __future__ import annotations

from time import monotonic

import msgspec
import pytest

from outwork.brokers.base import Claim, Extended, Share
from outwork.ids import new_claim_id, new_job_id
from outwork.job import Job
from outwork.worker import appetite, pipeline, runners
from outwork.worker import worker as puller
from outwork.worker.appetite import PREFETCH_PATIENCE
from outwork.worker.pipeline import Exchange
from outwork.worker.plan import Plan
from outwork.worker.worker import Worker
from support.inside import memory_app, working
from support.waiting import until

LEASE = 30.0


class Clock:
    """The monotonic clock of a worker, which may jump."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (appetite, pipeline, runners, puller):
        monkeypatch.setattr(module, "monotonic", made)
    return made


def test_a_lease_counts_from_the_first_time_it_was_asked_for(clock: Clock) -> None:
    """Its answer was lost, and the repetition came after the lease: the server may have given the job to another."""
    app, broker = memory_app(LEASE)
    ran: list[str] = []

    @app.task
    def work() -> None:
        ran.append(broker.exchanges[-1][0])

    def lose() -> None:
        if broker.lost_replies:
            clock.ahead += LEASE

    broker.in_exchange = lose
    with working(app) as inside:
        until(lambda: broker.exchanges, "the first look")
        broker.lost_replies = 1
        result = work.enqueue()
        result.get(timeout=30)
        asked = [claim_id for claim_id, _, _ in broker.exchanges]
        lost = next(one for one in asked if asked.count(one) == 2)
        assert broker.claimed.count(result.id) == 3, "by the lost answer, by the repeated one, and anew"
        assert len(ran) == 1
        assert ran != [lost]
        until(lambda: inside.worker.given_back == 1, "the one that was not started is given back")


def test_a_renewal_is_believed_of_the_jobs_that_were_renewed(clock: Clock) -> None:
    """A job that was on its way while the others were renewed has its lease from when it was claimed."""
    app, broker = memory_app(LEASE)

    @app.task
    def work() -> None:
        return None

    worker = Worker(app, Plan())
    worker.slots.free = 0  # nothing starts
    ids = [new_job_id() for _ in range(2)]
    exchanges: list[Exchange] = []
    for job_id in ids:
        broker.enqueue([Job(v=1, id=job_id, task=work.name, args=msgspec.Raw(b"{}"))])
        exchanges.append(Exchange(new_claim_id(), [], [Share("default", 1)], 1, 1, []))
        worker._pipeline.begin(exchanges[-1])
        exchanges[-1].carry_out(broker, worker.id)
    renewed, on_its_way = ids
    worker._land(exchanges[:1])
    clock.ahead = 10.0
    asked = clock()
    worker._on_extended(asked, worker._claims(), Extended(frozenset(), frozenset()))
    worker._land(exchanges[1:])
    hand = worker._hand
    assert worker._may_start(hand[on_its_way], exchanges[1].began + LEASE - 1)
    assert not worker._may_start(hand[on_its_way], exchanges[1].began + LEASE)
    assert worker._may_start(hand[renewed], asked + LEASE - 1)
    assert not worker._may_start(hand[renewed], asked + LEASE)
    worker._on_extended(asked + 5, [Claim(on_its_way, exchanges[1].claim_id)], Extended(frozenset(), frozenset()))
    assert worker._may_start(hand[on_its_way], asked + 5 + LEASE - 1)
    worker._life.release()


def test_patience_begins_when_jobs_arrive(clock: Clock) -> None:
    """An exchange of a second: what it prefetched is as fresh as any."""
    app, broker = memory_app()

    @app.task
    def work() -> None:
        return None

    worker = Worker(app, Plan())
    worker.slots.free = 0  # nothing starts
    work.enqueue()
    exchange = Exchange(new_claim_id(), [], [Share("default", 1)], 1, 1, [])
    worker._pipeline.begin(exchange)
    exchange.carry_out(broker, worker.id)
    clock.ahead += 1.0
    worker._land([exchange])
    assert not worker._appetite.late()
    clock.ahead += PREFETCH_PATIENCE + 0.01
    assert worker._appetite.late()
    worker._life.release()
