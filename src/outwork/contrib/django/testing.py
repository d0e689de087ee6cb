"""For the tests of a Django project: what was enqueued, and running it in the test's own thread and transaction.

With DatabaseBackend nothing has to be switched off for a test: jobs are rows of the test's transaction, `run_jobs()`
runs them, and the rollback forgets them. DummyBackend records, ImmediateBackend runs in the caller.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from outwork.attempt import Attempt, begin
from outwork.brokers.base import Broker, Filter, Settlement, Share, Store
from outwork.client.immediate import WORKER, call_here
from outwork.contrib.django.application import backend_of
from outwork.contrib.django.compat import Task, TaskResult
from outwork.errors import Unsupported
from outwork.ids import new_claim_id

if TYPE_CHECKING:
    from outwork.contrib.django.backends import OutworkBackend

PAGE: Final = 200
SHOWN: Final = 20


def run_jobs(backend: str = "default", *, limit: int = 1000) -> int:
    """Run every job that is due, and those that they enqueue, in this thread. How many attempts that were.

    A task that fails is recorded as on any worker; one that is to be tried again waits for its time. After `limit`
    attempts it is an AssertionError: a task that enqueues itself would run for ever.
    """
    chosen = backend_of(backend)
    broker = _broker(chosen)
    ran = 0
    while True:
        broker.tend(None, rescue=False)
        shares = [Share(name, 1) for name in broker.queues()]
        claimed = broker.exchange(new_claim_id(), [], shares, 1, 1, WORKER).claimed
        if not claimed:
            return ran
        if ran >= limit:
            raise AssertionError(f"{limit} attempts were run, and there is more to do. Does a task enqueue itself?")
        [one] = claimed
        begun = begin(one, chosen.app.tasks, WORKER)
        outcome = call_here(begun) if isinstance(begun, Attempt) else begun
        broker.exchange(new_claim_id(), [Settlement(one.id, one.claim_id, outcome)], [], 0, 0, WORKER)
        ran += 1


def enqueued(backend: str = "default") -> list[TaskResult]:
    """The jobs of a backend, the oldest first."""
    chosen = backend_of(backend)
    if chosen.runs_in == "nowhere":
        return list(chosen.app.recorded)
    store = chosen.store
    if store is None:
        raise Unsupported(f"TASKS[{backend!r}] keeps no jobs that could be looked at")
    return [chosen.result_of(record) for record in reversed(list(_records(store)))]


def assert_enqueued(task: Task, /, *args: Any, **kwargs: Any) -> TaskResult:
    """The newest job of this task: with these arguments, or with any if none are given. Fails if there is none."""
    __tracebackhide__ = True
    jobs = enqueued(task.backend)
    found = [job for job in jobs if _fits(job, task, args, kwargs)]
    if not found:
        listed = "".join(f"\n  {_shown(job)}" for job in jobs[-SHOWN:]) or " nothing"
        raise AssertionError(f"{_call(task, args, kwargs)} was not enqueued. Enqueued were:{listed}")
    return found[-1]


def assert_not_enqueued(task: Task, /, *args: Any, **kwargs: Any) -> None:
    """Fails if there is such a job."""
    __tracebackhide__ = True
    found = [job for job in enqueued(task.backend) if _fits(job, task, args, kwargs)]
    if found:
        raise AssertionError(f"{_call(task, args, kwargs)} was enqueued: {_shown(found[-1])}")


class TaskAssertions:
    """The same for `TestCase`: `class MailTests(TaskAssertions, TestCase)`."""

    def assertEnqueued(self, task: Task, /, *args: Any, **kwargs: Any) -> TaskResult:
        return assert_enqueued(task, *args, **kwargs)

    def assertNotEnqueued(self, task: Task, /, *args: Any, **kwargs: Any) -> None:
        assert_not_enqueued(task, *args, **kwargs)

    def runJobs(self, backend: str = "default") -> int:
        return run_jobs(backend)


def _broker(backend: OutworkBackend) -> Broker:
    from outwork.contrib.django.backends import DatabaseBackend

    if backend.runs_in not in ("elsewhere", "embedded"):
        raise Unsupported(f"TASKS[{backend.alias!r}]: {type(backend).__name__} leaves nothing to be run")
    return backend.joined if isinstance(backend, DatabaseBackend) else backend.app.broker


def _records(store: Store) -> Iterator[Any]:
    cursor: str | None = None
    while True:
        page = store.find(Filter(), PAGE, cursor)
        yield from page.records
        cursor = page.cursor
        if cursor is None:
            return


def _fits(job: TaskResult, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if job.task.module_path != task.module_path:
        return False
    return not (args or kwargs) or (job.args == list(args) and job.kwargs == kwargs)


def _call(task: Task, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    given = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    return f"{task.module_path}({', '.join(given) or '...'})"


def _shown(job: TaskResult) -> str:
    return f"{_call(job.task, tuple(job.args), job.kwargs)}  queue={job.task.queue_name}  {str(job.status).lower()}"
