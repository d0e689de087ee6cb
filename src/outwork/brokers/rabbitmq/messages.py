"""Between jobs and messages. Pure.

The body of a message is the job's envelope, untouched; when attempts have failed their failures follow it, and the
header `envelope` says where it ends. Every other header is there only if it says something:

    failures, crashes, misses   what was counted so far
    expires                     until when it may be started (Unix time in ms; AMQP's floats are not for every client)
    due                         when it was to be started, if it was delayed (Unix time in ms)
    max-crashes, once           as the job was enqueued
    solo                        a ticket (see `outwork.brokers.paired`) that is claimed for a free slot only
    queue                       the job's queue
    parked                      the copy by which the message of a long job is renewed
    reason                      why it is a dead letter
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from msgspec import DecodeError

from outwork import codec
from outwork.brokers.base import Claimed
from outwork.brokers.rabbitmq.frames import Headers, Properties
from outwork.brokers.rabbitmq.topology import SUSPECT
from outwork.ids import new_job_id
from outwork.job import Failure, Job, remember

NO_HEADERS: Final[Headers] = {}
TIRED: Final = 10
"""Half of what RabbitMQ 4.0 allows before it drops a message."""


class Message:
    """A job as a message."""

    __slots__ = ("crashes", "envelope", "errors_json", "failures", "headers", "id", "misses", "priority", "queue")

    def __init__(self, queue: str, job_id: str, envelope: bytes, headers: Headers, priority: int | None) -> None:
        self.id = job_id
        self.queue = queue
        self.envelope = envelope
        self.errors_json = b""
        self.headers = headers
        self.priority = priority
        self.failures = self.crashes = self.misses = 0

    @property
    def is_tired(self) -> bool:
        """Whether it came back so often, where the queue counts that, that it has to be published anew."""
        count = self.headers.get("x-delivery-count", 0)
        return isinstance(count, int) and count >= TIRED

    @property
    def once(self) -> bool:
        return "once" in self.headers

    @property
    def max_crashes(self) -> int:
        return int(self.headers.get("max-crashes", 3))

    @property
    def expires(self) -> float | None:
        """Until when it may be started, in Unix seconds."""
        moment = self.headers.get("expires")
        return moment / 1000 if isinstance(moment, int) else None

    @property
    def parked(self) -> str | None:
        """The mark of the delivery that this one renews."""
        return cast("str | None", self.headers.get("parked"))

    @property
    def tier(self) -> int:
        """How carefully it is claimed, see `pool`. A job that may not crash at all is not prefetched: so it is never
        taken for crashed because it lay in the buffer of a worker that died."""
        if self.crashes:
            return min(self.crashes, SUSPECT)
        return int(self.once or "solo" in self.headers or self.max_crashes == 0)

    @property
    def errors(self) -> tuple[Failure, ...]:
        if not self.errors_json:
            return ()
        try:
            return codec.decode_failures(self.errors_json)
        except DecodeError:  # a stranger's: the job is run all the same, without that history
            return ()

    @property
    def body(self) -> bytes:
        return self.envelope + self.errors_json if self.errors_json else self.envelope

    def add_errors(self, errors: Sequence[Failure]) -> None:
        if errors:
            self.errors_json = codec.encode_failures(errors)

    def add_error(self, failure: Failure) -> None:
        self.add_errors(remember(self.errors, failure))

    def copy(self) -> Message:
        twin = Message(self.queue, self.id, self.envelope, dict(self.headers), self.priority)
        twin.errors_json = self.errors_json
        twin.failures, twin.crashes, twin.misses = self.failures, self.crashes, self.misses
        return twin

    def all_headers(self, **more: Any) -> Headers | None:
        """The headers as they are sent."""
        headers = {name: value for name, value in self.headers.items() if name in KEPT}
        for name, count in (("failures", self.failures), ("crashes", self.crashes), ("misses", self.misses)):
            if count:
                headers[name] = count
        if self.errors_json:
            headers["envelope"] = len(self.envelope)
        headers |= more
        return headers or None

    def claimed(self, claim_id: str) -> Claimed:
        return Claimed(self.id, claim_id, self.envelope, self.failures, self.crashes, self.misses, self.errors)


KEPT: Final = frozenset({"max-crashes", "once", "solo", "expires"})
"""The headers that a copy takes over as they are. Nothing of the server's own: it takes a message that comes to a delay
queue again with the history of its first visit for one that goes round in circles, and drops it."""


def of_job(job: Job, now: float, priority: int | None) -> tuple[Message, float]:
    """A new job, and how many seconds it has to wait."""
    delay = job.delay if job.delay is not None else 0.0 if job.due is None else job.due - now
    headers: Headers = {}
    if job.max_crashes != 3:
        headers["max-crashes"] = job.max_crashes
    if job.at_most_once:
        headers["once" if job.task else "solo"] = True  # a ticket starts nothing before the store has been asked
    if job.expires is not None:
        headers["expires"] = int((now + max(0.0, delay) + job.expires) * 1000)
    return Message(job.queue, job.id, codec.encode_job(job), headers, priority), delay


def of_delivery(queue: str, properties: Properties, body: bytes) -> Message:
    """A message as it arrived. Nothing that a stranger put into the queue makes this fail."""
    message_id, headers, priority, _ = properties
    message = Message(queue, message_id or new_job_id(), body, headers or NO_HEADERS, priority)
    if headers:
        size = headers.get("envelope")
        if isinstance(size, int):
            message.envelope, message.errors_json = body[:size], body[size:]
        message.failures, message.crashes, message.misses = (
            value if isinstance(value := headers.get(name, 0), int) else 0 for name in ("failures", "crashes", "misses")
        )
    return message
