"""How much a worker claims: what it may prefetch, and when it lets its backlog run out."""

from __future__ import annotations

import pytest

from outwork.brokers.base import Claimed
from outwork.job import Done
from outwork.worker import appetite as module
from outwork.worker.appetite import BATCH, OFFER_SECONDS, Appetite
from outwork.worker.bell import Bell
from outwork.worker.plan import Plan
from outwork.worker.slots import Ended, Slots


class Waiting:
    """What is asked of an attempt in the backlog."""

    arrived_at = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def hungry(at_once: int = 1) -> tuple[Slots, Appetite]:
    """Of a worker whose tasks are tiny."""
    slots = Slots(20, lambda _: pytest.fail("nothing starts here"), Bell())
    appetite = Appetite(slots, Plan(), lambda _: True, at_once)
    appetite.learn([Ended(Claimed("id", "claim", b""), Done(b"1"), elapsed=0.00001)])
    return slots, appetite


def wait(slots: Slots, jobs: int) -> None:
    slots.free = 0 if jobs else slots.total
    slots.backlog.clear()
    slots.backlog.extend([Waiting()] * jobs)  # type: ignore[list-item]  # pyright: ignore


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_batch_waits_while_others_are_on_their_way(clock: list[float], at_once: int) -> None:
    slots, appetite = hungry(at_once)
    assert appetite.room(0) == BATCH
    wait(slots, BATCH)
    asked = 0
    while more := appetite.room(asked):
        asked += more
    assert asked == at_once * BATCH


def test_a_backlog_runs_out_now_and_then(clock: list[float]) -> None:
    slots, appetite = hungry()
    wait(slots, 50)
    assert appetite.room(0) == BATCH
    assert appetite.free(0) == 0
    clock[0] += OFFER_SECONDS + 0.1
    assert appetite.room(0) == 0, "the backlog is to run out"
    wait(slots, 0)
    assert appetite.room(BATCH) == 0, "and so is what is on its way"
    assert appetite.free(BATCH) == 0
    assert appetite.room(0) == BATCH
    assert appetite.free(0) == slots.total
    wait(slots, 50)
    assert appetite.room(0) == BATCH


def test_a_backlog_that_is_taken_meanwhile_is_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread takes the last one out while the puller looks at the clock."""
    slots, appetite = hungry()
    wait(slots, 1)

    def look() -> float:
        slots.withdraw()
        return 1000.0

    monkeypatch.setattr(module, "monotonic", look)
    appetite.late()
    assert not appetite.late()
