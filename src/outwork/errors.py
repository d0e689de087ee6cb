"""Every error of Outwork. Each has a stable code; its text says what is wrong, why, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from outwork.job import Failure

DOCS = "https://outwork.readthedocs.io/troubleshooting#"


class OutworkError(Exception):
    """The root of all errors of Outwork.

    `code` is stable over versions; `help_url` is its place in the documentation.
    """

    code: ClassVar[str] = "OW100"

    @property
    def help_url(self) -> str:
        return DOCS + self.code.lower()

    def __str__(self) -> str:
        return f"{self.code} {super().__str__()}"


# ---- declaring a task -----------------------------------------------------------------------------------------------


class DeclarationError(OutworkError, ValueError):
    """An option of `@task` contradicts another one, or has an impossible value."""

    code = "OW110"


class InvalidSchedule(DeclarationError):
    """A cron expression, a time zone or an interval that says no moment, or contradicts another option."""

    code = "OW117"


class DuplicateTask(OutworkError, ValueError):
    """Two functions claim the same task name in one application."""

    code = "OW111"


class HintError(OutworkError, TypeError):
    """A parameter's or the return value's type hint cannot be carried by JSON."""

    code = "OW112"


class UnknownOption(DeclarationError, TypeError):
    """`@task`, `using` or `Retry` has no option of this name."""

    code = "OW113"


# ---- enqueueing -----------------------------------------------------------------------------------------------------


class EnqueueError(OutworkError):
    """A job was refused at the call. Nothing was enqueued."""

    code = "OW120"


class NotSerializable(EnqueueError, TypeError):
    """An argument cannot be sent to another process."""

    code = "OW104"


class WrongArguments(EnqueueError, TypeError):
    """The arguments do not fit the task's signature."""

    code = "OW105"


class NotImportable(EnqueueError, ValueError):
    """A worker could never import this task: a lambda, a nested function or one of `__main__`."""

    code = "OW106"


class BrokerUnavailable(OutworkError, ConnectionError):
    """The broker cannot be reached. A job may or may not have been written: enqueue it again with the same id."""

    code = "OW107"


class BrokerFull(EnqueueError):
    """The broker has no room (disk or memory full)."""

    code = "OW121"


class PayloadTooLarge(EnqueueError, ValueError):
    """The encoded arguments are larger than `max_payload`."""

    code = "OW122"


class NaiveDatetime(EnqueueError, ValueError):
    """A datetime without a time zone: nobody can know which moment is meant."""

    code = "OW118"


class UnknownQueue(EnqueueError, ValueError):
    """Queues are declared in the settings, and this one is not among them."""

    code = "OW123"


class InvalidOption(EnqueueError, ValueError):
    """A value given to `using(...)` is out of its range."""

    code = "OW124"


class Unsupported(EnqueueError, ValueError):
    """The configured broker cannot keep what is asked (see its capabilities)."""

    code = "OW125"


class Duplicate(EnqueueError, ValueError):
    """Another job holds the unique key. `job_id` is its id."""

    code = "OW129"

    def __init__(self, message: str, job_id: str = "") -> None:
        super().__init__(message)
        self.job_id = job_id


class PartlyEnqueued(EnqueueError):
    """`enqueue_many` failed after some batches were accepted.

    `accepted` holds the ids of the jobs that are in the broker, `refused` pairs of (index, error) for the others that
    were tried; what comes after them was not tried.
    """

    code = "OW126"

    def __init__(self, message: str, accepted: Sequence[str], refused: Sequence[tuple[int, Exception]]) -> None:
        super().__init__(message)
        self.accepted = tuple(accepted)
        self.refused = tuple(refused)


class HookRefused(EnqueueError):
    """A `before_enqueue` hook raised, or a context variable could not be carried; the text names it."""

    code = "OW127"


class InvalidMessage(EnqueueError, ValueError):
    """A mail, a text message, a resource or an address that no other side could accept."""

    code = "OW128"


# ---- configuration --------------------------------------------------------------------------------------------------


class SettingsError(OutworkError, ValueError):
    """A setting is unknown or has an impossible value; the text names its file and line."""

    code = "OW130"


class InvalidURL(SettingsError):
    """A broker URL with an unknown scheme or option, or one that cannot be read."""

    code = "OW131"


