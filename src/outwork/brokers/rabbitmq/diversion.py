"""Messages that go elsewhere, not to a worker: those that came a second time, and those for which there is no room.

Each is published anew first and acknowledged when that is confirmed, so nothing is lost on the way. Nothing here waits:
most of it happens on the I/O thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import Condition
from time import monotonic

from outwork.brokers.rabbitmq.intake import Intake
from outwork.brokers.rabbitmq.lines import Delivery
from outwork.brokers.rabbitmq.link import Link
from outwork.brokers.rabbitmq.messages import Message
from outwork.brokers.rabbitmq.post import Post
from outwork.brokers.rabbitmq.publisher import Batch
from outwork.brokers.rabbitmq.sending import Letter
from outwork.job import Failure, Moment, Record, State, Terms, death


class Diversion:
    """Publishes what goes elsewhere. The queues are there: whoever consumes has declared them."""

    def __init__(self, link: Link, post: Post, terms: Terms, now: Callable[[], float]) -> None:
        self._link = link
        self._post = post
        self._terms = terms
        self._now = now
        self._changed = Condition()
        self._on_the_way = 0
        self._unread = False
        """Whether the server may not have read yet that something here is done with."""
        self._stuck: list[tuple[Intake, Delivery, Letter]] = []

    def crashed(self, intake: Intake, deliveries: list[Delivery]) -> None:
        """Delivered before, to a worker that died: count that, and run it again or bury it."""
        letters: list[Letter] = []
        for delivery in deliveries:
            message, buried = rescued(delivery.message, self._now())
            keep = self._terms.keep_failed
            letters.append(self._post.job(message) if buried is None else self._post.dead(message, buried, keep))
        self._pass_on(intake, deliveries, letters)

    def unwanted(self, intake: Intake, deliveries: list[Delivery]) -> None:
        """Delivered, but there is no room here: others may have some. Of a job that is delivered at most once there
        must never be two messages, and its message may well come a second time: RabbitMQ itself puts that one back."""
        intake.put_back([delivery for delivery in deliveries if delivery.message.once])
        others = [delivery for delivery in deliveries if not delivery.message.once]
        self._pass_on(intake, others, [self._post.job(delivery.message) for delivery in others])

    def expired(self, intake: Intake, deliveries: list[Delivery]) -> None:
        """Delivered, but they have waited too long: dead letters."""
        letters: list[Letter] = []
        for delivery in deliveries:
            message = delivery.message.copy()
            failure = expiry(message, self._now())
            message.add_error(failure)
            letters.append(self._post.dead(message, failure.message, self._terms.keep_failed))
        self._pass_on(intake, deliveries, letters)

    def retry(self) -> None:
        """Try again what could not be published."""
        with self._changed:
            stuck, self._stuck = self._stuck, []
        for intake, delivery, letter in stuck:
            if intake.ended is None:
                self._pass_on(intake, [delivery], [letter])

    def finish(self, timeout: float) -> None:
        """Wait until all is on its way no more."""
        deadline = monotonic() + timeout
        with self._changed:
            while self._on_the_way and (left := deadline - monotonic()) > 0:
                self._changed.wait(left)

    def let_go(self, intake: Intake, timeout: float) -> None:
        """See to it that nothing is in hand here any more of what went elsewhere. A job may kill this process: if its
        former message were still unacknowledged then, there would be two of it. Raises what ended the intake."""
        self.finish(timeout)
        with self._changed:
            unread, self._unread = self._unread, False
        if unread:
            intake.flush()

    def _pass_on(self, intake: Intake, deliveries: Sequence[Delivery], letters: Sequence[Letter]) -> None:
        if not deliveries:
            return
        publisher = self._link.open_publisher
        if publisher is None:
            with self._changed:
                self._stuck += [(intake, *pair) for pair in zip(deliveries, letters, strict=True)]
            return
        with self._changed:
            self._on_the_way += 1
        then = partial(self._passed_on, intake, deliveries, letters)
        publisher.publish([letter.parcel for letter in letters], then)

    def _passed_on(
        self, intake: Intake, deliveries: Sequence[Delivery], letters: Sequence[Letter], batch: Batch
    ) -> None:
        errors = batch.errors
        # At once: the copy may run, and kill this process, before a batch of acknowledgements would leave.
        intake.ack((delivery for index, delivery in enumerate(deliveries) if index not in errors), at_once=True)
        with self._changed:
            self._stuck += [(intake, deliveries[index], letters[index]) for index in errors]
            self._on_the_way -= 1
            self._unread = True
            self._changed.notify_all()


def rescued(message: Message, now: float) -> tuple[Message, str | None]:
    """The message with one crash more, and why it is buried, if it is."""
    after = message.copy()
    failure = death(_record(message), Moment(now, now))
    after.crashes += 1
    after.add_error(failure)
    buried = message.once or after.crashes > message.max_crashes
    return after, failure.message if buried else None


def expiry(message: Message, now: float) -> Failure:
    """The failure of a job that waited too long."""
    return Failure(
        exception="outwork.errors.Expired",
        message="it waited longer than its `expires` allows",
        traceback="",
        attempt=message.failures + message.crashes,
        worker="",
        at=now,
    )


def _record(message: Message) -> Record:
    """What the rules of `outwork.job` want to know of a message."""
    return Record(
        id=message.id,
        task="",
        queue=message.queue,
        priority=0,
        body=b"",
        state=State.RUNNING,
        due=0.0,
        enqueued_at=0.0,
        max_crashes=message.max_crashes,
        at_most_once=message.once,
        failures=message.failures,
        crashes=message.crashes,
    )
