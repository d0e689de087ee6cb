"""Between Dramatiq's messages and our jobs.

    queue  NAMESPACE:QUEUE     no queue of a task has a colon in its name, so no `outwork worker` serves it
    task   NAMESPACE.ACTOR
    args   {"message": ...}    what Dramatiq's encoder makes of the message, as it is where that is JSON

Each enqueue makes a job with an id of its own. Dramatiq's message id stays inside: its Retries middleware enqueues the
next try of a message under the same id, before the one that failed is acknowledged.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from dramatiq import Message
from dramatiq.common import q_name
from msgspec import Raw, Struct

from outwork.errors import DeclarationError, Undecodable
from outwork.ids import new_job_id
from outwork.job import PRIORITY_MAX, PRIORITY_MIN, WIRE_VERSION, Job

NAME_LIMIT: Final = 100
"""Characters that every broker keeps of a queue's name."""
MAX_CRASHES: Final = 3


class Packed(Struct, omit_defaults=True):
    """Bytes as arguments of a job: JSON stands there as it is, for who looks at the job; anything else in base64."""

    message: Raw = Raw()
    base64: bytes | None = None


def pack(data: bytes) -> Raw:
    """Any bytes as a JSON object."""
    try:
        msgspec.json.decode(data)  # Python's own encoder writes NaN, too, which is not JSON
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Raw(msgspec.json.encode(Packed(base64=data)))
    return Raw(msgspec.json.encode(Packed(message=Raw(data))))


def unpack(args: Raw) -> bytes:
    """The inverse of `pack`. Raises Undecodable."""
    try:
        packed = msgspec.json.decode(args, type=Packed)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Undecodable(f"this is not a message of Dramatiq: {error}") from error
    if message := bytes(packed.message):
        return message
    if packed.base64 is not None:
        return packed.base64
    raise Undecodable("this is not a message of Dramatiq: it has neither `message` nor `base64`")


def queue_of(namespace: str, queue_name: str) -> str:
    """Our queue of a queue of Dramatiq, or of its delay queue. Raises DeclarationError for a name that is too long."""
    name = f"{namespace}:{q_name(queue_name)}"
    if len(name) > NAME_LIMIT:
        raise DeclarationError(f"{name!r}: a queue's name, its namespace included, has {NAME_LIMIT} characters at most")
    return name


def job_of(message: Message[Any], namespace: str, delay: int | None, priority: int) -> Job:
    """The job of a message that is to come in `delay` milliseconds."""
    options = {name: value for name, value in message.options.items() if name != "eta"}
    return Job(
        v=WIRE_VERSION,
        id=new_job_id(),
        task=f"{namespace}.{message.actor_name}",
        args=pack(Message(**{**message.asdict(), "options": options}).encode()),
        queue=queue_of(namespace, message.queue_name),
        priority=priority,
        created=time.time(),
        delay=delay / 1000 if delay is not None and delay > 0 else None,
        max_crashes=MAX_CRASHES,
    )


def priority_of(message_options: Mapping[str, Any], actor_options: Mapping[str, Any], actor_priority: int) -> int:
    """Ours, -100 to 100, larger first. Dramatiq's actors have one where the lower comes first; `broker_priority` is the
    option of its RabbitMQ broker, where the higher comes first, and says more."""
    chosen = message_options.get("broker_priority", actor_options.get("broker_priority"))
    wanted = -actor_priority if chosen is None else int(chosen)
    return max(PRIORITY_MIN, min(PRIORITY_MAX, wanted))


def message_of(job: Job) -> Message[Any]:
    """The message in a job. Raises Undecodable, and Dramatiq's DecodeError."""
    return Message.decode(unpack(job.args))
