"""Time limits of attempts that run on threads or the event loop. (A child process is killed by who serves it.)"""

from __future__ import annotations

import threading
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from time import monotonic
from typing import Final

from outwork.attempt import Attempt
from outwork.errors import TimeLimitExceeded
from outwork.worker.runners import StopReason

PATIENCE: Final = 10.0
"""Seconds that a stopped task has to end before it is given up."""
WATCHED: Final = 1000
"""So many attempts are watched before those that have ended are looked for and forgotten."""


class Limits:
    """Stops attempts whose time is over, and gives up those that take no notice. Its thread starts with the first.

    `in_hand` says whether an attempt may still run: with a limit of an hour, one that ended in a millisecond must not
    be kept for that hour.
    """

    def __init__(
        self,
        stop: Callable[[Attempt, StopReason], bool],
        give_up: Callable[[Attempt], None],
        in_hand: Callable[[Attempt], bool],
    ) -> None:
        self._stop = stop
        self._give_up = give_up
        self._in_hand = in_hand
        self._most = WATCHED
        self._heap: list[tuple[float, int, Attempt, Callable[[], None]]] = []
        self._order = count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, attempt: Attempt, seconds: float) -> None:
        """An attempt with a time limit starts now."""
        self._at(seconds, attempt, lambda: self._expire(attempt, seconds))

    def stop(self, attempt: Attempt, reason: StopReason) -> None:
        """Stop an attempt now, for another reason; it is given up as well when it does not end."""
        if self._stop(attempt, reason):
            self._at(PATIENCE, attempt, lambda: self._give_up(attempt))

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(5.0)

    def _expire(self, attempt: Attempt, seconds: float) -> None:
        self.stop(attempt, TimeLimitExceeded(f"ran longer than its timeout of {seconds:g} s"))

    def _at(self, seconds: float, attempt: Attempt, act: Callable[[], None]) -> None:
        with self._changed:
            if len(self._heap) >= self._most:
                self._heap = [entry for entry in self._heap if self._in_hand(entry[2])]
                heapify(self._heap)
                self._most = max(WATCHED, 2 * len(self._heap))
            entry = (monotonic() + seconds, next(self._order), attempt, act)
            heappush(self._heap, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="outwork-limits", daemon=True)
                self._thread.start()
            if self._heap[0] is entry:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (not self._heap or self._heap[0][0] > monotonic()):
                    self._changed.wait(self._heap[0][0] - monotonic() if self._heap else None)
                if self._closed:
                    return
                act = heappop(self._heap)[3]
            act()
