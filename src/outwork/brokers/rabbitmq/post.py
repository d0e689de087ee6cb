"""Jobs on their way out: what is written on each, and where it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from outwork.brokers.rabbitmq.frames import Parcel, Properties
from outwork.brokers.rabbitmq.link import Link
from outwork.brokers.rabbitmq.messages import Message
from outwork.brokers.rabbitmq.options import Options
from outwork.brokers.rabbitmq.sending import Letter, Sending, Sent
from outwork.brokers.rabbitmq.topology import Route, Topology

LONGEST_EXPIRATION: Final = 2**32 - 1


class Post:
    """Makes letters of messages, and sends them."""

    def __init__(self, options: Options, topology: Topology, link: Link) -> None:
        self._options = options
        self._topology = topology
        self._link = link

    def job(self, message: Message, delay: float = 0.0, due: float | None = None) -> Letter:
        """To the queue of its job, now or after a delay."""
        topology = self._topology
        target = topology.tier(message.queue, message.tier)
        once = message.once
        if delay <= 0:
            made = Properties(message.id, message.all_headers(), message.priority)
            return Letter(Parcel("", target, message.body, made), target, (), once)
        route, levels = topology.delayed(target, delay)
        made = Properties(
            message.id, message.all_headers(due=None if due is None else int(due * 1000)), message.priority
        )
        return Letter(Parcel(route.exchange, route.key, message.body, made), target, tuple(levels), once)

    def dead(self, message: Message, reason: str, keep: float) -> Letter:
        """To the dead letters, for so many seconds."""
        expiration = str(min(int(keep * 1000), LONGEST_EXPIRATION))
        headers = message.all_headers(reason=reason[:1000], queue=message.queue)
        return self.direct(Route("", self._topology.dead), message, headers, expiration)

    def direct(
        self, route: Route, message: Message, headers: dict[str, object] | None, expiration: str | None = None
    ) -> Letter:
        made = Properties(message.id, headers, message.priority, expiration)
        return Letter(Parcel(route.exchange, route.key, message.body, made), route.key)

    def send(self, letters: Sequence[Letter], *, resend: bool) -> Sent:
        """Send all, and wait until they are confirmed.

        `resend`: what was on its way when the connection was lost is sent once more (a job that is delivered at most
        once never is). Raises BrokerUnavailable, BrokerFull, BrokerRefused if nothing was sent.
        """
        return Sending(self._options, self._link, letters, resend=resend).carry_out()
