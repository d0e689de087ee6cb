"""Sending what was enqueued in a transaction of somebody else's: nobody tells of its commit, so it is looked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable
from threading import Condition, Thread
from time import monotonic
from typing import Final, NamedTuple

from outwork.errors import OutworkError

logger = logging.getLogger("outwork.brokers")

FIRST_LOOK: Final = 0.01
LONGEST_PAUSE: Final = 0.5
PATIENCE: Final = 30.0
"""Seconds; then it was rolled back, or a keeper sends it."""


class _Parcel(NamedTuple):
    ids: set[str]
    began: float
    pause: float
    look_at: float


class Courier:
    """A thread of this process that looks for the jobs it is to expect, ever less often. `send` sends those that are
    there by now, and says which they were."""

    def __init__(self, send: Callable[[Collection[str]], Collection[str]]) -> None:
        self._send = send
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._changed = Condition()
        self._parcels: list[_Parcel] = []
        self._thread: Thread | None = None
        self._closed = False

    def expect(self, ids: Iterable[str]) -> None:
        """These jobs are there after a commit, if it comes."""
        if self._pid != os.getpid():
            self._begin()  # what the parent of a fork expects is the parent's affair
        now = monotonic()
        with self._changed:
            if self._closed:
                return
            self._parcels.append(_Parcel(set(ids), now, FIRST_LOOK, now + FIRST_LOOK))
            if self._thread is None:
                self._thread = Thread(target=self._run, name="outwork-courier", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """End the thread: what is not committed by now is sent by a keeper."""
        if self._pid != os.getpid():
            return
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while (parcels := self._next()) is not None:
            ids = {job_id for parcel in parcels for job_id in parcel.ids}
            try:
                there = set(self._send(ids))
            except OutworkError as error:
                logger.debug("what was committed cannot be looked for: %s", error)
                there = set()
            now = monotonic()
            with self._changed:
                for parcel in parcels:
                    left = parcel.ids - there
                    pause = min(2 * parcel.pause, LONGEST_PAUSE)
                    if left and now - parcel.began < PATIENCE:
                        self._parcels.append(_Parcel(left, parcel.began, pause, now + pause))

    def _next(self) -> list[_Parcel] | None:
        """What is to be looked for now; None at the end. The thread ends when it has nothing to do."""
        with self._changed:
            while not self._closed and self._parcels:
                now = monotonic()
                due = [parcel for parcel in self._parcels if parcel.look_at <= now]
                if due:
                    self._parcels = [parcel for parcel in self._parcels if parcel.look_at > now]
                    return due
                self._changed.wait(min(parcel.look_at for parcel in self._parcels) - now)
            if not self._closed:
                self._thread = None
            return None
