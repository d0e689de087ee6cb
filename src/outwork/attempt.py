"""Run one attempt: decode, call, encode -> Outcome. The one piece of code that does so, used by callers (`immediate:`),
by the worker's threads, event loop and children, and by tests.

`begin` says whether there is anything to call; then `run` (a thread) or `arun` (an event loop) calls it. Whatever the
task raises becomes an Outcome; nothing is raised to the caller but what is not the task's fault.
"""

from __future__ import annotations

import inspect
import logging
import random
import time
import traceback
from collections.abc import Mapping
from contextvars import copy_context
from typing import Any, Final

from outwork import codec
from outwork.brokers.base import Claimed
from outwork.context import TaskContext, running
from outwork.durations import seconds_of
from outwork.errors import (
    HookFailed,
    NotStarted,
    OutworkError,
    ResultNotSerializable,
    Snooze,
    TryAgain,
    Undecodable,
    UnknownTask,
    UpstreamFailed,
    WorkerDied,
)
from outwork.events import (
    AttemptFailed,
    AttemptStarted,
    JobCancelled,
    JobFailed,
    JobGivenBack,
    JobRetried,
    JobSnoozed,
    JobSucceeded,
)
from outwork.feeding import filled, members
from outwork.job import MISSES_ALLOWED, Again, Cancelled, Dead, Done, Failure, Feed, Job, Outcome, Release, remember
from outwork.retry import for_any_error, next_delay
from outwork.task import Task

logger = logging.getLogger("outwork")

STORE_PAUSE: Final = 5.0
"""Seconds for which a job is given back when the store cannot be asked."""
UNKNOWN_DELAY: Final = 30.0
"""Seconds for which a job is given back by a worker that does not know its task."""

Tasks = Mapping[str, Task[Any, Any]]


