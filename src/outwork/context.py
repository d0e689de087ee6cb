"""What a running task can know of its own job."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Final

from msgspec import Raw

from outwork.brokers.base import Claimed
from outwork.job import WIRE_VERSION, Failure, Job


class TaskContext:
    """The job that is running: given to a task declared with `takes_context=True` as its first parameter `context`,
    and found by `current_context()` anywhere below it. `worker_id` is the worker that runs it.
    """

    __slots__ = ("_claimed", "_job", "worker_id")

    def __init__(self, job: Job, claimed: Claimed, worker_id: str) -> None:
        self._job = job
        self._claimed = claimed
        self.worker_id = worker_id

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
