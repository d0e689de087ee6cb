"""A worker over a broker that takes two exchanges at once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import ClassVar

import pytest

from outwork import Outwork
from outwork.brokers.base import Exchanged, Settlement, Share
from outwork.job import Answer, State
from outwork.worker import distance
from support.inside import FaultyBroker, working
from support.waiting import until

JOBS = 3000
PARTNER = 0.05
"""Seconds that an exchange waits for a second one; some have none. (What is claimed by a slow one is given back.)"""


class Meeting(FaultyBroker):
    """Holds each exchange back until another one is under way. `met`: two were; `on_meeting` is called once then."""

    exchanges_at_once: ClassVar[int] = 2

    def __init__(self) -> None:
        super().__init__()
        self.met = threading.Event()
        self.most = 0
        self.free = 0
        self.on_meeting: Callable[[], None] = lambda: None
        self._changed = threading.Condition()
        self._under_way: list[int] = []
        self.in_exchange = self._meet

    def exchange(
        self,
        claim_id: str,
        outcomes: Sequence[Settlement],
        queues: Sequence[Share],
        limit: int,
        free: int,
        worker: str,
    ) -> Exchanged:
        with self._changed:
            self._under_way.append(free)
            self.most = max(self.most, len(self._under_way))
            self.free = max(self.free, sum(self._under_way))
        try:
            return super().exchange(claim_id, outcomes, queues, limit, free, worker)
        finally:
            with self._changed:
                self._under_way.remove(free)

    def _meet(self) -> None:
        with self._changed:
            if len(self._under_way) == 2 and not self.met.is_set():
                self.met.set()
                self.on_meeting()
                self._changed.notify_all()
            elif 1 < len(self.exchanges) < 50:
                self._changed.wait_for(self.met.is_set, PARTNER)


def crowd() -> tuple[Outwork, Meeting, Counter[int], Callable[[], None]]:
    """An application with many tiny jobs to enqueue, and how often each of them ran."""
    broker = Meeting()
    app = Outwork(broker=broker)
    ran: Counter[int] = Counter()

    @app.task
    def tiny(number: int) -> None:
        ran[number] += 1

    return app, broker, ran, lambda: [*app.enqueue_many(tiny.bind(number) for number in range(JOBS))].clear()


def states(broker: Meeting) -> dict[State, int]:
    return {count.state: count.jobs for count in broker.counts() if count.jobs}


def test_two_are_under_way_and_each_job_runs_once() -> None:
    app, broker, ran, enqueue = crowd()
    enqueue()
    with working(app, concurrency=5, drain=True) as inside:
        inside.join()
    assert broker.met.is_set()
    assert broker.most == 2
    assert broker.free <= 5, "a free slot was offered twice"
    assert ran == Counter(range(JOBS))
    assert states(broker) == {State.SUCCESSFUL: JOBS}
    assert set(broker.answers) == {Answer.DONE}


def test_more_are_under_way_to_a_server_that_is_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while nothing waits to run; a free slot is offered once all the same."""
    monkeypatch.setattr(distance, "FAR", 0.0)
    monkeypatch.setattr(Meeting, "exchanges_at_once", 1)
    monkeypatch.setattr(Meeting, "exchanges_afar", 2)
    app, broker, ran, enqueue = crowd()
    enqueue()
    with working(app, concurrency=5, drain=True) as inside:
        inside.join()
    assert broker.met.is_set()
    assert broker.most == 2
    assert broker.free <= 5, "a free slot was offered twice"
    assert ran == Counter(range(JOBS))
    assert states(broker) == {State.SUCCESSFUL: JOBS}
    assert set(broker.answers) == {Answer.DONE}


def test_both_replies_are_lost() -> None:
    """Each is asked for again by its own claim id, and with it come the jobs that it had claimed."""
    app, broker, ran, enqueue = crowd()

    def lose() -> None:
        broker.lost_replies = 2

    broker.on_meeting = lose
    enqueue()
    with working(app, drain=True) as inside:
        inside.join()
    assert broker.lost_replies == 0
    asked = Counter(claim_id for claim_id, _, _ in broker.exchanges)
    assert sorted(asked.values())[-2:] == [2, 2]
    assert ran == Counter(range(JOBS))
    assert states(broker) == {State.SUCCESSFUL: JOBS}
    assert Answer.STALE not in broker.answers


def test_a_stop_gives_back_what_both_bring() -> None:
    app, broker, ran, enqueue = crowd()
    with working(app) as inside:
        broker.on_meeting = inside.worker.stop
        enqueue()
        summary = inside.join()
    assert broker.met.is_set()
    assert summary.given_back > 0
    assert set(ran.values()) == {1}
    assert states(broker) == {State.SUCCESSFUL: len(ran), State.READY: JOBS - len(ran)}


def test_a_pause_takes_back_what_both_bring() -> None:
    app, broker, ran, enqueue = crowd()

    def pause() -> None:
        inside.worker._appetite._goes_on = lambda _: False
        inside.worker._pauses_changed()

    with working(app) as inside:
        broker.on_meeting = pause
        enqueue()
        assert broker.met.wait(30)
        until(lambda: State.RUNNING not in states(broker), "all in hand settled or given back")
        assert states(broker) == {State.SUCCESSFUL: len(ran), State.READY: JOBS - len(ran)}


def test_a_queue_with_a_limit_has_one_at_a_time() -> None:
    """How much is left of it is known only when the jobs of the last exchange are in hand."""
    app, broker, ran, enqueue = crowd()
    enqueue()
    with working(app, queues={"default": 100}, drain=True) as inside:
        broker.in_exchange = lambda: None
        inside.join()
    assert broker.most == 1
    assert ran == Counter(range(JOBS))
