"""Messages that go elsewhere, not to a worker: those that came a second time, those for which there is no room, and
those that have expired.

Each is published anew first and acknowledged when that is confirmed, so nothing is lost on the way. Of a job that is to
be delivered at most once there must never be two messages, so RabbitMQ itself puts that one back; since it drops what
came back often (20 times, from 4.0 on), one that has is acknowledged first and then published. Nothing here waits: most
of it happens on the I/O thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from threading import Condition
from time import monotonic
from typing import Any

from outwork.brokers.rabbitmq.endings import expired, rescued
from outwork.brokers.rabbitmq.intake import Intake
from outwork.brokers.rabbitmq.lines import Delivery
from outwork.brokers.rabbitmq.link import Link
from outwork.brokers.rabbitmq.post import Post
from outwork.brokers.rabbitmq.publisher import Batch, Unroutable
from outwork.brokers.rabbitmq.sending import Letter, declare
from outwork.errors import OutworkError
from outwork.job import Terms

logger = logging.getLogger("outwork.brokers.rabbitmq")


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
        """Delivered, but there is no room here: others may have some."""
        once = [delivery for delivery in deliveries if delivery.message.once]
        others = [delivery for delivery in deliveries if not delivery.message.once]
        self._pass_on(intake, others, [self._post.job(delivery.message) for delivery in others])
        tired = [delivery for delivery in once if delivery.message.is_tired]
        intake.put_back([delivery for delivery in once if not delivery.message.is_tired])
        if tired:
            self._part_with(intake, tired)

    def expired(self, intake: Intake, deliveries: list[Delivery]) -> None:
        """Delivered, but they have waited too long: dead letters."""
        keep, now = self._terms.keep_failed, self._now()
        letters = [self._post.dead(*expired(delivery.message, now), keep) for delivery in deliveries]
        self._pass_on(intake, deliveries, letters)

    def retry(self) -> None:
        """Try again what could not be published."""
        with self._changed:
            stuck, self._stuck = self._stuck, []
        stuck = [one for one in stuck if one[0].ended is None]
        try:
            declare(self._link, [letter for _, _, letter in stuck])
        except OutworkError:
            with self._changed:
                self._stuck += stuck
            raise
        for intake, delivery, letter in stuck:
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
        for index, error in errors.items():
            if isinstance(error, Unroutable):
                self._link.forget(letters[index].target)
        # At once: the copy may run, and kill this process, before a batch of acknowledgements would leave.
        intake.ack((delivery for index, delivery in enumerate(deliveries) if index not in errors), at_once=True)
        with self._changed:
            self._stuck += [(intake, deliveries[index], letters[index]) for index in errors]
            self._on_the_way -= 1
            self._unread = True
            self._changed.notify_all()

    def _part_with(self, intake: Intake, once: list[Delivery]) -> None:
        with self._changed:
            self._on_the_way += 1
        letters = [self._post.job(delivery.message) for delivery in once]
        intake.part_with(once).add_done_callback(partial(self._parted, letters))

    def _parted(self, letters: list[Letter], read: Future[Any]) -> None:
        """There is no message of these any more, unless the server has not read that."""
        publisher = self._link.open_publisher
        if read.exception() is not None:
            self._came_to(letters, [])
        elif publisher is None:
            self._came_to(letters, range(len(letters)))
        else:
            parcels = [letter.parcel for letter in letters]
            publisher.publish(parcels, lambda batch: self._came_to(letters, batch.errors))

    def _came_to(self, letters: list[Letter], unsure: Iterable[int]) -> None:
        for index in unsure:
            job_id = letters[index].parcel.properties.message_id
            logger.error("job %s was given back as the connection was lost: it may never run", job_id)
        with self._changed:
            self._on_the_way -= 1
            self._changed.notify_all()
