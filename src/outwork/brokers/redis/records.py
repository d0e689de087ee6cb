"""A job's record as Redis holds it, in Python: the layout is stated in `lua/record.lua`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from typing import Final

import msgspec
from msgspec.structs import replace

from outwork import codec
from outwork.brokers.base import Settlement, Ticket
from outwork.errors import EnqueueError, InvalidOption, NotSerializable
from outwork.job import (
    PRIORITY_MAX,
    PRIORITY_MIN,
    Again,
    Cancelled,
    Dead,
    Done,
    Failure,
    Hold,
    Job,
    Record,
    Release,
    State,
)
from outwork.ties import Ties

STATES: Final = {
    b"H": State.HELD,
    b"S": State.SCHEDULED,
    b"R": State.READY,
    b"X": State.RUNNING,
    b"D": State.SUCCESSFUL,
    b"F": State.FAILED,
    b"C": State.CANCELLED,
}
LETTERS: Final = {state: letter.decode() for letter, state in STATES.items()}
AT_MOST_ONCE, CRASHED, ASKED, EXPIRES, BODY_APART, RESULT_APART, TIED = 1, 2, 4, 8, 16, 32, 128

INLINE: Final = 1024
"""Bytes of a body or result up to which it is a part of the record."""

_front = Struct(">cddBHHBdIIIIdd")
_tail = Struct(">dBH")
_head = Struct(">BHBI")
_timing = Struct(">Bddd")
_counters = Struct(">III")
_moment = Struct(">d")
_encode_ties = msgspec.msgpack.Encoder().encode
_decode_ties = msgspec.msgpack.Decoder(Ties).decode

NAMES_LIMIT: Final = 65_535
RESULT_LIMIT: Final = 256 * 1024 * 1024
"""Bytes. A server takes no value above 512 MB, and no worker should try."""


# ---- enqueue --------------------------------------------------------------------------------------------------------


def enqueue_arguments(job: Job, *, tied: bool = False) -> tuple[str | bytes, ...]:
    """What `enqueue.lua` takes for a job: id, head, timing, body. `tied`: TIES holds something of it. Raises
    EnqueueError."""
    try:
        body = codec.encode_job(job)
        expires, apart = job.expires is not None, len(body) > INLINE
        flags = AT_MOST_ONCE * job.at_most_once + EXPIRES * expires + BODY_APART * apart
        flags += TIED * tied
        head = _head_of(job.queue, job.task, job.priority, job.max_crashes, flags)
    except EnqueueError:
        raise
    except (TypeError, ValueError) as error:  # a lone surrogate in a text, say
        raise NotSerializable(f"job {job.id} of {job.task} cannot be written: {error}") from error
    if job.due is None and job.delay is None and job.expires is None:
        return job.id, head, b"", body
    given = (job.due is not None) + 2 * (job.delay is not None) + 4 * (job.expires is not None)
    return job.id, head, _timing.pack(given, job.due or 0.0, job.delay or 0.0, job.expires or 0.0), body


def bound_arguments(job: Job) -> tuple[str | bytes, ...]:
    """What `binding.lua` takes for a job: the same, what TIES holds of it, and its fair key. Raises EnqueueError."""
    ties, fair = job.ties, ""
    if ties is not None and ties.fair is not None:
        fair, rest = f"={ties.fair}", replace(ties, fair=None)
        ties = None if rest == Ties() else rest
    packed = b"" if ties is None else (b"G" if ties.gates else b"-") + _encode_ties(ties)
    return *enqueue_arguments(job, tied=ties is not None), packed, fair


@lru_cache(1024)
def _head_of(queue: str, task: str, priority: int, max_crashes: int, flags: int) -> bytes:
    names = f"{queue}\0{task}".encode()
    if "\0" in queue or not queue:
        raise InvalidOption(f"the queue {queue!r} has no name that Redis can hold: leave out the NUL character")
    if len(names) > NAMES_LIMIT:
        raise InvalidOption(f"the names of queue and task have {len(names)} bytes; at most {NAMES_LIMIT} are possible")
    if not (PRIORITY_MIN <= priority <= PRIORITY_MAX and 0 <= max_crashes < 2**32):
        raise InvalidOption(f"priority {priority} or max_crashes {max_crashes} is out of range")
    return _head.pack(flags, len(names), 100 - priority, max_crashes) + names


# ---- settle ---------------------------------------------------------------------------------------------------------


def settle_arguments(settlement: Settlement) -> tuple[str | bytes, ...]:
    """What `exchange.lua` takes for a settlement: id, how, text."""
    job_id, claim_id, outcome = settlement
    match outcome:
        case Done(result, keep):
            if len(result) > RESULT_LIMIT:
                text = f"the result has {len(result)} bytes; at most {RESULT_LIMIT} can be stored"
                return job_id, f"B{claim_id}\0", text
            return job_id, f"D{claim_id}\0{'' if keep is None else keep}", result
        case Dead(failures, keep):
            return job_id, f"F{claim_id}\0{'' if keep is None else keep}", encode_failures(failures)
        case Again(delay, failures, counted):
            return job_id, f"{'A' if counted else 'N'}{claim_id}\0{delay}", encode_failures(failures)
        case Cancelled(failures):
            return job_id, f"C{claim_id}\0", encode_failures(failures)
        case Hold():
            return job_id, f"H{claim_id}\0", b""
        case Release(delay, missed):
            return job_id, f"{'M' if missed else 'R'}{claim_id}\0{delay}", b""


def encode_failures(failures: Sequence[Failure]) -> bytes:
    """A line of JSON each, so that a script can add one and drop one without parsing any."""
    return b"\n".join(_line(failure) for failure in failures)


def decode_failures(lines: bytes | None) -> tuple[Failure, ...]:
    return codec.decode_failures(b"[" + lines.replace(b"\n", b",") + b"]") if lines else ()


def _line(failure: Failure) -> bytes:
    try:
        return codec.encode_failures([failure])[1:-1]
    except UnicodeEncodeError:  # half a surrogate pair (an undecodable file name in a message): a question mark
        exception, message, traceback = (
            text.encode("utf-8", "replace").decode() for text in (failure.exception, failure.message, failure.traceback)
        )
        plain = Failure(
            exception=exception,
            message=message,
            traceback=traceback,
            attempt=failure.attempt,
            worker=failure.worker,
            at=failure.at,
        )
        return codec.encode_failures([plain])[1:-1]


# ---- look up --------------------------------------------------------------------------------------------------------


def moment(packed: bytes) -> float:
    """The time that stands at the beginning."""
    wall: float = _moment.unpack_from(packed)[0]
    return wall


def counters(record: bytes) -> tuple[int, int, int]:
    """Failures, crashes and misses."""
    failures, crashes, misses = _counters.unpack_from(record, 31)
    return failures, crashes, misses


def ticket(job_id: str, packed: bytes, gated: bytes, now: float) -> tuple[tuple[int, float, str], Ticket]:
    """The message for a waiting job, after its place among the others; `packed` is its record up to the body, `gated`
    is empty if it has no gates."""
    _, _, _, flags, _, _, place, due, *_ = _front.unpack_from(packed)
    queue = packed[_front.size :].partition(b"\0")[0].decode()
    solo = bool(flags & (AT_MOST_ONCE | CRASHED) or gated)
    return (place, due, job_id), Ticket(job_id, queue, 100 - place, max(0.0, due - now), solo)


def bound(record: Record, ties: bytes | None, knot: bytes | None) -> Record:
    """The record with its ties, as TIES holds them, and what it is held by."""
    return replace(
        record,
        ties=None if ties is None else _decode_ties(ties[1:]),
        knot=None if knot is None else knot.decode(),
    )


def decode_record(
    job_id: str, packed: bytes, body: bytes | None, errors: bytes | None, result: bytes | None, now: float
) -> Record:
    """The record of a job as it stands at `now`: what fell due is ready, whether or not a script came by since.

    `body` and `result` are those that are kept apart, if they are.
    """
    letter, until, finished_at, flags, names_length, body_length, place, due, *numbers, enqueued_at, expires_at = (
        _front.unpack_from(packed)
    )
    failures, crashes, misses, max_crashes = numbers
    state = STATES[letter]
    if state is State.SCHEDULED and due <= now:
        state = State.READY
    body_start = _front.size + names_length
    tail = body_start + body_length
    queue, _, task = packed[_front.size : body_start].decode().partition("\0")
    started_at, claim_length, worker_length = _tail.unpack_from(packed, tail)
    claim = tail + _tail.size
    worker = claim + claim_length
    if result is None and state is State.SUCCESSFUL:
        result = packed[worker + worker_length :]
    ended = state.finished
    return Record(
        id=job_id,
        task=task,
        queue=queue,
        priority=100 - place,
        body=packed[body_start:tail] if body is None else body,
        state=state,
        due=due,
        enqueued_at=enqueued_at,
        max_crashes=max_crashes,
        at_most_once=bool(flags & AT_MOST_ONCE),
        expires_at=expires_at if flags & EXPIRES else None,
        failures=failures,
        crashes=crashes,
        misses=misses,
        errors=decode_failures(errors),
        claim_id=packed[claim:worker].decode() or None,
        worker=packed[worker : worker + worker_length].decode() or None,
        lease_until=until if state is State.RUNNING else None,
        cancel_requested=bool(flags & ASKED),
        started_at=started_at or None,
        finished_at=finished_at if ended else None,
        prune_at=until if ended else None,
        result=result,
    )
