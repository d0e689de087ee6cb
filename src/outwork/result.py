"""What enqueue returns: the job as it was when last looked at, and the way to its result."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Protocol, TypeVar

from outwork.errors import JobNotFound, ResultNotReady, TaskFailed
from outwork.habits import explain_attribute
from outwork.job import Failure, Job, Record, State
from outwork.progress import Progress

R = TypeVar("R")
T = TypeVar("T")


class TaskResultStatus(StrEnum):
    """Django's four: a job that waits for its time or a retry is READY, a cancelled one FAILED (see `state`)."""

    READY = "READY"
    RUNNING = "RUNNING"
    SUCCESSFUL = "SUCCESSFUL"
    FAILED = "FAILED"


_STATUS: Final = {
    State.HELD: TaskResultStatus.READY,
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
    def look_up_all(self, ids: Sequence[str], /) -> list[Record | None]: ...
    def cancel(self, job_id: str) -> State | None: ...
    def cancel_all(self, ids: Sequence[str], /) -> list[State | None]: ...
    def progress_of(self, job_id: str) -> Progress | None: ...
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

    if not TYPE_CHECKING:  # for a type checker there is no such attribute either

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(explain_attribute(name), name=name, obj=self)

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
        """The full state: HELD, SCHEDULED, READY, RUNNING, SUCCESSFUL, FAILED or CANCELLED."""
        if self._record is not None:
            return self._record.state
        if self._job.ties is not None and self._job.ties.awaits:
            return State.HELD
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

    def belongs_to(self, app: object) -> bool:
        """Whether it is a job of this application."""
        return self._results is app

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

    def progress(self) -> Progress | None:
        """How far the job is, as its task last said; None if it said nothing (yet). Asks the store."""
        return self._results.progress_of(self.id)

    async def aprogress(self) -> Progress | None:
        """As `progress`, without blocking the event loop."""
        return await self._results.in_thread(self._results.progress_of, self.id)

    async def updates(self, every: float = 0.5) -> AsyncIterator[Progress]:
        """Each new word of the task, looked for every so many seconds, until the job has ended.

        Raises JobNotFound. The state is that of the last look when it ends.
        """
        import asyncio

        last: Progress | None = None
        while True:
            await self.arefresh()
            news = await self.aprogress()
            if news is not None and news != last:
                last = news
                yield news
            if self.is_finished:
                return
            await asyncio.sleep(every)

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
        last = record.errors[-1] if record.errors else None
        if record.state is State.CANCELLED:
            why = f": {last.message}" if last and last.exception == "outwork.errors.NotStarted" else ""
            raise TaskFailed(f"job {self.id} of {self.task_name} was cancelled{why}", record.errors)
        reason = f"{last.exception}: {last.message}" if last else "no reason was recorded"
        trace = f"\n\nThe traceback in the worker:\n{last.traceback}" if last and last.traceback else ""
        tries = "1 attempt" if record.attempts == 1 else f"{record.attempts} attempts"
        raise TaskFailed(f"job {self.id} of {self.task_name} failed after {tries}: {reason}{trace}", record.errors)

    def __repr__(self) -> str:
        return f"<TaskResult {self.id} {self.task_name} {self.state.lower()} queue={self.queue_name}>"


class FlowResult(TaskResult[R]):
    """The last job of several that were enqueued together. `ids` are those of all of them."""

    def __init__(self, last: TaskResult[R], ids: Sequence[str]) -> None:
        super().__init__(last._results, last._job, last._decode, last._record)
        self.ids = tuple(ids)

    def cancel(self) -> State:
        """Withdraw all of these jobs that wait, and ask those that run to stop. The state of the last one afterwards.

        Raises JobNotFound.
        """
        self._results.cancel_all(self.ids)
        return super().cancel()


class GroupResult(Generic[R]):
    """The jobs of a group, as they were at the last `refresh`. `results` are the members' own, in their order."""

    def __init__(self, results: Results | None, members: Sequence[TaskResult[R]] = (), ids: Sequence[str] = ()) -> None:
        self._results: Any = results  # None for an empty group, of which nothing is asked
        self._all = tuple(ids)
        self.results = list(members)

    @property
    def ids(self) -> list[str]:
        """The ids of the members."""
        return [result.id for result in self.results]

    @property
    def counts(self) -> Counter[State]:
        """How many members are in each state."""
        return Counter(result.state for result in self.results)

    @property
    def is_finished(self) -> bool:
        """Whether every member has ended, well or not."""
        return all(result.is_finished for result in self.results)

    def refresh(self) -> None:
        """Look again at those that had not ended. Raises JobNotFound."""
        self._look()

    async def arefresh(self) -> None:
        """As `refresh`, without blocking the event loop."""
        await self._beside(self._look)

    def get(self, timeout: float | None = None) -> list[R]:
        """Wait until all have ended, at most `timeout` seconds (None: for ever); what they returned, in their order.

        Raises TaskFailed if one has failed or was cancelled, ResultTimeout, JobNotFound.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (waiting := self._look()) is not None:
            self._results.wait_for(waiting, _left(deadline))
        return [result.return_value for result in self.results]

    async def aget(self, timeout: float | None = None) -> list[R]:
        """As `get`, without blocking the event loop."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (waiting := await self._beside(self._look)) is not None:
            await self._results.await_for(waiting, _left(deadline))
        return [result.return_value for result in self.results]

    def cancel(self) -> Counter[State]:
        """Withdraw all members that wait, and ask those that run to stop. How many are in each state afterwards."""
        if self._all:
            self._results.cancel_all(self._all)
        self._look()
        return self.counts

    async def acancel(self) -> Counter[State]:
        """As `cancel`, without blocking the event loop."""
        return await self._beside(self.cancel)

    async def _beside(self, work: Callable[[], T]) -> T:
        return await self._results.in_thread(work) if self._all else work()

    def _look(self) -> str | None:
        """Look again; the id of the last member that has not ended."""
        waiting = [result for result in self.results if not result.is_finished]
        if not waiting:
            return None
        for result, record in zip(waiting, self._results.look_up_all([one.id for one in waiting]), strict=True):
            result._take(record)
        return next((result.id for result in reversed(waiting) if not result.is_finished), None)

    def __repr__(self) -> str:
        states = ", ".join(f"{number} {state.lower()}" for state, number in self.counts.items())
        return f"<GroupResult of {len(self.results)}: {states or 'empty'}>"


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
