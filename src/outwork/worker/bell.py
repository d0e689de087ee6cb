"""A wake-up for one sleeping thread."""

from __future__ import annotations

from _thread import allocate_lock


class Bell:
    """Rung from any thread, any number of times, it ends one `wait`: the running or the next one.

    A bare lock as a binary semaphore: a ring costs 0.1 us, an Event's `set` 1.3 us, and it is rung for every job.
    """

    __slots__ = ("_lock", "_rung")

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()
        self._rung = False

    def ring(self) -> None:
        """Wake the one who waits, or let the next `wait` return at once."""
        if not self._rung:
            self._rung = True
            try:
                self._lock.release()
            except RuntimeError:  # another thread rang at the same moment
                return

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until the bell is rung (True), at most `timeout` seconds (False)."""
        woken = self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
        self._rung = False
        return woken
