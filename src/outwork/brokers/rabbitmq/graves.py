"""The dead letters: looked at, run again, forgotten.

A look takes them without acknowledging them, on a channel of its own, and puts them back. A quorum queue counts that,
and from RabbitMQ 4.0 on drops a message that came back 20 times, whatever for: so one that has been looked at often is
published anew, confirmed, and then acknowledged.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from threading import Event
from time import time
from typing import Any, Final, NamedTuple

from outwork import codec
from outwork.brokers.rabbitmq.driver import Channel, Connection, Got, Loop
from outwork.brokers.rabbitmq.link import Link
from outwork.brokers.rabbitmq.messages import Message, of_delivery
from outwork.brokers.rabbitmq.options import Options
from outwork.brokers.rabbitmq.post import Post
from outwork.brokers.rabbitmq.sending import Letter
from outwork.brokers.rabbitmq.talk import REPLY_TIMEOUT, Talk, explained
from outwork.brokers.rabbitmq.topology import Route
from outwork.errors import OutworkError, Undecodable
from outwork.job import Failure, Job, Record, State, remember

logger = logging.getLogger("outwork.brokers.rabbitmq")

LOOKED_AT: Final = 10_000
BYTES_LOOKED_AT: Final = 64 << 20
"""Where a look ends."""


class Dead(NamedTuple):
    """A dead letter in hand."""

    tag: int
    got: Got
    message: Message
    record: Record


class Visit(Talk):
    """A channel that takes dead letters; what is not acknowledged goes back."""

    def __init__(self, loop: Loop, connection: Connection, channel: Channel, queue: str) -> None:
        self._gone = Event()
        super().__init__(loop, connection, channel)
        self._queue = queue
        self.has_more = False

    def on_end(self, reason: Exception) -> None:
        self._gone.set()

    def take(self) -> Iterator[Dead]:
        """The oldest ones, up to the bounds."""
        size = 0
        for _ in range(LOOKED_AT):
            got: Got | None = self.ask(partial(_get, self._queue)).result(REPLY_TIMEOUT)
            if got is None:
                return
            yield dead_of(got)
            size += len(got.body)
            if size > BYTES_LOOKED_AT:
                break
        self.has_more = True

    def ack(self, dead: Collection[Dead]) -> None:
        for one in dead:
            self.loop.call(partial(self.channel.ack, one.tag, False))

    def end(self) -> None:
        """Put back what is still in hand; returns when the queue has it, so that the next one sees it."""
        if self.ended is None:
            self.loop.call(self.channel.put_all_back)
            self.ask(partial(_look, self._queue)).result(REPLY_TIMEOUT)
            self.loop.call(self.channel.close)
            self._gone.wait(REPLY_TIMEOUT)


class Graves:
    """All that can be done about dead letters."""

    def __init__(self, options: Options, link: Link, post: Post) -> None:
        self._options = options
        self._link = link
        self._post = post

    def look(self, ids: Collection[str] | None) -> list[Record]:
        """Their records, the oldest first."""
        with self._visit() as visit:
            return [one.record for one in self._meant(visit, ids, stay=True)]

    def revive(self, ids: Collection[str]) -> set[str]:
        """Publish these jobs anew, from the start, and then let the dead ones go."""
        with self._visit() as visit:
            meant = [one for one in self._meant(visit, ids, stay=False) if one.message.queue]
            letters = {one.record.id: self._post.job(anew(one.message)) for one in meant}
            self._exchange(visit, meant, letters)
            return set(letters)

    def forget(self, ids: Collection[str]) -> set[str]:
        """Let these go."""
        with self._visit() as visit:
            meant = self._meant(visit, ids, stay=False)
            visit.ack(meant)
            return {one.record.id for one in meant}

    @contextmanager
    def _visit(self) -> Iterator[Visit]:
        queue = self._link.topology.dead_letters()
        self._link.declare([queue])
        visit = Visit(*self._link.further_channel(), queue.name)
        try:
            yield visit
            visit.end()
        except OutworkError:
            visit.loop.call(visit.channel.close)
            raise
        except Exception as error:
            visit.loop.call(visit.channel.close)
            raise explained(error, self._options, "its dead letters") from error

    def _meant(self, visit: Visit, ids: Collection[str] | None, *, stay: bool) -> list[Dead]:
        """Those with these ids. What stays and is tired is renewed."""
        wanted = None if ids is None else set(ids)
        meant: list[Dead] = []
        tired: list[Dead] = []
        for one in visit.take():
            is_meant = wanted is None or one.record.id in wanted
            if is_meant:
                meant.append(one)
            if one.message.is_tired and (stay or not is_meant):
                tired.append(one)
        if visit.has_more:
            logger.warning("%s has more dead letters; only the oldest ones were looked at", self._options.shown)
        if tired:
            self._exchange(visit, tired, {one.record.id: self._again_dead(one) for one in tired})
        return meant

    def _again_dead(self, one: Dead) -> Letter:
        """The same dead letter, for the time that is left of its own."""
        message = one.message.copy()
        message.add_errors(one.record.errors)
        headers = message.all_headers(reason=one.record.errors[-1].message[:1000], queue=message.queue)
        left = one.got.properties.expiration
        if left is not None:
            age = max(0.0, time() - one.record.errors[-1].at)
            left = str(max(1, int(left) - int(age * 1000)))
        return self._post.direct(Route("", self._link.topology.dead), message, headers, left)

    def _exchange(self, visit: Visit, dead: list[Dead], letters: dict[str, Letter]) -> None:
        """Publish these, and acknowledge the dead letters for which that was confirmed."""
        ids, moved = list(letters), self._post.send(list(letters.values()), resend=True)
        kept = {ids[index] for index in (*moved.refused, *moved.unsure)}
        visit.ack([one for one in dead if one.record.id not in kept])
        for error in moved.refusals().values():
            raise error


def anew(message: Message) -> Message:
    """A job from the start, its history kept."""
    again = message.copy()
    again.failures = again.crashes = again.misses = 0
    again.headers = {name: value for name, value in message.headers.items() if name != "expires"}
    return again


def dead_of(got: Got) -> Dead:
    """A dead letter, whoever made it: a worker, or the server (a delivery limit, say)."""
    headers = got.properties.headers or {}
    message = of_delivery("", got.properties, got.body)
    try:
        job: Job | None = codec.decode_job(message.envelope)
    except Undecodable:
        job = None
    message.queue = str(headers.get("queue") or (job.queue if job is not None else ""))
    failure = _reason(headers, message, job)
    errors = message.errors if failure is None else remember(message.errors, failure)
    record = Record(
        id=message.id,
        task=job.task if job is not None else "?",
        queue=message.queue,
        priority=job.priority if job is not None else 0,
        body=message.envelope,
        state=State.FAILED,
        due=job.created if job is not None else 0.0,
        enqueued_at=job.created if job is not None else 0.0,
        max_crashes=message.max_crashes,
        at_most_once=message.once,
        failures=message.failures,
        crashes=message.crashes,
        misses=message.misses,
        errors=errors,
        finished_at=errors[-1].at if errors else None,
    )
    return Dead(got.tag, got, message, record)


def _reason(headers: dict[str, Any], message: Message, job: Job | None) -> Failure | None:
    """What its last error does not say: why it is here."""
    said = headers.get("reason")
    if said is not None and message.errors:
        return None
    deaths = headers.get("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    when = last.get("time")
    text = said or f"RabbitMQ took it out of {last.get('queue', 'its queue')}: {last.get('reason', 'no reason given')}"
    at = when.timestamp() if isinstance(when, datetime) else job.created if job is not None else 0.0
    attempt = message.failures + message.crashes
    return Failure(exception="DeadLetter", message=str(text), traceback="", attempt=attempt, worker="", at=at)


def _get(queue: str, channel: Channel, reply: Any) -> None:
    channel.get(queue, reply)


def _look(queue: str, channel: Channel, reply: Any) -> None:
    channel.look_at_queue(queue, reply)
