"""What a test can ask of the jobs that were enqueued."""

from __future__ import annotations

from typing import Any, Final, ParamSpec, overload

from msgspec import Raw, Struct

from outwork import codec
from outwork.app import Outwork
from outwork.brokers.memory import MemoryBroker
from outwork.job import Job, Record, State
from outwork.task import Call, PartialCall, Task

P = ParamSpec("P")

SHOWN: Final = 20
"""How many jobs a failed assertion lists."""


class EnqueuedJob(Struct, frozen=True, kw_only=True):
    """A job as a test sees it. `arguments` by name, as the task gets them, defaults included (but not one that a job
    before it gives); `run_after` in seconds
    from its enqueue, or as Unix seconds where a datetime was given (None: at once); `errors` are the messages of the
    failed attempts."""

    id: str
    task_name: str
    queue_name: str
    priority: int
    arguments: dict[str, Any]
    run_after: float | None
    carried: dict[str, str]
    state: State
    attempts: int
    errors: tuple[str, ...]

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        priority = f" priority={self.priority}" if self.priority else ""
        after = "" if self.run_after is None else f" run_after={self.run_after:g}"
        return f"{self.task_name}({arguments})  queue={self.queue_name}{priority}{after}  {self.state.lower()}"


class Jobs:
    """The jobs of an application while a broker in memory stands in for its own."""

    def __init__(self, app: Outwork, broker: MemoryBroker) -> None:
        self.app = app
        self.broker = broker

    @property
    def jobs(self) -> list[EnqueuedJob]:
        """All that were enqueued, the oldest first."""
        return [self.view(record) for record in self.broker.results]

    def clear(self) -> None:
        """Forget them all."""
        self.broker.clear()

    @overload
    def find(self, task: Task[..., Any], /) -> list[EnqueuedJob]: ...
    @overload
    def find(self, task: Task[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> list[EnqueuedJob]: ...
    def find(self, task: Any, /, *args: Any, **kwargs: Any) -> list[EnqueuedJob]:
        """The jobs of a task, the oldest first: with these arguments (defaults may be left out), or with any if none
        are given. Options of `task.using(...)` that differ from the declared ones must fit, too.

        Raises WrongArguments and its like for a call that `enqueue` would refuse.
        """
        declared = self.app.tasks.get(getattr(task, "name", ""))
        if hasattr(task, "get_backend"):
            raise AssertionError(
                f"{task.module_path} is a task of Django, whose jobs are not recorded here. "
                "Use assert_enqueued of outwork.contrib.django.testing"
            )
        if declared is None:
            raise AssertionError(
                f"{task.name} is no task of this application. Override the fixture outwork_app to return the one it "
                "is declared on"
            )
        wanted = _wanted(task.bind(*args, **kwargs)) if args or kwargs else None
        return [
            view
            for record in self.broker.results
            if record.task == task.name and _fits(codec.decode_job(record.body), task, declared)
            for view in [self.view(record)]
            if wanted is None or view.arguments == wanted
        ]

    @overload
    def assert_enqueued(self, task: Task[..., Any], /) -> EnqueuedJob: ...
    @overload
    def assert_enqueued(self, task: Task[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> EnqueuedJob: ...
    def assert_enqueued(self, task: Any, /, *args: Any, **kwargs: Any) -> EnqueuedJob:
        """The newest job that `find` finds; fails if there is none, and lists what was enqueued."""
        __tracebackhide__ = True
        found = self.find(task, *args, **kwargs)
        if not found:
            raise AssertionError(f"{_call(task, args, kwargs)} was not enqueued. {self._listed()}")
        return found[-1]

    @overload
    def assert_not_enqueued(self, task: Task[..., Any] | None = None, /) -> None: ...
    @overload
    def assert_not_enqueued(self, task: Task[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    def assert_not_enqueued(self, task: Any = None, /, *args: Any, **kwargs: Any) -> None:
        """Fails if `find` finds a job; without a task, if there is any."""
        __tracebackhide__ = True
        if task is None:
            if self.broker.results:
                raise AssertionError(f"nothing should have been enqueued. {self._listed()}")
        elif found := self.find(task, *args, **kwargs):
            raise AssertionError(f"{_call(task, args, kwargs)} was enqueued: {found[-1]}")

    def _listed(self) -> str:
        jobs = self.jobs
        if not jobs:
            return "Nothing was"
        lines = [f"\n  {job}" for job in jobs[-SHOWN:]]
        more = f"\n  and {len(jobs) - SHOWN} before" if len(jobs) > SHOWN else ""
        return f"Enqueued were:{''.join(lines)}{more}"

    def view(self, record: Record) -> EnqueuedJob:
        """A record as a test sees it."""
        job = codec.decode_job(record.body)
        task = self.app.tasks.get(record.task)
        lacks = job.feed.into if job.feed is not None else ""
        return EnqueuedJob(
            id=record.id,
            task_name=record.task,
            queue_name=record.queue,
            priority=record.priority,
            arguments=codec.decode_any(bytes(job.args)) if task is None else _arguments(task, job.args, lacks),
            run_after=job.due if job.delay is None else job.delay,
            carried=job.carried or {},
            state=record.state,
            attempts=record.attempts,
            errors=tuple(failure.message for failure in record.errors),
        )


def _wanted(call: Call[Any] | PartialCall[Any]) -> dict[str, Any]:
    if isinstance(call, PartialCall):
        return _arguments(call.task, call.call.args, call.lacks)
    return _arguments(call.task, call.args)


def _arguments(task: Task[..., Any], body: Raw, lacks: str = "") -> dict[str, Any]:
    """Arguments by name, those that were left out with their defaults, without the one that is given later."""
    payload = task.payload.without(lacks) if lacks else task.payload
    args, kwargs = payload.decode(body)
    bound = payload.signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def _fits(job: Job, task: Task[..., Any], declared: Task[..., Any]) -> bool:
    """Whether the job has what `using` changed."""
    found = {
        "queue_name": job.queue,
        "priority": job.priority,
        "delay": job.delay,
        "due": job.due,
        "expires": job.expires,
    }
    asked, usual = task.options, declared.options
    changed = [name for name in found if getattr(asked, name) != getattr(usual, name)]
    return all(found[name] == getattr(asked, name) for name in changed)


def _call(task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    given = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    return f"{task.name}({', '.join(given) or '...'})"
