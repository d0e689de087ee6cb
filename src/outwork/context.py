"""What a running task can know of its own job."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

from msgspec import Raw

from outwork.brokers.base import Claimed
from outwork.job import WIRE_VERSION, Failure, Job
from outwork.progress import Progress


class TaskContext:
    """The job that is running: given to a task declared with `takes_context=True` as its first parameter `context`,
    and found by `current_context()` anywhere below it. `worker_id` is the worker that runs it, `cancelled` whether
    somebody wants the job cancelled.
    """

    __slots__ = ("_claimed", "_job", "_news", "_said", "cancelled", "on_news", "worker_id")

    def __init__(self, job: Job, claimed: Claimed, worker_id: str) -> None:
        self._job = job
        self._claimed = claimed
        self._said: Progress | None = None
        self._news: Progress | None = None
        self.worker_id = worker_id
        self.cancelled = False
        """Whether somebody wants the job cancelled. The task is stopped for that anyway (an exception in its thread, at
        the next bytecode; a cancelled coroutine; a killed child process): this is for one that shields itself."""
        self.on_news: Callable[[Progress], None] | None = None
        """Called at each word of the task, in a process that cannot be asked for it."""

    @property
    def job_id(self) -> str:
        """The job's id; "" when the task was called directly, without a job."""
        return self._claimed.id

    @property
    def task_name(self) -> str:
        return self._job.task

    @property
    def queue_name(self) -> str:
        return self._job.queue

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._claimed.attempt

    @property
    def failed_attempts(self) -> int:
        """How many attempts failed before this one."""
        return self._claimed.failures

    @property
    def crashes(self) -> int:
        """How many attempts ended because their worker died."""
        return self._claimed.crashes

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The failed attempts so far: the first and the last nine."""
        return self._claimed.errors

    @property
    def carried(self) -> Mapping[str, str]:
        """What hooks and carried context variables put beside the arguments."""
        return self._job.carried or {}

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Say how far the task is: `done` of `total`, in any unit. Cheap: what is said within a second is sent as one,
        to whoever asks `result.progress()` or `outwork jobs show`. What is not given stays as it was said before."""
        self._say((self._said or self._nothing_said()).moved(done, total, message, time.time()))

    def log(self, text: str) -> None:
        """Add a line to the job's log, which is kept with the job: the last hundred lines of 500 characters."""
        self._say((self._said or self._nothing_said()).with_line(text, time.time()))

    def _nothing_said(self) -> Progress:
        return Progress(attempt=self.attempt)

    def _say(self, progress: Progress) -> None:
        self._said = self._news = progress
        if self.on_news is not None:
            self.on_news(progress)

    @property
    def has_news(self) -> bool:
        return self._news is not None

    def take_news(self) -> Progress | None:
        """What the task said since this was last called, for who sends it on."""
        news, self._news = self._news, None
        return news

    def hear(self, progress: Progress) -> None:
        """A child process tells what its task said."""
        self._news = progress

    @property
    def slot(self) -> datetime | None:
        """The moment for which a schedule enqueued it, in UTC; None for a job that somebody else enqueued."""
        slot = self._job.slot
        return None if slot is None else datetime.fromtimestamp(slot, UTC)

    def __repr__(self) -> str:
        return f"<TaskContext {self.task_name} job={self.job_id or 'none'} attempt={self.attempt}>"


def direct_context(task_name: str, queue_name: str) -> TaskContext:
    """The context of a task that is called like a function, without a job."""
    job = Job(v=WIRE_VERSION, id="", task=task_name, args=Raw(b"{}"), queue=queue_name)
    return TaskContext(job, Claimed("", "", b""), "")


running: Final[ContextVar[TaskContext | None]] = ContextVar("outwork_context", default=None)


def current_context() -> TaskContext:
    """The context of the job that runs here. Raises LookupError outside of a job."""
    context = running.get()
    if context is None:
        raise LookupError("no job is running here: current_context() works inside a task that a worker runs")
    return context
