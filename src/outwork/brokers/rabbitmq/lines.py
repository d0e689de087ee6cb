"""What has been delivered and not yet claimed: one line for each queue that is consumed."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Final

from outwork.brokers.rabbitmq.messages import Message

CHANGE_EVERY: Final = 1.0
"""Seconds between two changes of a consumer's prefetch, unless it has used its prefetch up."""


class Delivery:
    """A message in hand, to be acknowledged on the channel that brought it."""

    __slots__ = ("line", "message", "since", "tag", "turn")

    def __init__(self, tag: int, line: Line, turn: int, message: Message, since: float) -> None:
        self.tag = tag
        self.line = line
        self.turn = turn
        self.message = message
        self.since = since


class Line:
    """A queue as one channel consumes it. All but its name changes under the lock of its intake.

    A prefetch belongs to a consumer and cannot be changed, so a new consumer takes the place of the old one, each time
    with the next `turn`; what the old one brought stays in hand, and no longer counts against the new one.
    """

    def __init__(self, name: str, queue: str, *, tier: int = 0, parked: bool = False) -> None:
        self.name = name
        self.queue = queue
        self.tier = tier
        self.parked = parked
        self.buffer: deque[Delivery] = deque()
        self.tag: str | None = None
        self.turn = 0
        self.prefetch = 0
        self.in_hand = 0
        """What the present consumer has brought and nobody has acknowledged."""
        self.in_hand_before = 0
        """The same of consumers before it."""
        self.changed_at = 0.0
        self.asked_at = monotonic()
        """When somebody last had room for more."""
        self.resting = False
        """Whether this queue has no turn at present, so that nobody waits for it."""

    def next_prefetch(self, more: int) -> int | None:
        """The prefetch of a new consumer, if one is needed so that `more` can be claimed; None if none is."""
        missing = more - len(self.buffer)
        if missing <= 0:
            return None
        if self.tag is None:
            return missing
        if missing <= self.prefetch - self.in_hand:
            return None
        used_up = self.in_hand >= self.prefetch
        worth_it = self.in_hand + missing > 1.25 * self.prefetch
        if used_up or (worth_it and monotonic() - self.changed_at >= CHANGE_EVERY):
            return missing + self.in_hand
        return None

    def turn_over(self, prefetch: int) -> tuple[str | None, str, int]:
        """Begin the next turn: the tag of the consumer that ends, the tag of the new one and its turn."""
        before = self.tag
        self.turn += 1
        self.tag = f"outwork-{self.turn}-{self.queue}"[:200]
        self.prefetch = prefetch
        self.in_hand_before += self.in_hand
        self.in_hand = 0
        self.changed_at = monotonic()
        return before, self.tag, self.turn

    def pause(self) -> tuple[str, int] | None:
        """Consume no more for now: the tag of the consumer that ends and its turn."""
        if self.tag is None:
            return None
        before, self.tag = self.tag, None
        return before, self.turn

    def arrived(self, delivery: Delivery) -> None:
        """Count a delivery."""
        if delivery.turn == self.turn:
            self.in_hand += 1
        else:
            self.in_hand_before += 1

    def left(self, delivery: Delivery) -> None:
        """Count an acknowledgement."""
        if delivery.turn == self.turn:
            self.in_hand -= 1
        else:
            self.in_hand_before -= 1
