"""How much a worker claims: what it may prefetch, and when it lets its backlog run out."""

from __future__ import annotations

import pytest

from outwork.brokers.base import Claimed
from outwork.job import Done
from outwork.worker import appetite as module
from outwork.worker.appetite import OFFER_SECONDS, PACE, PREFETCH_PATIENCE, Appetite
from outwork.worker.bell import Bell
from outwork.worker.distance import BATCH, FAR_BATCH, LOOKS, Distance
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
    appetite = Appetite(slots, Plan(), lambda _: True, Distance(at_once))
    appetite.learn([Ended(Claimed("id", "claim", b""), Done(b"1"), elapsed=0.00001)])
    return slots, appetite


def afar(waiting: float, elapsed: float) -> tuple[Slots, Appetite]:
    """Of a worker whose tasks take so long, and its exchanges so much longer."""
    distance = Distance(1, 4)
    for _ in range(LOOKS):
        distance.learn(waiting, 0, [])
    slots = Slots(8, lambda _: pytest.fail("nothing starts here"), Bell())
    appetite = Appetite(slots, Plan(), lambda _: True, distance)
    appetite.learn([Ended(Claimed("id", "claim", b""), Done(b"1"), elapsed=elapsed)])
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


@pytest.mark.parametrize("waiting", [0.0, 0.02, 0.05, 0.15, 0.3])
def test_what_is_asked_for_is_what_starts_until_it_is_here_and_50_ms_then(clock: list[float], waiting: float) -> None:
    slots, appetite = afar(waiting, elapsed=0.05)
    slots.free = 0
    there = appetite.room(0)
    started_meanwhile = round(8 * waiting / 0.05)
    assert there - started_meanwhile in (7, 8)  # rounded down
    assert appetite.room(there) == 0


def test_no_more_is_asked_for_than_a_process_can_start(clock: list[float]) -> None:
    """Tiny jobs take a few microseconds each; a busy machine starts one a millisecond all the same."""
    slots, appetite = afar(0.05, elapsed=0.000_001)
    ended = [Ended(Claimed("id", "claim", b""), Done(b"1"), elapsed=0.000_001)] * 100

    def asked() -> int:
        wait(slots, 0)
        appetite.free(0)  # just now
        wait(slots, 1)
        asked = 0
        while more := appetite.room(asked):
            assert more <= FAR_BATCH
            asked += more
        return asked + 1

    assert asked() == int(0.1 / PACE)
    for _ in range(20):
        appetite.learn(ended)
        clock[0] += 0.1
    assert asked() in (100, 101)
    for _ in range(20):  # slots that wait for jobs say nothing of how fast they are
        slots.ran_out = True
        appetite.learn(ended)
        clock[0] += 1.0
    assert asked() in (100, 101)


def test_jobs_are_not_given_back_before_others_could_have_had_them(clock: list[float]) -> None:
    for waiting, patience in ((0.02, PREFETCH_PATIENCE), (0.3, 0.3)):
        slots, appetite = afar(waiting, elapsed=0.05)
        wait(slots, 1)
        clock[0] = patience - 0.01
        assert not appetite.late()
        clock[0] = patience + 0.01
        assert appetite.late()


def test_far_away_the_backlog_runs_out_less_often(clock: list[float]) -> None:
    """While it does nothing runs for a round trip."""
    slots, appetite = afar(0.3, elapsed=0.05)
    wait(slots, 8)
    clock[0] += OFFER_SECONDS + 0.1
    assert appetite.room(0) > 0
    clock[0] += 2.0
    assert appetite.room(0) == 0
