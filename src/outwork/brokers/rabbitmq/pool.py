"""Which of the delivered messages a worker may claim now, and in which order.

Each queue of jobs is three in RabbitMQ, because a message that was delivered to a worker that died comes back without a
word about whether it had been started:

0. jobs that may be prefetched. One that comes back was at least near a death: it goes to
1. jobs claimed for a free slot only. They are not delivered before there is one, so one that comes back has, but for
   a few milliseconds, been started: with its second crash it goes to
2. suspects, of which a worker has one in hand at a time: so the one that kills its workers no longer takes others with
   it, and those go back to life one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Condition
from typing import Final

from outwork.brokers.base import Share
from outwork.brokers.rabbitmq.hand import Hand, Held
from outwork.brokers.rabbitmq.intake import Intake
from outwork.brokers.rabbitmq.lines import Delivery, Line
from outwork.brokers.rabbitmq.link import Link
from outwork.brokers.rabbitmq.messages import Message
from outwork.brokers.rabbitmq.topology import SUSPECT, TIERS, Topology

BUSY: Final = 50
"""A worker that claims so many at once runs tiny tasks: the next batch comes while it runs this one."""


class Pool:
    """The lines of a broker object. Whatever has to do with time is told, the lock is the broker's."""

    def __init__(self, topology: Topology, link: Link, hand: Hand, changed: Condition) -> None:
        self._topology = topology
        self._link = link
        self._hand = hand
        self._changed = changed
        self._free = 0

    def lines(self, intake: Intake, names: Sequence[str]) -> list[tuple[Line, ...]]:
        """The lines of each of these queues, which are declared."""
        topology = self._topology
        found = [
            tuple(intake.line(name, topology.tier(name, tier), tier=tier) for tier in range(TIERS)) for name in names
        ]
        missing = [line.queue for lines in found for line in lines if not self._link.is_declared(line.queue)]
        if missing:
            self._link.declare([topology.dead_letters(), *map(topology.queue, missing)])
        return found

    def counts(self, line: Line) -> bool:
        """Whether what arrives in this line is work for those who wait. Under the lock."""
        if line.resting or (line.tier and self._free <= 0):
            return False
        return line.tier != SUSPECT or not self._hand.suspects()

    def wanted(
        self, intake: Intake, found: list[tuple[Line, ...]], queues: Sequence[Share], limit: int, free: int
    ) -> list[tuple[Line, int]]:
        """How many more are wanted from each line; the others rest."""
        now = time.monotonic()
        wanted: list[tuple[Line, int]] = []
        with self._changed:
            self._free = free
            suspects = self._hand.suspects()
            for line in intake.lines.values():
                line.resting = True
            for lines, (_, most) in zip(found, queues, strict=True):
                whole = min(limit, most)
                ahead = whole * 2 if whole >= BUSY else whole
                for line, more in zip(lines, (ahead, min(whole, free), min(whole, free, 1 - suspects)), strict=True):
                    line.resting = more <= 0
                    if more > 0:
                        line.asked_at = now
                        wanted.append((line, more))
        return wanted

    def take(
        self,
        found: list[tuple[Line, ...]],
        queues: Sequence[Share],
        limit: int,
        free: int,
        now: float,
        hold: Callable[[Delivery], Held],
    ) -> tuple[list[Held], list[Delivery], list[Delivery]]:
        """What is claimed, the oldest first, what is in hand already, and what has expired. Under the lock."""
        taken: list[Held] = []
        gone: list[Delivery] = []
        expired: list[Delivery] = []
        held_now = self._hand.held
        suspects = self._hand.suspects()
        for lines, (_, most) in zip(found, queues, strict=True):
            left = min(most, limit - len(taken))
            passed_over: list[Delivery] = []
            while left > 0 and (line := _next(lines, free, suspects)) is not None:
                delivery = line.buffer.popleft()
                message = delivery.message
                known = held_now.get(message.id)
                if known is not None and known.alive:
                    # a second copy of what is in hand, or the next one of what is just being settled
                    (passed_over if known.moving else gone).append(delivery)
                elif message.expires is not None and message.expires <= now:
                    expired.append(delivery)
                else:
                    taken.append(hold(delivery))
                    free -= line.tier > 0
                    suspects += line.tier == SUSPECT
                    left -= 1
            for delivery in reversed(passed_over):
                delivery.line.buffer.appendleft(delivery)
        return taken, gone, expired


def _next(lines: tuple[Line, ...], free: int, suspects: int) -> Line | None:
    """The line whose first message is to be claimed before those of the others."""
    best = lines[0] if lines[0].buffer else None
    if free > 0:
        for line in lines[1:]:
            if line.buffer and (line.tier != SUSPECT or not suspects) and (best is None or _before(line, best)):
                best = line
    return best


def _before(one: Line, other: Line) -> bool:
    return _place(one.buffer[0].message) < _place(other.buffer[0].message)


def _place(message: Message) -> tuple[int, str]:
    return -(message.priority or 0), message.id