class Attempt:
    """One try at a job: what is called, with what, and how its end is judged.

    Its arguments are read where it runs, not where it was claimed: a worker has one thread that claims, and what that
    one does not do, others can do meanwhile.
    """

    __slots__ = (
        "arrived_at",
        "claimed",
        "context",
        "held_since",
        "job",
        "started_at",
        "stop_reason",
        "task",
    )

    def __init__(self, claimed: Claimed, job: Job, task: Task[Any, Any], worker: str) -> None:
        self.claimed = claimed
        self.job = job
        self.task = task
        self.context = TaskContext(job, claimed, worker)
        self.held_since = 0.0
        """When its lease was last asked for, and was granted: no server counts it from an earlier moment."""
        self.arrived_at = 0.0
        self.started_at = 0.0
        """Readings of this process' monotonic clock, kept by the worker."""
        self.stop_reason: BaseException | Cancelled | Release | None = None
        """Set by who stops the attempt from outside (time limit, cancel, shutdown), before it makes the task raise."""

    @property
    def suspect(self) -> bool:
        """Whether its worker died so often that one more death may bury it."""
        return self.claimed.crashes >= max(1, self.job.max_crashes - 1)

    def run(self) -> Outcome:
        """Call the task on this thread."""
        return copy_context().run(self._run)

    def _run(self) -> Outcome:
        running.set(self.context)
        if self.job.feed is not None and (outcome := self.feed()) is not None:
            return outcome
        try:
            args, kwargs = self._arguments()
        except Exception as error:  # noqa: BLE001 - Undecodable, HintError
            return self._unreadable(error)
        if self._hooked:
            return self._run_hooked(args, kwargs)
        try:
            value = self.task.fn(*args, **kwargs)
            if self.task.is_async:
                import asyncio

                value = asyncio.run(value)
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt fail the attempt, too
            return self.failed(error)
        return self.returned(value)

    async def arun(self) -> Outcome:
        """Await the task on this event loop; in an asyncio Task of its own, which has a context of its own."""
        running.set(self.context)
        if self.job.feed is not None and (outcome := await self._afeed()) is not None:
            return outcome
        try:
            args, kwargs = self._arguments()
        except Exception as error:  # noqa: BLE001 - as above
            return self._unreadable(error)
        if self._hooked:
            return await self._arun_hooked(args, kwargs)
        try:
            value = await self.task.fn(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - as above
            return self.failed(error)
        return self.returned(value)

    async def _afeed(self) -> Outcome | None:
        import asyncio

        try:
            return await asyncio.to_thread(self.feed)
        except BaseException as error:  # noqa: BLE001 - as above: it may be stopped while it waits
            return self.failed(error)

    def feed(self) -> Outcome | None:
        """Take what the jobs before it give; the outcome where the task is not to be called. Asks the store: it may
        take a while."""
        try:
            records = self.task.app.look_up_all(members(self.job.feed or Feed()), ends=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to this job
            if self.stop_reason is not None or not isinstance(error, OutworkError):
                return self.failed(error)
            logger.warning("job %s waits: the store does not say how those before it ended: %s", self.claimed.id, error)
            return Release(delay=STORE_PAUSE)
        try:
            self.job = filled(self.job, records, self.task.payload.hints)
        except UpstreamFailed as error:  # the traceback of its own code says nothing about it
            return self.told(Dead(remember(self.claimed.errors, self.failure(error.with_traceback(None)))))
        except NotStarted as error:
            return self.told(Cancelled(remember(self.claimed.errors, self.failure(error.with_traceback(None)))))
        self.claimed = self.claimed._replace(body=codec.encode_job(self.job))
        return None

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = self.task.payload.decode(self.job.args)
        if self.task.options.takes_context:
            args = (self.context, *args)
        return args, kwargs

    def _unreadable(self, error: Exception) -> Outcome:
        """The outcome where the function cannot be called with what is stored."""
        if self.stop_reason is not None:  # stopped from outside, at this very moment
            return self.failed(error)
        return unreadable(self.claimed, self.task, error, self.context.worker_id)

    @property
    def _hooked(self) -> bool:
        """Whether anything stands around the call."""
        return self.task.hooks.touches_runs or bool(self.task.payload.provisions)

    def _run_hooked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
        try:
            if self.task.is_async:
                import asyncio

                return asyncio.run(self._arun_hooked(args, kwargs))
            self._tell_start()
            task, provisions = self.task, self.task.payload.provisions
            with task.hooks.around(self.context), task.app.providers.opened(provisions, self.context) as given:
                value = task.fn(*args, **kwargs, **given)
        except BaseException as error:  # noqa: BLE001 - as above
            return self.failed(error)
        return self.told(self.returned(value))

    async def _arun_hooked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
        try:
            self._tell_start()
            task, provisions = self.task, self.task.payload.provisions
            providers = task.app.providers
            async with task.hooks.aaround(self.context), providers.aopened(provisions, self.context) as given:
                value = await task.fn(*args, **kwargs, **given)
        except BaseException as error:  # noqa: BLE001 - as above
            return self.failed(error)
        return self.told(self.returned(value))

    def returned(self, value: Any) -> Outcome:
        """The outcome of a call that returned."""
        keep = self.task.options.keep_result
        try:
            body = self.task.payload.encode_result(value)
        except ResultNotSerializable as error:
            return self._dead(error)
        return Done(b"null" if keep == 0 else body, keep)

    def failed(self, error: BaseException) -> Outcome:
        """The outcome of a call that raised, or was ended from outside."""
        return self.told(self._judged(error))

    def again(self, delay: float, failures: tuple[Failure, ...], *, counted: bool) -> Outcome:
        """The outcome of an attempt after which there is to be another one."""
        return Again(delay, failures, counted)

    def _judged(self, error: BaseException) -> Outcome:
        reason = self.stop_reason
        if isinstance(reason, Release) and self.job.at_most_once:
            return self._dead(WorkerDied("the worker was stopped while it ran; it is not started twice"))
        if isinstance(reason, Cancelled | Release):
            return reason
        if reason is not None:
            error = reason.with_traceback(error.__traceback__)
        if isinstance(error, Snooze):
            if self.job.at_most_once:
                return self._dead(
                    RuntimeError("it snoozed, but a task that is delivered at most once is not started twice")
                )
            try:
                return self.again(seconds_of(error.for_), self.claimed.errors, counted=False)
            except ValueError as wrong:
                return self._dead(wrong)
        policy = self.task.options.retry
        if isinstance(error, HookFailed):  # the policy's exceptions are the task's
            policy = for_any_error(policy)
        delay = next_delay(policy, self.claimed.failures + 1, error, random.random())
        if delay is None:
            return self._dead(error)
        if isinstance(error, TryAgain) and error.after is not None:
            try:
                delay = seconds_of(error.after)
            except ValueError as wrong:
                return self._dead(wrong)
        return self.again(delay, remember(self.claimed.errors, self.failure(error)), counted=True)

    def failure(self, error: BaseException) -> Failure:
        """The record of an error."""
        code = getattr(inspect.unwrap(self.task.fn), "__code__", None)
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code is not code:
            trace = trace.tb_next
        return failure_of(error.with_traceback(trace or error.__traceback__), self.claimed, self.context.worker_id)

    def _dead(self, error: BaseException) -> Dead:
        return Dead(remember(self.claimed.errors, self.failure(error)))

    # ---- telling ----------------------------------------------------------------------------------------------------

    def _tell_start(self) -> None:
        self.started_at = self.started_at or time.monotonic()
        if self.task.hooks.listens:
            self.task.hooks.tell(AttemptStarted(**self._about()))

    def told(self, outcome: Outcome) -> Outcome:
        """Tell the listeners how the attempt ended."""
        if not self.task.hooks.listens:
            return outcome
        tell = self.task.hooks.tell
        about = self._about()
        if isinstance(outcome, Cancelled):
            tell(JobCancelled(**{name: about[name] for name in JobCancelled.__struct_fields__}))
            return outcome
        about["seconds"] = time.monotonic() - self.started_at if self.started_at else 0.0
        match outcome:
            case Done():
                tell(JobSucceeded(**about))
            case Again(delay, failures, True):
                tell(AttemptFailed(**about, failure=failures[-1]))
                tell(JobRetried(**about, delay=delay))
            case Again(delay):
                tell(JobSnoozed(**about, delay=delay))
            case Dead(failures):
                tell(AttemptFailed(**about, failure=failures[-1]))
                tell(JobFailed(**about, failure=failures[-1]))
            case Release():
                tell(JobGivenBack(**about))
        return outcome

    def _about(self) -> dict[str, Any]:
        return about_attempt(self.claimed, self.job.task, self.job.queue, self.context.worker_id)


def begin(claimed: Claimed, tasks: Tasks, worker: str, kind: type[Attempt] = Attempt) -> Attempt | Outcome:
    """The attempt to run, or the outcome where there is nothing to call.

    A task that is not known is given back for 30 s, and ends FAILED after an hour of that; an envelope that cannot be
    decoded ends FAILED at once. (Arguments that cannot be end so when it runs.)
    """
    try:
        job = codec.decode_job(claimed.body)
    except Undecodable as error:  # no job may break the worker
        return unreadable(claimed, None, error, worker)
    task = tasks.get(job.task)
    if task is not None:
        return kind(claimed, job, task, worker)
    if claimed.misses + 1 < MISSES_ALLOWED:
        return Release(delay=UNKNOWN_DELAY, missed=True)
    unknown = UnknownTask(
        f"no worker knew the task {job.task!r} for an hour. Import its module in the worker, then retry"
    )
    return Dead(remember(claimed.errors, failure_of(unknown, claimed, worker)))


def unreadable(claimed: Claimed, task: Task[Any, Any] | None, error: Exception, worker: str) -> Outcome:
    """The outcome of a job that nobody can read."""
    failure = failure_of(error, claimed, worker)
    if task is not None and task.hooks.listens:
        about = about_attempt(claimed, task.name, task.options.queue_name, worker)
        task.hooks.tell(JobFailed(**about, seconds=0.0, failure=failure))
    return Dead(remember(claimed.errors, failure))


def about_attempt(claimed: Claimed, task: str, queue: str, worker: str) -> dict[str, Any]:
    """What every event of an attempt says."""
    return {
        "job_id": claimed.id,
        "task_name": task,
        "queue_name": queue,
        "at": time.time(),
        "attempt": claimed.attempt,
        "worker_id": worker,
    }


def failure_of(error: BaseException, claimed: Claimed, worker: str) -> Failure:
    """An exception as text: its class path, message and traceback, without our own frames."""
    kind = type(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__") == __name__:
        trace = trace.tb_next
    text = "".join(traceback.format_exception(kind, error, trace, limit=-40))
    return Failure(
        exception=f"{kind.__module__}.{kind.__qualname__}",
        message=codec.shortened(_message(error), 2_000),
        traceback=codec.shortened(text, codec.TRACEBACK_LIMIT),
        attempt=claimed.attempt,
        worker=worker,
        at=time.time(),
    )


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - the task's own __str__ raised; say so instead
        return f"<its __str__ raised {type(broken).__name__}>"
