"""The application behind a backend's alias: its tasks are Django's, found by their paths, and their attempts are told
by Django's signals. One for each alias in a process, whereas Django makes a backend object for every thread."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.core.signals import setting_changed
from django.utils import timezone
from msgspec.structs import replace

from outwork.app import Outwork
from outwork.client.immediate import WORKER as CALLER
from outwork.context import TaskContext as OutworkContext
from outwork.context import current_context
from outwork.contrib.django import connections, load
from outwork.contrib.django.compat import (
    Task,
    TaskContext,
    TaskResult,
    TaskResultStatus,
    task_backends,
    task_finished,
    task_started,
)
from outwork.contrib.django.payload import DjangoPayload
from outwork.contrib.django.results import BACKEND, bare, change, errors_of, moment, new_result, workers_of
from outwork.contrib.django.tasks import OutworkTask, extras_of, outwork_options
from outwork.events import (
    AttemptStarted,
    Event,
    JobCancelled,
    JobFailed,
    JobGivenBack,
    JobRetried,
    JobSnoozed,
    JobSucceeded,
)
from outwork.job import Failure, Job
from outwork.task import Call
from outwork.task import Task as CoreTask

if TYPE_CHECKING:
    from outwork.contrib.django.backends import OutworkBackend
    from outwork.contrib.django.unsent import Outbox
    from outwork.declaring.payload import Payload


INTERRUPTED: Final = "builtins.KeyboardInterrupt"
VARIANTS: Final = 100
"""How many forms of a task are remembered."""


class BoundTask(CoreTask[..., Any]):
    """A Django task as the core runs it."""

    def __init__(self, app: Application, django: Task) -> None:
        self.django = django
        self._as_enqueued: dict[tuple[int, str, str], Task] = {}
        self.extras = extras_of(django)
        options = outwork_options(django)
        if django.backend != app.alias:  # found by its path: the workers of its own backend fire it
            options = replace(options, periodic=None)
        super().__init__(app, app.runner(django), django.module_path, options)

    def as_enqueued(self, priority: int, queue: str, alias: str) -> Task:
        """Django's task with what `using` gave to a job."""
        key = priority, queue, alias
        found = self._as_enqueued.get(key)
        if found is None:
            if len(self._as_enqueued) >= VARIANTS:
                self._as_enqueued = {}
            found = bare(self.django, priority=priority, queue_name=queue, backend=alias)
            self._as_enqueued[key] = found
        return found

    @property
    def payload(self) -> Payload:
        if not self._made:
            skip = int(self.django.takes_context)
            app: Any = self._app
            self._made.append(DjangoPayload(self.django.func, self.name, skip=skip, on_value=app.returned))
        return self._made[0]


class Tasks(Mapping[str, CoreTask[Any, Any]]):
    """The tasks of an application by their paths; one that was not declared yet is looked for where its path says."""

    def __init__(self, app: Application, known: dict[str, CoreTask[Any, Any]]) -> None:
        self._app = app
        self._known = known

    def __getitem__(self, name: str) -> CoreTask[Any, Any]:
        found = self._known.get(name) or self._app.resolve(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._known))

    def __len__(self) -> int:
        return len(self._known)


