"""When the parcels of a pipe have to be counted, where counting them costs as much as there are."""

from __future__ import annotations

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