class MissingDriver(SettingsError, ImportError):
    """The broker's driver is not installed; the text names the extra that brings it."""

    code = "OW108"


class CannotLoad(SettingsError, ImportError):
    """A module or application named on the command line or in the settings cannot be loaded."""

    code = "OW103"


class NoBroker(SettingsError):
    """A worker was asked for, but tasks run immediately in their callers."""

    code = "OW132"


class SchemaError(OutworkError):
    """The broker's tables are missing or not of a version this release can use."""

    code = "OW109"


class BrokerRefused(OutworkError):
    """The broker is there and says no: a wrong password, a missing right, a file that is not a database..."""

    code = "OW133"


# ---- channels -------------------------------------------------------------------------------------------------------


class ChannelFull(OutworkError):
    """A channel holds as many unread messages as it may. The message was not sent."""

    code = "OW170"


class InvalidChannel(OutworkError, TypeError):
    """A channel, a group or a message that the channel layer specification does not allow. Nothing was sent."""

    code = "OW171"


class MessageTooLarge(OutworkError, ValueError):
    """A channel message is longer than a layer carries. It was not sent."""

    code = "OW172"


# ---- results --------------------------------------------------------------------------------------------------------


class TaskFailed(OutworkError):
    """The job ended FAILED or CANCELLED. `failures` are its failed attempts, the last one last; tracebacks are text."""

    code = "OW140"

    def __init__(self, message: str, failures: Sequence[Failure] = ()) -> None:
        super().__init__(message)
        self.failures = tuple(failures)


class ResultTimeout(OutworkError, TimeoutError):
    """The job did not end in the time given. It goes on; ask again later."""

    code = "OW101"


class JobNotFound(OutworkError, LookupError):
    """No job of this id: it never existed, or it was pruned."""

    code = "OW141"


class ResultNotReady(OutworkError, ValueError):
    """`return_value` was read before the job ended successfully."""

    code = "OW142"


# ---- why an attempt failed (these names appear as class paths in a job's failures) ----------------------------------


class UnknownTask(OutworkError, LookupError):
    """This worker has no task of that name."""

    code = "OW102"


class Undecodable(OutworkError, ValueError):
    """A job's envelope or arguments cannot be read."""

    code = "OW150"


class ResultNotSerializable(OutworkError, TypeError):
    """The task returned something that JSON cannot carry."""

    code = "OW151"


class TimeLimitExceeded(OutworkError, TimeoutError):
    """The attempt ran longer than the task's `timeout`."""

    code = "OW152"


class WorkerDied(OutworkError):
    """The worker that ran the job died, or lost its lease."""

    code = "OW153"


class ChildDied(OutworkError):
    """The child process that ran the attempt ended before it."""

    code = "OW154"


class Expired(OutworkError):
    """The job waited longer than its `expires`."""

    code = "OW155"


class HookFailed(OutworkError):
    """A hook around the run raised, before or after the task; the text names it."""

    code = "OW156"


class UpstreamFailed(OutworkError):
    """A job that this one comes after has failed, so this one was not called."""

    code = "OW157"


class NotStarted(OutworkError):
    """The job was withdrawn because of how the jobs before it ended: one was cancelled, or it was for another end."""

    code = "OW158"


# ---- control from inside a task (DESIGN: exceptions, because they work at any depth) --------------------------------


class Control(OutworkError):
    """Base of the exceptions by which a task steers its own job. Their text is the task's own, without a code."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class TryAgain(Control):
    """Fail this attempt and run the job again after `after` (a timedelta or seconds; None: as the retry policy says).

    It consumes an attempt; a task with no attempt left ends FAILED.
    """

    code = "OW160"

    def __init__(self, message: str = "the task asked to be tried again", *, after: Any = None) -> None:
        super().__init__(message)
        self.after = after


class Snooze(Control):
    """Put the job back for `for_` (a timedelta or seconds) without consuming an attempt."""

    code = "OW161"

    def __init__(self, for_: Any) -> None:
        super().__init__(f"the task snoozed for {for_}")
        self.for_ = for_


class GiveUp(Control):
    """End the job FAILED now, whatever its retry policy says."""

    code = "OW162"
