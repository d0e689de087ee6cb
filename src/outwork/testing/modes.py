"""Three ways to run an application's jobs in a test: not at all, in their callers, on a worker without a server.

Each is a context manager, of an application or of the default one; nothing of it is left behind. The pytest plugin has
a fixture for each.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec.structs import replace

from outwork import app as applications
from outwork.app import Outwork
from outwork.attempt import Attempt, begin
from outwork.brokers.base import Claimed, Settlement, Share
from outwork.brokers.memory import MemoryBroker
from outwork.client.immediate import acall_here, call_here
from outwork.durations import seconds_of
from outwork.ids import new_claim_id
from outwork.job import Again, Dead, Outcome, State, Terms
from outwork.testing.jobs import Jobs

logger = logging.getLogger("outwork")

WORKER: Final = "test"
FOR_EVER: Final = 1e9
"""Seconds: a test that moves the clock by days still asks what became of a job."""


class Recorder(Jobs):
    """Jobs are recorded and never run."""


class Inline(Jobs):
    """Jobs run in their callers, as without any configuration (`immediate:`)."""


class Clock:
    """The broker's clock, which a test can move on. It goes on by itself as well, as clocks do."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    def now(self) -> datetime:
        """What it shows."""
        return datetime.fromtimestamp(self._broker.now(), UTC)

    def move(self, by: timedelta | float) -> None:
        """Let this time pass (a timedelta, or seconds): scheduled jobs and retries fall due, waiting ones expire,
        and results with a `keep_result` of their own are forgotten. What falls due runs at the next `drain`."""
        self._broker.clock_offset += seconds_of(by)

    def move_to(self, moment: datetime) -> None:
        """Let time pass until this moment. Raises ValueError for one that is over, or has no time zone."""
        if moment.tzinfo is None:
            raise ValueError("a datetime with a time zone is needed")
        self.move(moment - self.now())


class LocalWorker(Jobs):
    """Jobs wait until `drain` runs them in this thread, by the code that every worker runs."""

    def __init__(self, app: Outwork, broker: _PatientBroker) -> None:
        super().__init__(app, broker)
        self._patient = broker
        self._failed: set[str] = set()
        self.clock = Clock(broker)

    def drain(self, *, retries: bool = True, limit: int = 1000) -> int:
        """Run every job that is due, and those that they enqueue, until none is left. How many attempts that were.

        A failed attempt is tried again at once, as often as its policy allows; with `retries=False` it waits for its
        time, to which `clock.move` leads. A task that fails is logged and recorded, as on any worker. After `limit`
        attempts it is an AssertionError: a job that enqueues itself would run for ever. Time limits do not apply, and
        `executor="process"` runs in this thread, too.
        """
        ran = 0
        while (claimed := self._next(ran, retries, limit)) is not None:
            begun = begin(claimed, self.app.tasks, WORKER)
            self._settle(claimed, call_here(begun) if isinstance(begun, Attempt) else begun)
            ran += 1
        return ran

    async def adrain(self, *, retries: bool = True, limit: int = 1000) -> int:
        """As `drain`: async tasks run on this event loop, others on a thread beside it."""
        ran = 0
        while (claimed := self._next(ran, retries, limit)) is not None:
            begun = begin(claimed, self.app.tasks, WORKER)
            self._settle(claimed, await acall_here(begun) if isinstance(begun, Attempt) else begun)
            ran += 1
        return ran

    def _next(self, ran: int, retries: bool, limit: int) -> Claimed | None:
        broker = self._patient
        broker.tend(None, rescue=False)
        if retries:
            broker.hasten(self._failed)
            self._failed.clear()
        shares = [Share(name, 1) for name in broker.queues()]
        claimed = broker.exchange(new_claim_id(), [], shares, 1, 1, WORKER).claimed
        if not claimed:
            return None
        if ran >= limit:
            [job] = [job for job in self.jobs if job.id == claimed[0].id]
            raise AssertionError(
                f"{limit} attempts were run, and there is more to do: {job}. Does a job enqueue itself? Else give "
                "drain a larger limit"
            )
        return claimed[0]

    def _settle(self, claimed: Claimed, outcome: Outcome) -> None:
        self._patient.exchange(new_claim_id(), [Settlement(claimed.id, claimed.claim_id, outcome)], [], 0, 0, WORKER)
        if isinstance(outcome, Again) and outcome.counted:
            self._failed.add(claimed.id)
        elif isinstance(outcome, Dead):
            logger.error("job %s failed:\n%s", claimed.id, outcome.failures[-1].traceback)


class _PatientBroker(MemoryBroker):
    """A broker in memory whose retries need not wait."""

    def hasten(self, ids: Collection[str]) -> None:
        """Let these jobs wait no longer, if they do."""
        with self._changed:
            now = self._moment().wall
            for job_id in ids:
                record = self._shelf.records.get(job_id)
                if record is not None and record.state is State.SCHEDULED:
                    self._put(replace(record, state=State.READY, due=min(record.due, now)))


@contextmanager
def recording(app: Outwork | None = None) -> Iterator[Recorder]:
    """Record the jobs of an application (None: the default one) instead of running them."""
    app, broker = app or applications.default_app, MemoryBroker("dummy:")
    with app.standing_in(broker):
        yield Recorder(app, broker)


@contextmanager
def inline(app: Outwork | None = None) -> Iterator[Inline]:
    """Run the jobs of an application (None: the default one) in their callers."""
    app, broker = app or applications.default_app, MemoryBroker("immediate:")
    with app.standing_in(broker):
        yield Inline(app, broker)


@contextmanager
def local_worker(app: Outwork | None = None) -> Iterator[LocalWorker]:
    """Let the jobs of an application (None: the default one) wait in memory until the test drains them."""
    app, broker = app or applications.default_app, _PatientBroker("memory:", Terms(keep=FOR_EVER, keep_failed=FOR_EVER))
    with app.standing_in(broker):
        yield LocalWorker(app, broker)
