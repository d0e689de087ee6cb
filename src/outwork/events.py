"""What `hooks.on_event` is told: things that happened to jobs, as the process that tells them saw them.

Each job is told as enqueued by its producer. Each attempt is told as started, then with one end: succeeded; failed, and
then retried or failed for good; snoozed; given back; cancelled. They are told before the broker knows, so an attempt
that lost its lease meanwhile tells an end that does not count. Not told are ends without an attempt here: jobs that
expired, whose worker died, that were cancelled by a command.
"""

from __future__ import annotations

from msgspec import Struct

from outwork.job import Failure


class Event(Struct, frozen=True, kw_only=True):
    """Something happened to a job, as seen by the process that tells it. `at` is Unix seconds by its clock."""

    job_id: str
    task_name: str
    queue_name: str
    at: float


class JobEnqueued(Event, frozen=True, kw_only=True):
    """The broker has accepted the job. `due` (Unix seconds) or `delay` (seconds): not before then."""

    due: float | None = None
    delay: float | None = None


class AttemptEvent(Event, frozen=True, kw_only=True):
    """Something happened to an attempt (counted from 1) on this worker."""

    attempt: int
    worker_id: str


class AttemptStarted(AttemptEvent, frozen=True, kw_only=True):
    """The attempt begins; the hooks around it have not been entered yet."""


class AttemptEnded(AttemptEvent, frozen=True, kw_only=True):
    """The attempt has ended after `seconds`; the broker is told next."""

    seconds: float


class JobSucceeded(AttemptEnded, frozen=True, kw_only=True):
    """The task returned, and its value could be encoded."""


class AttemptFailed(AttemptEnded, frozen=True, kw_only=True):
    """The attempt failed. JobRetried or JobFailed follows."""

    failure: Failure


class JobRetried(AttemptEnded, frozen=True, kw_only=True):
    """After a failed attempt, the job is to run again in `delay` seconds."""

    delay: float


class JobFailed(AttemptEnded, frozen=True, kw_only=True):
    """The job has ended FAILED: no attempt is left, or none is worth it."""

    failure: Failure


class JobSnoozed(AttemptEnded, frozen=True, kw_only=True):
    """The task asked to be run again in `delay` seconds; the attempt is not counted."""

    delay: float


class JobGivenBack(AttemptEnded, frozen=True, kw_only=True):
    """The worker stops, and gives the job back; the attempt is not counted."""


class JobCancelled(Event, frozen=True, kw_only=True):
    """The job was cancelled: it was withdrawn while it waited, or was stopped while it ran."""
