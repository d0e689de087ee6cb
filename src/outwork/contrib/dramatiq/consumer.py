"""What Dramatiq's worker takes messages from."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from dramatiq import Message
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.errors import ConnectionClosed, DecodeError

from outwork.attempt import failure_of
from outwork.brokers.base import Claimed, Settlement
from outwork.contrib.dramatiq.envelope import message_of
from outwork.contrib.dramatiq.intake import Intake, Line, Received
from outwork.errors import OutworkError, Undecodable
from outwork.job import Dead, Done, Outcome, Release, remember

logger = logging.getLogger("outwork.dramatiq")

FOREIGN_PAUSE: Final = 30.0
"""Seconds for which a job that is not Dramatiq's is given back, as a worker does with a task that it does not know."""


class Delivery(MessageProxy):
    """A message in the hands of a worker. `intake` is where its job is held."""

    def __init__(self, message: Message[Any], claimed: Claimed, intake: Intake) -> None:
        super().__init__(message)
        self.claimed = claimed
        self.intake = intake

    def settlement(self, outcome: Outcome) -> Settlement:
        return Settlement(self.claimed.id, self.claimed.claim_id, outcome)


class QueueConsumer(Consumer):
    """The messages of one queue. An acknowledged message is a SUCCESSFUL job, a rejected one FAILED: a dead letter."""

    def __init__(self, open_line: Callable[[], tuple[Intake, Line]], namespace: str, timeout: int) -> None:
        self._open_line = open_line
        self._prefix = f"{namespace}."
        self._timeout = timeout / 1000
        self._line: tuple[Intake, Line] | None = None

    def __next__(self) -> Delivery | None:
        if self._line is None:
            self._line = self._open_line()
        intake, line = self._line
        try:
            received = intake.next(line, self._timeout)
            return None if received is None else self._delivery(received, intake)
        except OutworkError as error:
            raise ConnectionClosed(error) from error

    def _delivery(self, received: Received, intake: Intake) -> Delivery | None:
        """None for a job that is no message of ours: it is settled."""
        claimed, job = received
        if not job.task.startswith(self._prefix):
            logger.warning("job %s is of task %s, which is no actor of Dramatiq: given back", claimed.id, job.task)
            intake.settle([Settlement(claimed.id, claimed.claim_id, Release(FOREIGN_PAUSE, missed=True))])
            return None
        try:
            return Delivery(message_of(job), claimed, intake)
        except (Undecodable, DecodeError) as error:
            logger.error("job %s: %s", claimed.id, error)
            dead = Dead(remember(claimed.errors, failure_of(error, claimed, intake.id)))
            intake.settle([Settlement(claimed.id, claimed.claim_id, dead)])
            return None

    def ack(self, message: MessageProxy) -> None:
        _settle([(_delivered(message), Done(b"null"))])

    def nack(self, message: MessageProxy) -> None:
        """The job ends FAILED, with the exception that Dramatiq put into the message."""
        delivery = _delivered(message)
        error = delivery._exception or RuntimeError("the message was rejected")
        failure = failure_of(error, delivery.claimed, delivery.intake.id)
        _settle([(delivery, Dead(remember(delivery.claimed.errors, failure)))])

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give back what has not started, at its old place."""
        _settle([(_delivered(message), Release()) for message in messages])

    def close(self) -> None:
        if self._line is not None:
            intake, line = self._line
            intake.close_line(line)
            self._line = None


class DelayConsumer(Consumer):
    """The consumer of a delay queue yields nothing: our broker keeps a delayed message until it is due."""

    def __init__(self, timeout: int) -> None:
        self._timeout = timeout / 1000
        self._closed = threading.Event()

    def __next__(self) -> None:
        self._closed.wait(self._timeout)

    def close(self) -> None:
        self._closed.set()


def _delivered(message: MessageProxy) -> Delivery:
    if not isinstance(message, Delivery):
        raise TypeError(f"{message!r} was not taken from a consumer of this broker")
    return message


def _settle(pairs: Sequence[tuple[Delivery, Outcome]]) -> None:
    """Raises Dramatiq's ConnectionClosed when the broker is away: its worker tries again until it is back."""
    by_intake: dict[Intake, list[Settlement]] = {}
    for delivery, outcome in pairs:
        by_intake.setdefault(delivery.intake, []).append(delivery.settlement(outcome))
    try:
        for intake, settlements in by_intake.items():
            intake.settle(settlements)
    except OutworkError as error:
        raise ConnectionClosed(error) from error
