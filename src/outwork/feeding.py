"""What a job takes from the jobs before it (`Job.feed`): their ends are looked up where it runs, before it is called.

`Feed.when` says for which end of theirs it is there. "ended": for a step of a chain, or what follows a group; it is
called if they were successful, and if they failed where its argument's hint takes a MemberFailed. "successful" and
"failed": for `on_success` and `on_failure`. A job of these two that is not needed, and any that comes after a job that
was cancelled, ends CANCELLED; one that would have been needed, and cannot be called, FAILED.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from outwork.errors import NotStarted, UpstreamFailed
from outwork.ids import numbered
from outwork.job import Feed, Job, Record, State

_encode = msgspec.json.Encoder().encode
_decode_arguments = msgspec.json.Decoder(dict[str, Raw]).decode


class MemberFailed(Struct, frozen=True, tag=True):
    """A job that failed, in the place of what it would have returned. `exception` is the path of the exception's class,
    "" where the job was never enqueued, or is forgotten."""

    job_id: str
    task_name: str
    exception: str
    message: str


def members(feed: Feed) -> list[str]:
    """The ids of the jobs whose ends it looks at."""
    return list(feed.ids) or [numbered(feed.base, number) for number in range(feed.total)]


def filled(job: Job, records: Sequence[Record | None], hints: dict[str, Any]) -> Job:
    """The job as it is called after these ends. Raises UpstreamFailed, NotStarted."""
    feed = job.feed or Feed()
    ends = list(zip(members(feed), records, strict=True))
    failed = [_failure_of(job_id, record) for job_id, record in ends if record is None or _is_bad(record)]
    _check(feed, ends, failed, tolerant=feed.when == "failed" or takes_failures(hints.get(feed.into)))
    if not feed.into:
        return replace(job, feed=None)
    by_id = {one.job_id: _encode(one) for one in failed}
    values = [by_id.get(job_id) or (record and record.result) or b"null" for job_id, record in ends]
    arguments = _decode_arguments(job.args)
    arguments[feed.into] = Raw(b"[" + b",".join(values) + b"]" if feed.gathers else values[0])
    return replace(job, feed=None, args=Raw(_encode(arguments)))


def takes_failures(hint: Any) -> bool:
    """Whether a MemberFailed fits somewhere into this hint."""
    return hint is MemberFailed or any(map(takes_failures, get_args(hint)))


def _check(
    feed: Feed, ends: Sequence[tuple[str, Record | None]], failed: Sequence[MemberFailed], *, tolerant: bool
) -> None:
    cancelled = next((one for _, one in ends if one is not None and one.state is State.CANCELLED), None)
    if cancelled is not None:
        raise NotStarted(f"job {cancelled.id} of {cancelled.task}, which it comes after, was cancelled")
    if feed.when == "failed" and not failed:
        raise NotStarted("the job that it comes after has not failed")
    if failed and feed.when == "successful":
        raise NotStarted(f"the job that it comes after has failed: {_reason(failed[0])}")
    if failed and not tolerant:
        first = failed[0]
        name = f"job {first.job_id} of {first.task_name}" if first.task_name else f"job {first.job_id}"
        how_many = f"{len(failed)} of the {len(ends)} jobs" if len(ends) > 1 else "the job"
        raise UpstreamFailed(f"{how_many} before it failed, the first was {name}: {_reason(first)}. It was not called")


def _is_bad(record: Record) -> bool:
    """FAILED; one that runs again, because somebody retried it by hand, has no result either."""
    return record.state not in (State.SUCCESSFUL, State.CANCELLED)


def _failure_of(job_id: str, record: Record | None) -> MemberFailed:
    if record is None:
        return MemberFailed(job_id, "", "", "it was never enqueued, or is forgotten")
    if not record.errors:
        return MemberFailed(job_id, record.task, "", f"it is {record.state}")
    last = record.errors[-1]
    return MemberFailed(job_id, record.task, last.exception, last.message)


def _reason(failed: MemberFailed) -> str:
    return f"{failed.exception}: {failed.message}" if failed.exception else failed.message
