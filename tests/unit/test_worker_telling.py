"""What a worker tells of itself while it works: in its log, and to those who ask for its status."""

from __future__ import annotations

import logging
import time

import pytest

from outwork.brokers.base import Claim, Claimed, Extended, Presence, Tended
from outwork.brokers.memory import MemoryBroker
from outwork.job import Done, Terms
from outwork.worker import keeper as keeping
from outwork.worker.keeper import Keeper
from outwork.worker.logs import LINES_A_SECOND, Journal
from outwork.worker.slots import Ended
from support.waiting import until


def test_what_was_only_counted_is_said_when_its_second_is_over(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no other job ends: the last line of a rush is not left to the next one."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    journal = Journal()
    with caplog.at_level(logging.INFO, "outwork.worker"):
        journal.ended([Ended(Claimed(str(number), "claim", b""), Done(b"1")) for number in range(LINES_A_SECOND + 7)])
        assert journal.patience == 1.0
        journal.breathe()
        assert len(caplog.messages) == LINES_A_SECOND
        now = 1001.0
        journal.breathe()
        journal.breathe()
    assert caplog.messages[LINES_A_SECOND:] == ["… and 7 more jobs"]
    assert journal.patience is None


def test_the_first_jobs_are_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A status that says "0 done" long after the first job looks as if nothing ran."""
    monkeypatch.setattr(keeping, "TEND_EVERY", 3600.0)
    told: list[int] = []
    done = 0

    class Listening(MemoryBroker):
        def tend(self, presence: Presence | None, *, rescue: bool, dead: object = ()) -> Tended:
            if presence is not None:
                told.append(presence.done)
            return Tended()

    def presence() -> Presence:
        return Presence(
            worker="w",
            host="h",
            pid=1,
            lock="",
            queues=("default",),
            concurrency=1,
            started_at=0.0,
            version="0",
            done=done,
        )

    def claims() -> list[Claim]:
        return []

    def extended(began: float, some: object, answer: Extended) -> None: ...

    keeper = Keeper(Listening(terms=Terms(lease=10_000.0)), claims, presence, extended, lambda tended: None)
    keeper.start()
    try:
        until(lambda: told == [0], "its first report")
        done = 5
        until(lambda: told == [0, 5], "the news")
        done = 6
    finally:
        keeper.close()
    assert told == [0, 5], "what follows is told with every tend"
