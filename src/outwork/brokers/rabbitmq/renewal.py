"""Long jobs. RabbitMQ takes a message back that is not acknowledged in time (30 minutes if nobody says otherwise), and
closes the channel for that; no client can read how long it waits, and before 4.3 none can change it.

So a message that has been in hand for a third of that time is renewed: a copy is published into a queue that only this
channel consumes, comes back at once, and takes the place of the first, which is acknowledged. When this worker dies the
copy, whose time to live is over by then, goes to the queue of crashed jobs, or of suspects.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from threading import Condition
from time import monotonic
from typing import Final

from outwork.brokers.rabbitmq.hand import Hand, Held
from outwork.brokers.rabbitmq.lines import Delivery
from outwork.brokers.rabbitmq.link import Link
from outwork.brokers.rabbitmq.options import Options
from outwork.brokers.rabbitmq.post import Post
from outwork.brokers.rabbitmq.sending import Letter
from outwork.brokers.rabbitmq.topology import SUSPECT, Route
from outwork.ids import new_claim_id

ROOM: Final = 10_000


class Renewal:
    """Renews the messages of long jobs."""

    def __init__(self, options: Options, link: Link, post: Post, changed: Condition) -> None:
        self._after = options.consumer_timeout / 3
        self._link = link
        self._post = post
        self._changed = changed

    def renew(self, holding: Sequence[Held], hand: Hand) -> None:
        """Renew those that have been in hand for long."""
        old = monotonic() - self._after
        letters = [self._copy(held, hand) for held in holding if held.delivery.since <= old and not held.acked]
        if letters:
            self._post.send(letters, resend=False).refusals()

    def _copy(self, held: Held, hand: Hand) -> Letter:
        """The copy, and somebody who waits for it."""
        intake, message = held.intake, held.delivery.message
        topology = self._link.topology
        back = topology.tier(message.queue, min(message.crashes + 1, SUSPECT))
        parked = topology.parked(topology.tier(message.queue, 0), intake.owner, back)
        self._link.declare([topology.dead_letters(), topology.queue(back), parked])
        intake.serve([(intake.line(message.queue, parked.name, parked=True), ROOM)])
        mark = new_claim_id()
        intake.renewals[mark] = partial(self._renewed, held, hand)
        return self._post.direct(Route("", parked.name), message, message.all_headers(parked=mark))

    def _renewed(self, held: Held, hand: Hand, delivery: Delivery) -> None:
        """On the I/O thread: the copy is here."""
        with self._changed:
            ended = delivery
            if hand.held.get(delivery.message.id) is held:
                delivery.message = held.delivery.message
                ended, held.delivery = held.delivery, delivery
        held.intake.ack([ended])
