"""What this process has claimed: which delivery stands behind each claim, and what was settled before."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from outwork.brokers.base import Claimed
from outwork.brokers.rabbitmq.intake import Intake
from outwork.brokers.rabbitmq.lines import Delivery
from outwork.brokers.rabbitmq.topology import SUSPECT
from outwork.job import Answer

REMEMBERED: Final = 10_000
EXCHANGES: Final = 64


class Held:
    """A claimed job. `acked`: its message is gone already, because it must not be delivered twice; `doubtful`: then it
    was published anew, and nobody knows whether that has arrived. `moving`: what follows it is being published."""

    __slots__ = ("acked", "claim_id", "delivery", "doubtful", "intake", "moving")

    def __init__(self, delivery: Delivery, intake: Intake, claim_id: str) -> None:
        self.delivery = delivery
        self.intake = intake
        self.claim_id = claim_id
        self.acked = False
        self.doubtful = False
        self.moving = False

    @property
    def alive(self) -> bool:
        """Whether the claim still holds."""
        return self.acked or self.intake.ended is None


class Hand:
    """All claims of a broker object. Used under its lock."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self._suspects: list[Held] = []
        self._settled: dict[tuple[str, str], None] = {}
        self._order: deque[tuple[str, str]] = deque()
        self._exchanges: OrderedDict[str, list[Held]] = OrderedDict()

    def hold(self, delivery: Delivery, intake: Intake, claim_id: str) -> Held:
        """Claim a delivered job."""
        held = self.held[delivery.message.id] = Held(delivery, intake, claim_id)
        if delivery.line.tier == SUSPECT:
            self._suspects.append(held)
        return held

    def suspects(self) -> int:
        """How many suspects are in hand."""
        if self._suspects:
            held = self.held
            self._suspects = [one for one in self._suspects if one.alive and held.get(one.delivery.message.id) is one]
        return len(self._suspects)

    def find(self, job_id: str, claim_id: str) -> Held | Answer:
        """The claim, if it can be settled; else what to answer."""
        held = self.held.get(job_id)
        if held is None or held.claim_id != claim_id:
            return Answer.ALREADY if (job_id, claim_id) in self._settled else Answer.STALE
        if not held.alive:
            del self.held[job_id]
            return Answer.STALE
        return Answer.ALREADY if held.moving else held

    def drop(self, held: Held) -> None:
        """It is settled: remember that for a while."""
        job_id = held.delivery.message.id
        if self.held.get(job_id) is held:
            del self.held[job_id]
        key = (job_id, held.claim_id)
        self._settled[key] = None
        self._order.append(key)
        if len(self._order) > REMEMBERED:
            self._settled.pop(self._order.popleft(), None)

    def taken(self, claim_id: str, taken: list[Held]) -> None:
        """Remember what an exchange claimed."""
        if taken:
            self._exchanges[claim_id] = taken
            if len(self._exchanges) > EXCHANGES:
                self._exchanges.popitem(last=False)

    def still_held(self, claim_id: str) -> list[Claimed]:
        """What an exchange of this id claimed before, as far as it holds it."""
        before = self._exchanges.get(claim_id, ())
        return [
            held.delivery.message.claimed(claim_id)
            for held in before
            if held.alive and self.held.get(held.delivery.message.id) is held
        ]
