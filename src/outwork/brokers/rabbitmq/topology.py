"""Which queues and exchanges there are, and the way of a delayed message through them. Pure: nothing is sent here.

    default exchange ──> P.q.NAME             jobs that may be prefetched
                    ──> P.solo.NAME           jobs claimed for a free slot only: crashed, at most once
                    ──> P.suspect.NAME        jobs that crashed twice, claimed one at a time
                    ──> P.dead                jobs that ended badly, with the reason
    P.delay.24 ──1──> queue P.delay.24, expires ──> P.delay.23 ──0──> P.delay.22 ...  ──> P.due ──> P.q.NAME

A delay is a number of units of 250 ms. Its binary digits stand in the routing key, from the highest level down; at each
level the message waits in a queue (1) or passes by (0). So any delay is kept by a few dozen queues at the most, none of
which ever has a message behind one that has to wait longer.
"""

from __future__ import annotations

import math
import re
from hashlib import blake2b
from typing import Final, NamedTuple

from outwork.brokers.rabbitmq.driver import Arguments
from outwork.brokers.rabbitmq.options import QueueType

UNIT: Final = 0.25
TOP_BITS: Final = 24
"""The longest time to live that RabbitMQ takes is 2**32 ms; 2**24 units are 48.5 days."""
LEVELS: Final = tuple(1 << bit for bit in range(TOP_BITS + 1)) + (1 << TOP_BITS,) * 6
"""The units that each level waits. Beyond the binary digits some of the longest ones, for a year in all."""
LONGEST: Final = sum(LEVELS) * UNIT
WORDS: Final = ("q", "solo", "suspect")
TIERS: Final = len(WORDS)
SUSPECT: Final = 2
PRIORITIES: Final = 10
HIGH: Final = 5
PARKED: Final = ".parked."
PARKED_SECONDS: Final = 1


class Queue(NamedTuple):
    """A queue to declare."""

    name: str
    arguments: Arguments


class Route(NamedTuple):
    """Where a message is published."""

    exchange: str
    key: str


def level_of(priority: int, levels: int) -> int | None:
    """One of -100..100 as RabbitMQ's 0..levels-1; None where there are none. Two (quorum queues of 4.0 to 4.2) are
    "normal" and "high", which begins above 4 and is served twice as often, not always first."""
    if levels == 2:
        return HIGH if priority > 0 else 0
    return None if levels == 1 else (priority + 100) * (levels - 1) // 200


def units_of(delay: float) -> int:
    """A delay in units, never too short."""
    return max(1, math.ceil(delay / UNIT))


def digits_of(units: int) -> list[int]:
    """The levels at which a message of this delay waits, the highest first."""
    waits: list[int] = []
    for level in reversed(range(len(LEVELS))):
        if LEVELS[level] <= units:
            units -= LEVELS[level]
            waits.append(level)
    return waits


def token(name: str) -> str:
    """A queue's name as one word of a routing key."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name):
        return name
    return "~" + blake2b(name.encode(), digest_size=16).hexdigest()


class Topology:
    """The names in use under one prefix, and how each is declared."""

    def __init__(self, prefix: str, kind: QueueType) -> None:
        self.prefix = prefix
        self.kind = kind
        self.dead = f"{prefix}.dead"
        self.due = f"{prefix}.due"

    def tier(self, name: str, tier: int) -> str:
        """The queue of the jobs of this queue that are claimed so carefully."""
        return f"{self.prefix}.{WORDS[tier]}.{_fitting(name)}"

    def queue(self, amqp_name: str) -> Queue:
        """A queue of jobs. What the server drops (a delivery limit, an overflow) goes to the dead letters."""
        arguments: dict[str, str | int] = {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.dead,
            **self._kind(),
        }
        if self.kind == "classic":
            arguments["x-max-priority"] = PRIORITIES - 1
        return Queue(amqp_name, arguments)

    def dead_letters(self) -> Queue:
        return Queue(self.dead, {"x-queue-type": self.kind})

    def parked(self, amqp_name: str, owner: str, back: str) -> Queue:
        """Where the message of a long job is renewed: its only consumer is the worker that runs the job; when that is
        gone the message is overdue at once and goes back to be run again."""
        return Queue(
            f"{amqp_name}{PARKED}{owner}.{back.split('.')[1]}",
            {
                "x-message-ttl": PARKED_SECONDS * 1000,
                "x-expires": 86_400_000,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": back,
                **self._kind(),
            },
        )

    def is_parked(self, amqp_name: str) -> bool:
        return PARKED in amqp_name

    def _kind(self) -> dict[str, str | int]:
        """The type of a queue from which messages are dead-lettered: without a loss where RabbitMQ can."""
        if self.kind == "classic":
            return {"x-queue-type": "classic"}
        return {
            "x-queue-type": "quorum",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }

    # ---- the ladder -------------------------------------------------------------------------------------------------

    def rung(self, level: int) -> str:
        """The name of a level's exchange and of its queue."""
        return f"{self.prefix}.delay.{level}"

    def below(self, level: int) -> str:
        """The exchange to which a level passes on."""
        return self.rung(level - 1) if level else self.due

    def rung_queue(self, level: int) -> Queue:
        return Queue(
            self.rung(level),
            {
                "x-message-ttl": int(LEVELS[level] * UNIT * 1000),
                "x-dead-letter-exchange": self.below(level),
                **self._kind(),
            },
        )

    def pattern(self, level: int, digit: int) -> str:
        """The routing keys that wait at a level (1), or pass it by (0)."""
        return "*." * (len(LEVELS) - 1 - level) + f"{digit}.#"

    def delayed(self, amqp_name: str, delay: float) -> tuple[Route, list[int]]:
        """The way of a message that comes to this queue after so many seconds, and the levels where it waits."""
        waits = digits_of(units_of(delay))
        digits = ".".join("1" if level in waits else "0" for level in reversed(range(len(LEVELS))))
        return Route(self.rung(waits[0]), f"{digits}.{token(amqp_name)}"), waits


def _fitting(name: str) -> str:
    """The name itself where AMQP takes it (255 bytes in all)."""
    return name if len(name.encode()) <= 160 else token(name)
