"""How far away the broker is, judged by how long its answers take, and what a worker does about it.

An exchange with a server in the same room takes a few milliseconds, most of which are work. With one that is far away,
or slow, most of it is waiting: jobs have to be asked for a round trip before they are needed, in larger batches, and
where the broker can do it in several exchanges at once, spread over the round trip.
"""

from __future__ import annotations

from collections import deque
from typing import Final

FAR: Final = 0.01
"""Seconds of waiting in an exchange from which a broker is far away."""
FARTHEST: Final = 0.5
"""Seconds that are bridged at most: what is asked for longer ahead waits for nobody's sake."""
WORK: Final = 25e-6
"""Seconds of an exchange for each job in it, which are no waiting (PostgreSQL: 23 us in batches of 1,000)."""
BATCH: Final = 200
"""Jobs claimed at once at most: beyond that PostgreSQL gets slower again (measured: 73 k/s at 200, 43 k/s at 1,000)."""
FAR_BATCH: Final = 1000
"""The same where the way takes longer than the work."""
LOOKS: Final = 16
"""Exchanges before anything is said of the way."""
REMEMBERED: Final = 64
"""Exchanges of which the shortest counts. A busy machine holds up most of them, the way all: a worker that took the one
for the other would do four things at once where there is no time for one."""
FAR_BYTES: Final = 4 * 1024 * 1024
"""Of such a batch; one of larger jobs is smaller."""


class Distance:
    """What is known of the way to the broker. `near` and `afar` exchanges make sense at once."""

    def __init__(self, near: int = 1, afar: int = 1) -> None:
        self.waiting = 0.0
        """Seconds of an exchange in which nobody works."""
        self._near = near
        self._afar = afar
        self._body = 0.0
        self._last: deque[float] = deque(maxlen=REMEMBERED)

    @property
    def far(self) -> bool:
        return self.waiting >= FAR

    @property
    def at_once(self) -> int:
        """How many exchanges may be under way."""
        return self._afar if self.far else self._near

    @property
    def apart(self) -> float:
        """Seconds between the beginnings of two exchanges under way: together they would come back together, too."""
        return self.waiting / self._afar if self.far else 0.0

    @property
    def batch(self) -> int:
        """How many jobs may be claimed at once."""
        if not self.far:
            return BATCH
        return max(BATCH, min(FAR_BATCH, int(FAR_BYTES / max(self._body, 1.0))))

    def learn(self, seconds: float, settled: int, bodies: list[int]) -> None:
        """Take note of an exchange: how long it took, how many outcomes went, and the sizes of the jobs that came."""
        self._last.append(seconds - WORK * (settled + len(bodies)))
        if len(self._last) >= LOOKS:
            self.waiting = min(FARTHEST, max(0.0, min(self._last)))
        if bodies:
            mean = sum(bodies) / len(bodies)
            self._body = mean if mean > self._body else 0.7 * self._body + 0.3 * mean
