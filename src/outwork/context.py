"""What a running task can know of its own job."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from outwork.job import Failure


class TaskContext:
    """The job that is running: given to a task declared with `takes_context=True` as its first parameter `context`,
    and found by `current_context()` anywhere below it.

    - job_id: the job's id; "" when the task was called directly, without a job
    - task_name, queue_name: as it was enqueued
    - attempt: the number of this attempt, from 1; `failed_attempts` and `crashes` are why it is not the first
    - failures: the failed attempts so far
    - worker_id: the worker that runs it
    """

    __slots__ = ("attempt", "carried", "crashes", "failures", "job_id", "queue_name", "task_name", "worker_id")

    def __init__(
        self,
        *,
        task_name: str,
        queue_name: str,
        job_id: str = "",
        attempt: int = 1,
        crashes: int = 0,
        failures: tuple[Failure, ...] = (),
        worker_id: str = "",
        carried: dict[str, str] | None = None,
    ) -> None:
        self.job_id = job_id
        self.task_name = task_name
        self.queue_name = queue_name
        self.attempt = attempt
        self.crashes = crashes
        self.failures = failures
        self.worker_id = worker_id
        self.carried = carried or {}

    @property
    def failed_attempts(self) -> int:
        """How many attempts failed before this one, crashes not counted."""
        return self.attempt - 1 - self.crashes

    def __repr__(self) -> str:
        return f"<TaskContext {self.task_name} job={self.job_id or 'none'} attempt={self.attempt}>"


running: Final[ContextVar[TaskContext | None]] = ContextVar("outwork_context", default=None)


def current_context() -> TaskContext:
    """The context of the job that runs here. Raises LookupError outside of a job."""
    context = running.get()
    if context is None:
        raise LookupError("no job is running here: current_context() works inside a task that a worker runs")
    return context
