"""Consuming: a channel that brings messages into the lines, and on which all of them are acknowledged.

Claims hold only as long as this channel lives. When it is gone, RabbitMQ gives what was in hand to others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from threading import Condition, Lock
from time import monotonic
from typing import Any, Final, TypeAlias

from outwork.brokers.rabbitmq.driver import Channel, Connection, Loop
from outwork.brokers.rabbitmq.frames import Properties
from outwork.brokers.rabbitmq.lines import Delivery, Line
from outwork.brokers.rabbitmq.messages import of_delivery
from outwork.brokers.rabbitmq.talk import REPLY_TIMEOUT, Talk
from outwork.ids import new_claim_id

PATIENCE: Final = 1.0
"""Seconds that a message lies in a line for which nobody has room; then it is given back."""
LOOK_EVERY: Final = 0.5
ACK_EVERY: Final = 0.002
ACK_TOGETHER: Final = 100

Divert: TypeAlias = Callable[["Intake", list[Delivery]], None]
"""Called, mostly on the I/O thread, with messages that go elsewhere."""


class Intake(Talk):
    """The consuming side of a broker."""

    def __init__(
        self,
        loop: Loop,
        connection: Connection,
        channel: Channel,
        changed: Condition,
        crashed: Divert,
        give_back: Divert,
        gone: Callable[[str], None],
    ) -> None:
        super().__init__(loop, connection, channel)
        self.changed = changed
        self.lines: dict[str, Line] = {}
        self.owner = new_claim_id()[:12]
        """Part of the names of the queues that belong to this channel alone."""
        self.renewals: dict[str, Callable[[Delivery], None]] = {}
        """Who waits for the renewed delivery of a long job, by its mark."""
        self._crashed = crashed
        self._give_back = give_back
        self._gone = gone
        self._serving = Lock()
        self._open: dict[int, None] = {}
        """The tags of what is in hand, in their order."""
        self._looking = False
        self._due: set[int] = set()
        """The tags that are to be acknowledged."""
        self._acking = False
        self._acked_at = 0.0
        channel.on_cancel(self._on_cancel)
        loop.call(channel.read_fast)

    # ---- from any thread --------------------------------------------------------------------------------------------

    def line(self, name: str, queue: str, *, tier: int = 0, parked: bool = False) -> Line:
        """The line of a queue, made when it is first asked for."""
        found = self.lines.get(queue)
        if found is not None:
            return found
        with self.changed:
            return self.lines.setdefault(queue, Line(name, queue, tier=tier, parked=parked))

    def serve(self, wanted: Sequence[tuple[Line, int]]) -> None:
        """See to it that so many more can be claimed from each line, and that what is there already has arrived."""
        with self._serving:
            replies: list[Future[Any]] = []
            for line, more in wanted:
                with self.changed:
                    prefetch = line.next_prefetch(more)
                    if prefetch is None:
                        continue
                    replies += self._change(line, min(prefetch, 65_535))
            if not replies:
                return
            replies.append(self.ask(lambda channel, reply: channel.qos(1, reply)))
            for each in replies:
                each.result(REPLY_TIMEOUT)

    def _change(self, line: Line, prefetch: int) -> list[Future[Any]]:
        """A new consumer in place of the old one. The reply to a look at the queue comes when the first messages are
        at the channel; the reply to whatever is asked next, when they are here. Under the lock, so that whoever sees
        this turn and ends it asks after this: a consumer that is cancelled before it begins would stay."""
        before, tag, turn = line.turn_over(prefetch)
        on_message = partial(self._on_message, line, turn)
        asked = [] if before is None else [self.ask(partial(_cancel, before))]
        asked.append(self.ask(lambda channel, reply: channel.qos(prefetch, reply)))
        asked.append(self.ask(lambda channel, reply: channel.consume(line.queue, on_message, tag, reply)))
        asked.append(self.ask(lambda channel, reply: channel.look_at_queue(line.queue, reply)))
        return asked

    def ack(self, deliveries: Iterable[Delivery], *, at_once: bool = False) -> None:
        """Acknowledge, soon. What this channel did not bring, or has lost, is passed over."""
        if tags := self._leave(deliveries):
            self.loop.call(partial(self._ack, tags, at_once))

    def put_back(self, deliveries: Iterable[Delivery]) -> None:
        """Let RabbitMQ deliver these to others, marked as delivered before."""
        if tags := self._leave(deliveries):
            self.loop.call(partial(self._put_back, tags))

    def _leave(self, deliveries: Iterable[Delivery]) -> set[int]:
        """Take these out of their lines' account; their tags."""
        tags: set[int] = set()
        with self.changed:
            for delivery in deliveries:
                delivery.line.left(delivery)
                tags.add(delivery.tag)
        return tags

    def part_with(self, deliveries: Sequence[Delivery]) -> Future[Any]:
        """Acknowledge these; done when the server has read that."""
        self.ack(deliveries, at_once=True)
        return self.ask(self._flush)

    def flush(self) -> None:
        """Wait until the server has read what was sent on this channel. Raises what ended it."""
        self.ask(self._flush).result(REPLY_TIMEOUT)

    def _flush(self, channel: Channel, reply: Callable[[Any], None]) -> None:
        self._send_acks()
        channel.qos(1, reply)

    def count(self, lines: Iterable[Line]) -> int:
        """How many messages wait in these queues. What they have sent before, and what follows from acknowledgements
        up to now, is here then."""
        with self._serving:
            asked = [self.ask(self._flush)]
            looks = [self.ask(partial(_look_at, line.queue)) for line in lines]
            asked.append(self.ask(lambda channel, reply: channel.qos(1, reply)))
            for each in asked:
                each.result(REPLY_TIMEOUT)
            return sum(each.result(REPLY_TIMEOUT) for each in looks)

    def empty(self) -> None:
        """Stop consuming, and give back what nobody claimed; before the end."""
        with self._serving:
            for line in list(self.lines.values()):
                with self.changed:
                    paused = line.pause()
                if paused is not None:
                    tag = paused[0]
                    self.ask(partial(_cancel, tag)).result(REPLY_TIMEOUT)
            with self.changed:
                left = [delivery for line in self.lines.values() for delivery in line.buffer]
                for line in self.lines.values():
                    line.buffer.clear()
            if left:
                self._give_back(self, left)

    # ---- on the I/O thread ------------------------------------------------------------------------------------------

    def _on_message(
        self, line: Line, turn: int, tag: int, redelivered: bool, properties: Properties, body: bytes
    ) -> None:
        message = of_delivery(line.name, properties, body)
        delivery = Delivery(tag, line, turn, message, monotonic())
        self._open[tag] = None
        mark = message.parked
        if mark is None and (not redelivered or message.once):
            with self.changed:
                line.arrived(delivery)
                line.buffer.append(delivery)
                if len(line.buffer) == 1:
                    self.changed.notify_all()
            if not self._looking:
                self._looking = True
                self.loop.later(LOOK_EVERY, self._look)
            return
        with self.changed:
            line.arrived(delivery)
        if mark is not None and mark in self.renewals:
            self.renewals.pop(mark)(delivery)
        elif line.parked:  # the job has ended meanwhile
            self.ack([delivery])
        else:
            self._crashed(self, [delivery])

    def _ack(self, tags: set[int], at_once: bool) -> None:
        """At once when there is little to do; under load many together, which is cheaper for the server."""
        self._due |= tags
        if at_once or len(self._due) >= ACK_TOGETHER or monotonic() - self._acked_at >= ACK_EVERY:
            self._send_acks()
        elif not self._acking:
            self._acking = True
            self.loop.later(ACK_EVERY, self._send_acks_later)

    def _send_acks_later(self) -> None:
        self._acking = False
        self._send_acks()

    def _send_acks(self) -> None:
        """All at once as far as nothing before them is still in hand, the others one by one."""
        tags, self._due = self._due, set()
        if self.ended is not None or not self.channel.is_open:
            return
        self._acked_at = monotonic()
        known = self._open
        last = 0
        for tag in known:
            if tag not in tags:
                break
            last = tag
        if last:
            for tag in [tag for tag in tags if tag <= last]:
                known.pop(tag, None)
                tags.discard(tag)
            self.channel.ack(last, True)
        for tag in sorted(tags):
            if tag in known:
                del known[tag]
                self.channel.ack(tag, False)

    def _put_back(self, tags: set[int]) -> None:
        if self.ended is not None or not self.channel.is_open:
            return
        for tag in sorted(tags):
            if tag in self._open:
                del self._open[tag]
                self.channel.put_back(tag)

    def _look(self) -> None:
        """Give back what has lain too long where nobody has room for it."""
        self._looking = False
        if self.ended is not None:
            return
        now = monotonic()
        pauses: list[tuple[Line, str, int]] = []
        with self.changed:
            for line in self.lines.values():
                if not line.buffer:
                    continue
                self._looking = True
                if now - max(line.asked_at, line.buffer[0].since) >= PATIENCE and (paused := line.pause()):
                    pauses.append((line, *paused))
        for line, tag, turn in pauses:
            self.loop.call(partial(self._end_consumer, line, tag, turn))
        if self._looking:
            self.loop.later(LOOK_EVERY, self._look)

    def _end_consumer(self, line: Line, tag: str, turn: int) -> None:
        if self.ended is None and self.channel.is_open:
            self.channel.cancel(tag, partial(self._paused, line, turn))

    def _paused(self, line: Line, turn: int, frame: Any) -> None:
        with self.changed:
            late = [delivery for delivery in line.buffer if delivery.turn <= turn]
            if line.tag is not None or not late:
                return  # somebody has room again
            line.buffer = deque(delivery for delivery in line.buffer if delivery.turn > turn)
        self._give_back(self, late)

    def _on_cancel(self, tag: str) -> None:
        """The queue is gone."""
        with self.changed:
            for line in self.lines.values():
                if line.tag == tag:
                    line.tag = None
                    self._gone(line.queue)
            self.changed.notify_all()

    def on_end(self, reason: Exception) -> None:
        with self.changed:
            for line in self.lines.values():
                line.buffer.clear()
                line.tag = None
            self.changed.notify_all()
        self.connection.close()


def _cancel(tag: str, channel: Channel, reply: Callable[[Any], None]) -> None:
    channel.cancel(tag, reply)


def _look_at(queue: str, channel: Channel, reply: Callable[[Any], None]) -> None:
    channel.look_at_queue(queue, reply)
