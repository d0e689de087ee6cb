"""Time limits of attempts that run on threads or the event loop. (A child process is killed by who serves it.)"""

from __future__ import annotations

import threading
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from time import monotonic
from typing import Final

from outwork.attempt import Attempt
from outwork.errors import TimeLimitExceeded
from outwork.worker.runners import StopReason

PATIENCE: Final = 10.0
"""Seconds that a stopped task has to end before it is given up."""


class Limits:
    """Stops attempts whose time is over, and gives up those that take no notice. Its thread starts with the first."""

    def __init__(self, stop: Callable[[Attempt, StopReason], bool], give_up: Callable[[Attempt], None]) -> None:
        self._stop = stop
        self._give_up = give_up
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, attempt: Attempt, seconds: float) -> None:
        """An attempt with a time limit starts now."""
        self._at(seconds, lambda: self._expire(attempt, seconds))

    def stop(self, attempt: Attempt, reason: StopReason) -> None:
        """Stop an attempt now, for another reason; it is given up as well when it does not end."""
        if self._stop(attempt, reason):
            self._at(PATIENCE, lambda: self._give_up(attempt))

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(5.0)

    def _expire(self, attempt: Attempt, seconds: float) -> None:
        self.stop(attempt, TimeLimitExceeded(f"ran longer than its timeout of {seconds:g} s"))

    def _at(self, seconds: float, act: Callable[[], None]) -> None:
        with self._changed:
            heappush(self._heap, (monotonic() + seconds, next(self._order), act))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="outwork-limits", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (not self._heap or self._heap[0][0] > monotonic()):
                    self._changed.wait(self._heap[0][0] - monotonic() if self._heap else None)
                if self._closed:
                    return
                act = heappop(self._heap)[2]
            act()