class Application(Outwork):
    """The tasks, hooks and broker of one alias in `TASKS`."""

    def __init__(self, alias: str, kind: type[OutworkBackend], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.alias = alias
        self.recorded: list[TaskResult] = []
        """What was enqueued on `dummy:`."""
        self.outbox: Outbox | None = None
        """What was committed and not sent; None where jobs are sent to nobody who could lose them."""
        self._kind = kind
        self._running: dict[str, TaskResult] = {}
        self.hooks.on_event(self._heed)
        self.hooks.around_run(connections.around)
        self.hooks.around_run(connections.aaround)

    @property
    def tasks(self) -> Mapping[str, CoreTask[Any, Any]]:
        return Tasks(self, self._tasks)

    def make_job(self, call: Call[Any]) -> Job:
        """The job of a call as it is to be sent later. Raises what `enqueue` does of a job that is refused."""
        self.admit(call.task)
        job = call.job()
        return self.hooks.prepare(job) if self.hooks.touches_jobs else job

    # ---- finding tasks ----------------------------------------------------------------------------------------------

    def declare(self, task: Task) -> CoreTask[Any, Any]:
        """The core's task for a Django task, whatever `using` changed."""
        known = self._tasks.get(task.module_path)
        if isinstance(known, BoundTask) and known.django.func is task.func:
            same = known.extras == extras_of(task) and known.django.takes_context == task.takes_context
            if same or not isinstance(task, OutworkTask):
                return known
        made = self._tasks[task.module_path] = BoundTask(self, task)
        return made

    def resolve(self, path: str) -> CoreTask[Any, Any] | None:
        """Find a task that no imported module has declared: below the package of an installed application only, because
        the name of a task comes from the broker."""
        module_name, _, name = path.rpartition(".")
        module = sys.modules.get(module_name)
        if module is None:
            inside = [config.name for config in apps.get_app_configs()]
            if not any(f"{module_name}.".startswith(f"{package}.") for package in inside):
                return None
            try:
                module = import_module(module_name)
            except ModuleNotFoundError as error:
                if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
                    return None
                raise
        found = vars(module).get(name)
        return self.declare(found) if isinstance(found, Task) else None

    # ---- running ----------------------------------------------------------------------------------------------------

    def runner(self, task: Task) -> Callable[..., Any]:
        """The function that an attempt calls: with Django's context in the place of ours, or with none."""
        func, takes_context = task.func, task.takes_context

        def given(context: OutworkContext, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (TaskContext(task_result=self._result_here(context)), *args) if takes_context else args

        if inspect.iscoroutinefunction(func):

            async def arun(context: OutworkContext, /, *args: Any, **kwargs: Any) -> Any:
                return await func(*given(context, args), **kwargs)

            run: Callable[..., Any] = arun
        else:

            def call(context: OutworkContext, /, *args: Any, **kwargs: Any) -> Any:
                return func(*given(context, args), **kwargs)

            run = call
        run.__module__ = load.__name__
        run.__wrapped__ = func  # type: ignore[attr-defined]  # tracebacks begin at its frame
        return run

    def expect(self, result: TaskResult) -> None:
        """This job is about to run in the caller: tell of this result, and let it be what `enqueue` returns."""
        self._running[result.id] = result

    def forget(self, job_id: str) -> None:
        self._running.pop(job_id, None)

    def returned(self, value: Any) -> None:
        """The attempt that runs here has returned this."""
        result = self._running.get(current_context().job_id)
        if result is not None:
            change(result, _return_value=value)

    def _result_here(self, context: OutworkContext) -> TaskResult:
        known = self._running.get(context.job_id)
        return known if known is not None and known.worker_ids else self._begin(context)

    def _is_djangos(self, name: str) -> bool:
        """Whether this is a task of Django's; ready-made ones (`app_of`) are not, and Django hears nothing of them."""
        return isinstance(self._tasks.get(name), BoundTask)

    def _begin(self, context: OutworkContext) -> TaskResult:
        """The result of an attempt that begins."""
        job, now = context._job, timezone.now()
        result = self._running.get(job.id)
        if result is None:
            declared = self._tasks[job.task]
            assert isinstance(declared, BoundTask)
            alias = context.carried.get(BACKEND, self.alias)
            task = declared.as_enqueued(job.priority, job.queue, alias)
            result = new_result(task, job, alias, enqueued_at=moment(job.created))
            self._running[job.id] = result
        worker = context.worker_id or CALLER
        change(
            result,
            status=TaskResultStatus.RUNNING,
            started_at=now,
            last_attempted_at=now,
            errors=errors_of(context.failures),
            worker_ids=workers_of(context.failures, worker, context.attempt),
        )
        return result

    # ---- telling ----------------------------------------------------------------------------------------------------

    def _heed(self, event: Event) -> None:
        """Say by Django's signals what happens to attempts. A retry is no end: its job is READY again."""
        match event:
            case AttemptStarted(task_name=name) if self._is_djangos(name):
                task_started.send(sender=self._kind, task_result=self._begin(current_context()))
            case JobSucceeded():
                self._finished(event.job_id, TaskResultStatus.SUCCESSFUL)
            case JobFailed(failure=failure):
                self._finished(event.job_id, TaskResultStatus.FAILED, failure)
            case JobCancelled():
                self._finished(event.job_id, TaskResultStatus.FAILED)
            case JobRetried() | JobSnoozed() | JobGivenBack():
                self.forget(event.job_id)
            case _:
                pass

    def _finished(self, job_id: str, status: TaskResultStatus, failure: Failure | None = None) -> None:
        result = self._running.pop(job_id, None)
        if result is None:  # it never began: its arguments cannot be read
            return
        if failure is not None:
            if failure.exception == INTERRUPTED and failure.worker == CALLER:
                return  # it is raised in the caller, as in Django
            result.errors.append(*errors_of([failure]))
        change(result, status=status, finished_at=timezone.now())
        task_finished.send(sender=self._kind, task_result=result)


# ---- one for each alias ----------------------------------------------------------------------------------------------

_lock: Final = threading.RLock()
_known: Final[dict[str, tuple[type[OutworkBackend], Mapping[str, Any], Application]]] = {}


def application_of(
    alias: str, kind: type[OutworkBackend], params: Mapping[str, Any], make: Callable[[], Application]
) -> Application:
    """The application of an alias: the same one for all threads, as long as its settings stay the same."""
    with _lock:
        known = _known.get(alias)
        if known is not None and known[0] is kind and known[1] == params:
            return known[2]
        app = make()
        _known[alias] = kind, dict(params), app
        setattr(load, load.PREFIX + alias, app)
        return app


def all_applications() -> list[Application]:
    """Those that were used in this process."""
    with _lock:
        return [app for _, _, app in _known.values()]


def _forget_all(*, setting: str, **named: Any) -> None:
    if setting not in ("TASKS", "DATABASES"):
        return
    with _lock:
        before = [app for _, _, app in _known.values()]
        for alias in _known:
            delattr(load, load.PREFIX + alias)
        _known.clear()
    for app in before:
        app.close()


setting_changed.connect(_forget_all, dispatch_uid="outwork.contrib.django")


def backend_of(alias: str) -> OutworkBackend:
    """One of our backends by its alias. Raises InvalidTaskBackend for an unknown alias, TypeError for another's."""
    from outwork.contrib.django.backends import OutworkBackend

    backend = task_backends[alias]
    if not isinstance(backend, OutworkBackend):
        kind = f"{type(backend).__module__}.{type(backend).__qualname__}"
        raise TypeError(f"the task backend {alias!r} is {kind}, not one of Outwork's")
    return backend


def app_of(alias: str = "default") -> Application:
    """The application behind an alias in `TASKS`, for the ready-made tasks: `Mailer(settings, app=app_of())`.

    Raises InvalidTaskBackend for an unknown alias, TypeError for another package's backend.
    """
    return backend_of(alias).app
