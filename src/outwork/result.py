"""What enqueue returns: the job as it was when last looked at, and the way to its result."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from outwork.errors import JobNotFound, ResultNotReady, TaskFailed
from outwork.job import Failure, Job, Record, State

R = TypeVar("R")
T = TypeVar("T")


class TaskResultStatus(StrEnum):
    """Django's four: a job that waits for its time or a retry is READY, a cancelled one FAILED (see `state`)."""

    READY = "READY"
    RUNNING = "RUNNING"
    SUCCESSFUL = "SUCCESSFUL"
    FAILED = "FAILED"


_STATUS: Final = {
    State.SCHEDULED: TaskResultStatus.READY,
    State.READY: TaskResultStatus.READY,
    State.RUNNING: TaskResultStatus.RUNNING,
    State.SUCCESSFUL: TaskResultStatus.SUCCESSFUL,
    State.FAILED: TaskResultStatus.FAILED,
    State.CANCELLED: TaskResultStatus.FAILED,
}


class TaskError(NamedTuple):
    """Why an attempt failed. `exception_class_path` is text: no class is imported for being named on the wire."""

    exception_class_path: str
    message: str
    traceback: str
    attempt: int
    at: datetime


class Results(Protocol):
    """What a result needs of its application."""

    def look_up(self, job_id: str) -> Record | None: ...
    def wait_for(self, job_id: str, timeout: float | None) -> Record | None: ...
    async def await_for(self, job_id: str, timeout: float | None) -> Record | None: ...
    def cancel(self, job_id: str) -> State | None: ...
    async def in_thread(self, work: Callable[..., T], *args: Any) -> T: ...


class TaskResult(Generic[R]):
    """A job, as it was at the last `refresh` (or at its enqueue). Attributes do not change by themselves."""

    def __init__(
        self, results: Results, job: Job, decode: Callable[[bytes], Any], record: Record | None = None
    ) -> None:
        self._results = results
        self._job = job
        self._decode = decode
        self._record = record

    @property
    def id(self) -> str:
        return self._job.id

    @property
    def task_name(self) -> str:
        return self._job.task

    @property
    def queue_name(self) -> str:
        return self._job.queue

    @property
    def priority(self) -> int:
        return self._job.priority

    @property
    def state(self) -> State:
        """The full state: SCHEDULED, READY, RUNNING, SUCCESSFUL, FAILED or CANCELLED."""
        if self._record is not None:
            return self._record.state
        return State.SCHEDULED if self._job.delay or self._job.due else State.READY

    @property
    def status(self) -> TaskResultStatus:
        """Django's view of the state."""
        return _STATUS[self.state]

    @property
    def is_finished(self) -> bool:
        return self.state.finished

    @property
    def attempts(self) -> int:
        """Attempts so far, a running one included; those whose worker died count, too."""
        return self._record.attempts if self._record else 0

    @property
    def errors(self) -> list[TaskError]:
        """Why attempts failed: the first and the last nine, the newest last."""
        failures: tuple[Failure, ...] = self._record.errors if self._record else ()
        return [TaskError(f.exception, f.message, f.traceback, f.attempt, _time(f.at)) for f in failures]

    @property
    def worker_ids(self) -> list[str]:
        """The workers that ran an attempt, in order."""
        if self._record is None:
            return []
        names = [failure.worker for failure in self._record.errors if failure.worker]
        if self._record.worker and self._record.state in (State.RUNNING, State.SUCCESSFUL):
            names.append(self._record.worker)
        return list(dict.fromkeys(names))

    @property
    def enqueued_at(self) -> datetime:
        return _time(self._record.enqueued_at if self._record else self._job.created)

    @property
    def run_after(self) -> datetime | None:
        """When a scheduled job is due; None for one that is not scheduled."""
        if self._record is not None:
            return _time(self._record.due) if self._record.state is State.SCHEDULED else None
        if self._job.delay is not None:
            return _time(self._job.created + self._job.delay)
        return None if self._job.due is None else _time(self._job.due)

    @property
    def started_at(self) -> datetime | None:
        """When the last attempt started."""
        return _time(self._record.started_at) if self._record and self._record.started_at else None

    @property
    def finished_at(self) -> datetime | None:
        return _time(self._record.finished_at) if self._record and self._record.finished_at else None

    @property
    def return_value(self) -> R:
        """What the task returned. Raises ResultNotReady, TaskFailed."""
        if not self.is_finished:
            raise ResultNotReady(f"job {self.id} is {self.state}; call refresh() first, or get(timeout=...) to wait")
        return self._value()

    def refresh(self) -> None:
        """Look again. Raises JobNotFound."""
        self._take(self._results.look_up(self.id))

    async def arefresh(self) -> None:
        """As `refresh`, without blocking the event loop."""
        self._take(await self._results.in_thread(self._results.look_up, self.id))

    def get(self, timeout: float | None = None) -> R:
        """Wait until the job has ended, at most `timeout` seconds (None: for ever), and return what it returned (None
        where the task keeps no result).

        Raises TaskFailed with the remote traceback as text, ResultTimeout, JobNotFound.
        """
        if not self.is_finished:
            self._take(self._results.wait_for(self.id, timeout))
        return self._value()

    async def aget(self, timeout: float | None = None) -> R:
        """As `get`, without blocking the event loop."""
        if not self.is_finished:
            self._take(await self._results.await_for(self.id, timeout))
        return self._value()

    def cancel(self) -> State:
        """Withdraw the job if it waits, ask it to stop if it runs. The state afterwards (RUNNING: it was asked).

        Raises JobNotFound.
        """
        state = self._results.cancel(self.id)
        if state is None:
            raise JobNotFound(f"no job {self.id}: it was pruned, or never enqueued")
        self._record = self._results.look_up(self.id) or self._record
        return state

    async def acancel(self) -> State:
        """As `cancel`, without blocking the event loop."""
        return await self._results.in_thread(self.cancel)

    def _take(self, record: Record | None) -> None:
        if record is None:
            raise JobNotFound(f"no job {self.id}: it was pruned, or never enqueued")
        self._record = record

    def _value(self) -> R:
        record = self._record
        assert record is not None
        if record.state is State.SUCCESSFUL:
            value: Any = None if record.result in (None, b"null") else self._decode(record.result)
            return value  # type: ignore[no-any-return]
        if record.state is State.CANCELLED:
            raise TaskFailed(f"job {self.id} of {self.task_name} was cancelled", record.errors)
        last = record.errors[-1] if record.errors else None
        reason = f"{last.exception}: {last.message}" if last else "no reason was recorded"
        trace = f"\n\nThe traceback in the worker:\n{last.traceback}" if last and last.traceback else ""
        tries = "1 attempt" if record.attempts == 1 else f"{record.attempts} attempts"
        raise TaskFailed(f"job {self.id} of {self.task_name} failed after {tries}: {reason}{trace}", record.errors)

    def __repr__(self) -> str:
        return f"<TaskResult {self.id} {self.task_name} {self.state.lower()} queue={self.queue_name}>"


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
