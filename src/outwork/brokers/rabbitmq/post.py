"""Sending jobs: where each goes, that the way is there, and that all arrive."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic, sleep
from typing import Final, NamedTuple

from outwork.brokers.rabbitmq.frames import Parcel, Properties
from outwork.brokers.rabbitmq.link import Link
from outwork.brokers.rabbitmq.messages import Message
from outwork.brokers.rabbitmq.options import Options
from outwork.brokers.rabbitmq.publisher import Batch, Publisher, Rejected, Unroutable, Unsendable
from outwork.brokers.rabbitmq.talk import explained
from outwork.brokers.rabbitmq.topology import Route, Topology
from outwork.errors import BrokerFull, BrokerUnavailable, EnqueueError

PAUSE: Final = 0.1
STARTING: Final = 2.0
"""Seconds for which a queue that rejects is asked again: a quorum queue that another process has just declared does so
until it has a leader. What is rejected is not stored."""
MOST_LOSSES: Final = 5
LONGEST_EXPIRATION: Final = 2**32 - 1


class Letter(NamedTuple):
    """A message on its way to a queue; `levels` where it is to wait before."""

    parcel: Parcel
    target: str
    levels: tuple[int, ...] = ()
    once: bool = False


class Post:
    """Makes letters of messages, and sends them."""

    def __init__(self, options: Options, topology: Topology, link: Link) -> None:
        self._options = options
        self._topology = topology
        self._link = link

    # ---- writing ----------------------------------------------------------------------------------------------------

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

    # ---- sending ----------------------------------------------------------------------------------------------------

    def declare(self, letters: Sequence[Letter]) -> None:
        """See to it that the queues and the ways to them are there."""
        topology, link = self._topology, self._link
        missing = {letter.target for letter in letters if not link.is_declared(letter.target)}
        if missing:
            jobs = [name for name in missing if name != topology.dead and not topology.is_parked(name)]
            link.declare([topology.dead_letters(), *map(topology.queue, jobs)])
        for target, levels in {(letter.target, letter.levels) for letter in letters if letter.levels}:
            link.declare_way(target, list(levels))

    def send(self, letters: Sequence[Letter], *, resend: bool) -> dict[int, EnqueueError]:
        """Send all, and wait until they are confirmed; those refused by their index.

        `resend`: what was on its way when the connection was lost is sent once more (a job that is delivered at most
        once never is). Raises BrokerUnavailable, BrokerFull, BrokerRefused.
        """
        start = monotonic()
        deadline = start + self._options.put_timeout
        waiting = list(range(len(letters)))
        refused: dict[int, EnqueueError] = {}
        lost: Exception | None = None
        losses = redeclared = 0
        fresh = self._link.open_publisher is None
        while waiting:
            try:
                publisher = self._ready(letters, deadline)
            except BrokerUnavailable:
                if not fresh:
                    fresh = True
                    continue  # it was dead already: nothing was sent
                if lost is None or monotonic() > deadline - self._options.put_timeout / 2:
                    raise
                sleep(PAUSE)
                continue
            fresh = True
            batch = publisher.publish([letters[index].parcel for index in waiting])
            if not self._options.confirm:
                return {}
            self._await(publisher, batch, deadline)
            unsure: list[int] = []
            unroutable: list[int] = []
            rejected: list[int] = []
            for place, error in batch.errors.items():
                index = waiting[place]
                if isinstance(error, Unroutable) and not redeclared:
                    self._link.forget(letters[index].target)
                    unroutable.append(index)
                elif isinstance(error, Rejected) and monotonic() < min(start + STARTING, deadline):
                    rejected.append(index)
                elif isinstance(error, Unroutable | Rejected | Unsendable):
                    refused[index] = self._refusal(letters[index], error)
                else:
                    lost = error
                    unsure.append(index)
            if unsure and lost is not None:
                losses += 1
                if not resend or losses > MOST_LOSSES or any(letters[index].once for index in unsure):
                    raise explained(lost, self._options, "publishing") from lost
            if rejected:
                sleep(PAUSE)
            redeclared += bool(unroutable)
            waiting = unsure + unroutable + rejected
        return refused

    def _ready(self, letters: Sequence[Letter], deadline: float) -> Publisher:
        """The publisher, with all declared, and not blocked."""
        publisher = self._link.publisher()
        self.declare(letters)
        while publisher.blocked and monotonic() < deadline:
            sleep(PAUSE)
        if publisher.blocked:
            raise self._blocked(publisher, "Nothing was enqueued")
        return self._link.publisher()

    def _await(self, publisher: Publisher, batch: Batch, deadline: float) -> None:
        if not batch.parcels or batch.wait(max(0.1, deadline - monotonic())):
            return
        if publisher.blocked:
            raise self._blocked(publisher, "What was sent may be enqueued when it goes on")
        publisher.loop.call(publisher.connection.close)
        raise BrokerUnavailable(
            f"{self._options.shown} did not confirm within {self._options.put_timeout:g} s. The job may or may not be "
            "enqueued: enqueue it again with the same id"
        )

    def _blocked(self, publisher: Publisher, consequence: str) -> BrokerFull:
        return BrokerFull(
            f"{self._options.shown} takes no messages at the moment ({publisher.blocked}), for "
            f"{self._options.put_timeout:g} s already. {consequence}. Look at:  rabbitmq-diagnostics alarms"
        )

    def _refusal(self, letter: Letter, error: Exception) -> EnqueueError:
        kind = BrokerFull if isinstance(error, Rejected) else EnqueueError
        return kind(f"{self._options.shown}: {letter.target}: {error}. Nothing was enqueued")
