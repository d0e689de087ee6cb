"""The rows that the dialects have in common, and the records that they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from outwork import codec
from outwork.brokers.base import Claimed, Presence
from outwork.brokers.sql.books import ties_in, ties_of
from outwork.job import Record, State

_encode = msgspec.json.Encoder().encode
_decode_presence = msgspec.json.Decoder(Presence).decode


def packed(value: object) -> str:
    """A value as JSON text: many of them in one parameter, or a presence as it is stored."""
    return _encode(value).decode()


def claimed_of(row: Sequence[Any], claim_id: str) -> Claimed:
    job_id, failures, crashes, misses, errors, body = row
    return Claimed(job_id, claim_id, raw(body), failures, crashes, misses, _failures(errors))


def record_of(row: Sequence[Any]) -> Record:
    (
        job_id, task, queue, priority, body, state, due, enqueued_at, max_crashes, at_most_once, expires_at, failures,
        crashes, misses, errors, claim_id, worker, lease_until, cancel_requested, started_at, finished_at, prune_at,
        result, ties, knot,
    ) = row  # fmt: skip
    return Record(
        id=job_id,
        task=task,
        queue=queue,
        priority=priority,
        body=raw(body),
        state=State(state),
        due=due,
        enqueued_at=enqueued_at,
        max_crashes=max_crashes,
        at_most_once=bool(at_most_once),
        expires_at=expires_at,
        failures=failures,
        crashes=crashes,
        misses=misses,
        errors=_failures(errors),
        claim_id=claim_id,
        worker=worker,
        lease_until=lease_until,
        cancel_requested=bool(cancel_requested),
        started_at=started_at,
        finished_at=finished_at,
        prune_at=prune_at,
        result=None if result is None else raw(result),
        ties=ties_in(ties, State(state)),
        knot=knot.decode() if isinstance(knot, bytes) else knot,
    )


def changes_of(record: Record) -> tuple[object, ...]:
    """What a move may change of a job that goes on, and its id: the parameters of `update`."""
    return (
        record.due,
        record.expires_at,
        record.failures,
        record.crashes,
        record.misses,
        codec.encode_failures(record.errors).decode() if record.errors else None,
        record.claim_id,
        record.worker,
        record.started_at,
        ties_of(record),
        record.id,
    )


def presence_of(stored: str | bytes, seen_at: float) -> Presence:
    """A presence that was stored, and when it was seen."""
    return msgspec.structs.replace(_decode_presence(stored), seen_at=seen_at)


def raw(value: str | bytes) -> bytes:
    """Bytes that stand as text where they are text."""
    return value.encode() if isinstance(value, str) else value


def _failures(errors: str | None) -> tuple[Any, ...]:
    return codec.decode_failures(errors) if errors else ()
