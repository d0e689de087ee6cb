"""The timetable: a thread beside the worker that enqueues the jobs of periodic tasks.

Every worker has one, none is special: when a slot is due all of them try to write it down, and the broker lets one do
so, in the transaction that enqueues the jobs (`Store.tick`). The broker's clock says what is due; between looks at it
the thread sleeps by this machine's monotonic one. Slots only move forward, so that a clock which is put right fires
none of them twice.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from time import monotonic
from types import TracebackType
from typing import Final, Self

from outwork.app import Outwork
from outwork.brokers.base import Store
from outwork.errors import BrokerUnavailable, EnqueueError, OutworkError
from outwork.job import Job
from outwork.periodic import Entry, check_periodic, entries, prepared
from outwork.schedule import GRACE, NEVER
from outwork.worker.rounds import Rounds

logger = logging.getLogger("outwork.worker")

LOOK_EVERY: Final = 10.0
"""Seconds after which the broker's clock is looked at again, however far away the next slot is."""


class Timetable:
    """Fires the slots of an application's schedules for the length of a `with` block.

    `embedded`: tasks may be declared after the worker has started, so what is wrong with a schedule is logged when it
    is known; otherwise the constructor raises it: SettingsError, or a subclass of EnqueueError.
    """

    def __init__(self, app: Outwork, worker: str, *, embedded: bool = False) -> None:
        self._app = app
        self._worker = worker
        self._embedded = embedded
        self._entries: Sequence[Entry] = ()
        self._tasks = -1
        if not embedded:
            self._read()
        self._rounds = Rounds("outwork-timetable", self._round)
        self._complaint = ""
        self._known: Mapping[str, float] = {}
        self._known_at = -NEVER

    def __enter__(self) -> Self:
        if self._embedded or any(entry.enabled for entry in self._entries):
            self._rounds.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rounds.stop()

    def _round(self) -> float:
        """A look; seconds until the next one. What goes wrong is logged, once while it is the same."""
        try:
            pause = self.look()
        except BrokerUnavailable as error:  # the worker says so, and waits, too
            logger.debug("looking at the timetable failed: %s", error)
            return 0.5 + random.random()
        except Exception as error:
            if str(error) != self._complaint:
                logger.error("no periodic tasks: %s", error, exc_info=not isinstance(error, OutworkError))
            self._complaint = str(error)
            return 2.0 + random.random()
        self._complaint = ""
        return pause

    def _read(self) -> None:
        """The schedules, anew if more tasks are declared than before."""
        if len(self._app.tasks) != self._tasks:
            found = entries(self._app)
            check_periodic(self._app, found)
            self._entries, self._tasks = found, len(self._app.tasks)

    def look(self) -> float:
        """Fire what is due now; how many seconds until the next look."""
        self._read()
        broker = self._app.broker
        if not self._entries:
            return LOOK_EVERY
        assert isinstance(broker, Store)
        now, looked_at = broker.now(), monotonic()
        if looked_at >= self._known_at + LOOK_EVERY or self._next(now) <= now:
            self._known, self._known_at = broker.schedules(), looked_at
            for entry in self._entries:
                if entry.record not in self._known:
                    self._begin(broker, entry, now)
            if due := [entry for entry in self._entries if self._is_due(entry, now)]:
                paused = broker.orders(self._worker).paused
                for entry in due:
                    self._fire(broker, entry, now, paused=entry.pause_name in paused)
        spent = monotonic() - looked_at
        return min(LOOK_EVERY, max(0.001, self._next(now) - now - spent))

    def _next(self, now: float) -> float:
        """The next slot of all, as far as is known here."""
        return min((self._next_of(entry, now) for entry in self._entries), default=NEVER)

    def _next_of(self, entry: Entry, now: float) -> float:
        last = entry.last(self._known)
        return entry.rule.schedule.next(now if last is None else last)

    def _is_due(self, entry: Entry, now: float) -> bool:
        return entry.record in self._known and self._next_of(entry, now) <= now

    def _begin(self, broker: Store, entry: Entry, now: float) -> None:
        """A schedule that is new, or whose times are, begins now: it has missed nothing."""
        start = float(math.floor(now))
        if broker.tick(entry.record, None, start, []):
            self._known = {**self._known, entry.record: start}
        else:
            self._known_at = -NEVER  # another worker was faster: look again

    def _fire(self, broker: Store, entry: Entry, now: float, *, paused: bool) -> None:
        """Write down the newest slot and enqueue what is to be run. Those of a schedule that is paused or disabled pass
        by without a job, so that nothing has to be made up for when it goes on."""
        last = entry.last(self._known)
        assert last is not None
        due = entry.rule.due(last, now)
        if due is None:
            return
        newest, slots = due
        jobs = [] if paused or not entry.enabled else self._jobs(entry, slots)
        if not broker.tick(entry.record, self._known[entry.record], newest, jobs):
            self._known_at = -NEVER
            return
        self._known = {**self._known, entry.record: newest}
        if jobs and now - newest > GRACE:
            logger.info("%s: %d missed slots are made up for, up to %s", entry.name, len(jobs), _shown(entry, newest))
        if jobs and self._app.hooks.listens:
            self._app.hooks.tell_enqueued(jobs)

    def _jobs(self, entry: Entry, slots: Sequence[float]) -> list[Job]:
        jobs: list[Job] = []
        for slot in slots:
            try:
                jobs.append(prepared(self._app, entry, slot))
            except EnqueueError as error:
                logger.error("%s: no job for the slot %s: %s", entry.name, _shown(entry, slot), error)
        return jobs


def timetable_of(
    app: Outwork, worker: str, *, drain: bool = False, embedded: bool = False
) -> AbstractContextManager[object]:
    """The timetable of a worker; none where the settings say so (`worker.periodic`), or if the worker is to end when
    nothing is left to do."""
    wanted = app.settings.worker.periodic and not drain
    return Timetable(app, worker, embedded=embedded) if wanted else nullcontext()


def _shown(entry: Entry, slot: float) -> str:
    return entry.rule.schedule.at(slot).isoformat(sep=" ", timespec="seconds")
