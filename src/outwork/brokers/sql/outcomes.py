"""What can be written of an outcome: one that no database takes must not hold up the others."""

from __future__ import annotations

from msgspec.structs import replace

from outwork import codec
from outwork import job as moves
from outwork.job import Again, Cancelled, Dead, Done, Failure, Moment, Outcome, Record


def writable(outcome: Outcome, record: Record, now: Moment, largest: int) -> Outcome:
    """The outcome, or what can be written in its place: one that no database takes must not hold up the others."""
    if isinstance(outcome, Done) and len(outcome.result) > largest:
        failure = Failure(
            exception="outwork.errors.ResultNotSerializable",
            message=f"the result has {len(outcome.result)} bytes; at most {largest} can be stored",
            traceback="",
            attempt=record.attempts,
            worker=record.worker or "",
            at=now.wall,
        )
        return Dead(moves.remember(record.errors, failure))
    if isinstance(outcome, Again | Dead | Cancelled):
        return replace(outcome, failures=tuple(map(_text, outcome.failures)))
    return outcome


def _text(failure: Failure) -> Failure:
    """Half a surrogate pair (an undecodable file name in a message) becomes a question mark."""
    try:
        codec.encode_failures([failure])
    except UnicodeEncodeError:
        exception, message, traceback = (
            text.encode("utf-8", "replace").decode() for text in (failure.exception, failure.message, failure.traceback)
        )
        return replace(failure, exception=exception, message=message, traceback=traceback)
    return failure
