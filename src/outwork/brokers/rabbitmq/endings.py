"""What is written on a message whose worker died, that waited too long, or that nobody knows the fate of. Pure."""

from __future__ import annotations

from typing import Final

from outwork.brokers.rabbitmq.messages import Message
from outwork.job import Failure, Moment, Record, State, death

DOUBTFUL: Final = (
    "it was given back, and RabbitMQ did not confirm that: it may be run once more, or never. It is to be delivered at "
    "most once, so it was not sent again"
)


def rescued(message: Message, now: float) -> tuple[Message, str | None]:
    """The message with one crash more, and why it is buried, if it is."""
    after = message.copy()
    failure = death(_record(message), Moment(now, now))
    after.crashes += 1
    after.add_error(failure)
    return after, failure.message if after.crashes > message.max_crashes else None


def expired(message: Message, now: float) -> tuple[Message, str]:
    """One that waited too long, and what it died of."""
    return _ended(message, "outwork.errors.Expired", "it waited longer than its `expires` allows", now)


def doubted(message: Message, now: float) -> tuple[Message, str]:
    """One whose way back is not confirmed, and that must not be sent twice."""
    return _ended(message, "outwork.errors.BrokerUnavailable", DOUBTFUL, now)


def _ended(message: Message, exception: str, text: str, now: float) -> tuple[Message, str]:
    after = message.copy()
    attempt = message.failures + message.crashes
    after.add_error(Failure(exception=exception, message=text, traceback="", attempt=attempt, worker="", at=now))
    return after, text


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
