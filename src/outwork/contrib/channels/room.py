"""What a session need not do for each parcel: count those of a pipe, ask or tell who reads it."""

from __future__ import annotations

from time import monotonic
from typing import Final

EXACT: Final = 1000
"""Up to this capacity they are counted for each parcel: a channel's is 100, usually."""
SHARE: Final = 10
REMEMBERED: Final = 1000


class Room:
    """Of one session. After a count that left room for many, a tenth of that is pushed without counting. So a single
    sender keeps to a large capacity exactly, and several together may exceed it by a tenth each at most."""

    def __init__(self) -> None:
        self._free: dict[str, int] = {}

    def is_to_be_counted(self, pipe: str, room: int) -> bool:
        """Ask once for each parcel."""
        if room <= EXACT:
            return True
        free = self._free.get(pipe, 0)
        if free <= 0:
            return True
        self._free[pipe] = free - 1
        return False

    def counted(self, pipe: str, held: int, room: int) -> None:
        """There were so many."""
        if room > EXACT:
            if len(self._free) >= REMEMBERED:
                self._free.clear()
            self._free[pipe] = (room - held) // SHARE


class Seldom:
    """What is done once in so many seconds for each pipe."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._done: dict[str, float] = {}

    def is_due(self, pipe: str) -> bool:
        """Whether to do it now; then it is taken as done."""
        now = monotonic()
        if now - self._done.get(pipe, -self._seconds) < self._seconds:
            return False
        if len(self._done) >= REMEMBERED:
            self._done.clear()
        self._done[pipe] = now
        return True

    def forget(self) -> None:
        """It is due for all."""
        self._done.clear()
