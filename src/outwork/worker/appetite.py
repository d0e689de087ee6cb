"""How much a worker claims, and from which queues: free slots, a little prefetch, and every queue in its turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Final

from outwork.attempt import Attempt
from outwork.brokers.base import Share
from outwork.worker.distance import FAR_BATCH, Distance
from outwork.worker.plan import Plan
from outwork.worker.slots import Ended, Slots

PREFETCH_SECONDS: Final = 0.05
PREFETCH_PATIENCE: Final = 0.1
"""Prefetched jobs that have waited here for so long are given back, or for a round trip if that takes longer: nobody
else could have them earlier."""
OFFER_SECONDS: Final = 1.0
"""For so long at most a worker with a backlog claims only what may be prefetched."""
OFFER_WAYS: Final = 10
"""Or for so many round trips, if that is longer: while the backlog runs out, nothing runs for one of them."""
PACE: Final = 5e-5
"""Seconds from one start to the next in a process, as far as it is not measured: all slots share one interpreter, so
many slots do not start tiny jobs any faster."""


class Turns:
    """Which queue comes first: each as often as its weight says (1 if nothing is said), in turns as even as can be."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        self._weights = weights
        self._credit: dict[str, int] = {}
        self._turn = 0

    def next(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """These queues in the order of the next turn."""
        if len(names) < 2:
            return names
        if not self._weights:
            self._turn = (self._turn + 1) % len(names)
            return names[self._turn :] + names[: self._turn]
        weights = {name: self._weights.get(name, 1) for name in names}
        credit = {name: self._credit.get(name, 0) + weight for name, weight in weights.items()}
        order = sorted(names, key=lambda name: -credit[name])  # the first in line pays for the turn of all
        credit[order[0]] -= sum(weights.values())
        self._credit = credit
        return tuple(order)


class Appetite:
    """Decides how much to claim. `queues`, those that are served, may be set at any time; those that do not go on are
    passed over. `limited`: some queue has a limit of its own. `distance`: how far away the jobs are."""

    def __init__(self, slots: Slots, plan: Plan, goes_on: Callable[[str], bool], distance: Distance) -> None:
        self.queues = tuple(plan.queues)
        self.limited = any(most is not None for most in plan.queues.values())
        self._goes_on = goes_on
        self._turns = Turns(plan.weights)
        self._slots = slots
        self._limits = plan.queues
        self._distance = distance
        self._mean: float | None = None
        self._pace = PACE
        self._learned_at = monotonic()
        self._slow = False
        self._offered_at = monotonic()

    def learn(self, ended: list[Ended]) -> None:
        """Take note of how long jobs took: quickly when they get longer, slowly when they get shorter."""
        mean = sum(one.elapsed for one in ended) / len(ended)
        self._mean = mean if self._mean is None or mean > self._mean else 0.7 * self._mean + 0.3 * mean
        self._slow = False
        now, slots = monotonic(), self._slots
        if not slots.ran_out:
            self._pace = (self._pace + (now - self._learned_at) / len(ended)) / 2
        self._learned_at, slots.ran_out = now, slots.free > 0

    def room(self, asked: int) -> int:
        """How many jobs may be claimed now: free slots, and what would start until they are here and for about 50 ms
        then, but no more than one batch to run while others are on their way. So many were `asked` for already.

        Where the backlog never ends, jobs that must not be prefetched would never have their turn: now and then it has
        to run out first."""
        slots, distance = self._slots, self._distance
        prefetch = 0
        if self._mean is not None and not self._slow:
            seconds = PREFETCH_SECONDS + distance.waiting
            prefetch = int(slots.total * seconds / max(self._mean, 1e-6))
            if distance.far:
                prefetch = min(prefetch, int(seconds / max(self._pace, 1e-6)))
        waiting = len(slots.backlog) + asked
        if waiting and monotonic() - self._offered_at > max(OFFER_SECONDS, OFFER_WAYS * distance.waiting):
            return 0
        batch = distance.batch
        return max(0, min(slots.free + prefetch - waiting, batch * (1 + distance.at_once) - waiting, batch))

    def free(self, asked: int) -> int:
        """How many of them have a free slot."""
        free = max(0, self._slots.free - len(self._slots.backlog) - asked)
        if free:
            self._offered_at = monotonic()
        return free

    def late(self) -> bool:
        """Whether prefetched jobs have waited too long: a long task must not hold them back. Nothing is prefetched
        then until something has ended."""
        oldest, patience = self._slots.oldest(), max(PREFETCH_PATIENCE, self._distance.waiting)
        if oldest is not None and self._slots.free <= 0 and monotonic() - oldest.arrived_at > patience:
            self._slow = True
        return self._slow and oldest is not None

    def shares(self, room: int, hand: Iterable[Attempt], settling: Iterable[Ended]) -> list[Share]:
        """The queues in the order of their turn: each is the first as often in a round as its weight says. What is
        settled in the same exchange makes room in its queue."""
        names = self._turns.next(tuple(filter(self._goes_on, self.queues)))
        if not self.limited:
            return [Share(name, room) for name in names]
        held = self._held(hand, settling)
        shares = [Share(name, min(room, self._left(name, held))) for name in names]
        return [share for share in shares if share.most]

    def open_queues(self, hand: Iterable[Attempt]) -> tuple[str, ...]:
        """The queues from which a job could be taken now."""
        names = tuple(filter(self._goes_on, self.queues))
        if not self.limited:
            return names
        held = self._held(hand, ())
        return tuple(name for name in names if self._left(name, held))

    def _left(self, name: str, held: Counter[str]) -> int:
        most = self._limits.get(name)
        return FAR_BATCH if most is None else max(0, most - held[name])

    def _held(self, hand: Iterable[Attempt], settling: Iterable[Ended]) -> Counter[str]:
        """How many jobs of each queue are in hand, without those that are being settled."""
        ends = {(one.claimed.id, one.claimed.claim_id) for one in settling}
        return Counter(one.job.queue for one in hand if (one.claimed.id, one.claimed.claim_id) not in ends)
