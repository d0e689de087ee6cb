"""Places that one may hold at a time, for rate limiters, in any store of ours.

A place is the unique key of a job that never runs, SCHEDULED for the moment when the place's time is over. So a place
is taken by an enqueue, of several at once by one; it is given back by deleting the job, and free again when the job is
READY. Each taking has a job of its own, so that nobody gives back, or clears away, what is another's by now.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import Final, NamedTuple

from outwork.contrib.dramatiq.shelf import Shelf
from outwork.job import State

REMEMBERED: Final = 1000
"""Of how many keys it is remembered where a free place was."""


class Held(NamedTuple):
    """A place that this process holds, by this job, until this moment of its own clock."""

    job_id: str
    until: float


class Places:
    """The places of all keys. For every thread."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._lock = threading.Lock()
        self._mine: defaultdict[str, list[Held]] = defaultdict(list)
        self._forget_at = REMEMBERED
        self._next: dict[str, int] = {}
        """Where the next free place of a key may be: beside the last one that was."""

    def take(self, key: str, most: int, seconds: float, number: int = 1) -> bool:
        """Take so many of `most` places; whether all were free. A place that is taken costs a question, so this is for
        limits up to some dozens."""
        taken: list[str] = []
        start = self._next.get(key, 0)
        for ahead in range(most):
            if len(taken) == number:
                break
            place = (start + ahead) % most
            if job_id := self._take_one(f"{key}:{place}", seconds):
                taken.append(job_id)
                self._remember(key, place + 1)
        if len(taken) < number:
            self._shelf.clear(taken)
            return False
        with self._lock:
            self._mine[key] += [Held(job_id, time.monotonic() + seconds) for job_id in taken]
            if len(self._mine) > self._forget_at:
                self._forget()
        self._shelf.sweep()
        return True

    def give_back(self, key: str, number: int) -> bool:
        """Give back so many places that this object took; whether it held them still."""
        with self._lock:
            held = self._mine.pop(key, [])
            back, left = held[:number], held[number:]
            if left:
                self._mine[key] = left
        return len(back) == number and self._shelf.clear([one.job_id for one in back]) == number

    def _forget(self) -> None:
        """Forget places whose time is over: most limiters never give back."""
        now = time.monotonic()
        held = {key: [one for one in those if one.until > now] for key, those in self._mine.items()}
        self._mine = defaultdict(list, {key: those for key, those in held.items() if those})
        self._forget_at = 2 * len(self._mine) + REMEMBERED

    def _remember(self, key: str, place: int) -> None:
        with self._lock:
            self._next.pop(key, None)
            self._next[key] = place
            if len(self._next) > REMEMBERED:
                del self._next[next(iter(self._next))]

    def _take_one(self, place: str, seconds: float) -> str | None:
        """The job by which it is held now; None: somebody else holds it."""
        while True:
            job_id, holder = self._shelf.hold(place, seconds)
            if holder is None:
                return job_id
            [record] = self._shelf.records([holder])
            if record is not None and record.state is State.SCHEDULED:
                return None
            self._shelf.clear([holder])  # its time is over; of several that see this, one deletes it
