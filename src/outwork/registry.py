"""The tasks of an application, and the decorator that declares them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, ParamSpec, TypeVar, overload

from outwork.declaring.bounds import Key, Limit
from outwork.declaring.options import UNSET, Delivery, Duration, Executor, Unset, make_options
from outwork.declaring.providers import Providers
from outwork.errors import DuplicateTask
from outwork.habits import known_options
from outwork.hooks import Hooks
from outwork.job import DEFAULT_QUEUE
from outwork.retry import Retry
from outwork.schedule import Misfire
from outwork.task import Application, AsyncTask, ContextDecorator, PlainDecorator, Task, make_task
from outwork.ties import Conflict

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class Registry(Application):
    """The part of an application that tasks are declared on. It needs no broker and no settings."""

    def __init__(self) -> None:
        self.hooks = Hooks()
        self.providers = Providers()
        self.chores: list[Callable[[], bool]] = []
        """What a worker of this application does every few seconds. True: there is more of it to do at once."""
        self._tasks: dict[str, Task[Any, Any]] = {}

    @overload
    def task(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def task(self, fn: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self,
        /,
        *,
        name: str | None = ...,
        queue_name: str = ...,
        priority: int = ...,
        retry: Retry | None = ...,
        timeout: Duration | None = ...,
        keep_result: Duration | None = ...,
        expires: Duration | None = ...,
        max_crashes: int = ...,
        delivery: Delivery = ...,
        executor: Executor | None = ...,
        unique: bool = ...,
        unique_for: Duration | None = ...,
        unique_key: Key | None = ...,
        on_conflict: Conflict | None = ...,
        limit: Limit | Sequence[Limit] | None = ...,
        fair_key: Key | None = ...,
        cron: str | None = ...,
        every: Duration | None = ...,
        timezone: str | None = ...,
        misfire: Misfire | None = ...,
        takes_context: Literal[False] = ...,
    ) -> PlainDecorator: ...
    @overload
    def task(
        self,
        /,
        *,
        name: str | None = ...,
        queue_name: str = ...,
        priority: int = ...,
        retry: Retry | None = ...,
        timeout: Duration | None = ...,
        keep_result: Duration | None = ...,
        expires: Duration | None = ...,
        max_crashes: int = ...,
        delivery: Delivery = ...,
        executor: Executor | None = ...,
        unique: bool = ...,
        unique_for: Duration | None = ...,
        unique_key: Key | None = ...,
        on_conflict: Conflict | None = ...,
        limit: Limit | Sequence[Limit] | None = ...,
        fair_key: Key | None = ...,
        cron: str | None = ...,
        every: Duration | None = ...,
        timezone: str | None = ...,
        misfire: Misfire | None = ...,
        takes_context: Literal[True],
    ) -> ContextDecorator: ...
    @known_options
    def task(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        queue_name: str = DEFAULT_QUEUE,
        priority: int = 0,
        retry: Retry | Unset | None = UNSET,
        timeout: Duration | None = None,
        keep_result: Duration | None = None,
        expires: Duration | None = None,
        max_crashes: int = 3,
        delivery: Delivery = "at_least_once",
        executor: Executor | None = None,
        unique: bool = False,
        unique_for: Duration | None = None,
        unique_key: Key | None = None,
        on_conflict: Conflict | None = None,
        limit: Limit | Sequence[Limit] | None = None,
        fair_key: Key | None = None,
        cron: str | None = None,
        every: Duration | None = None,
        timezone: str | None = None,
        misfire: Misfire | None = None,
        takes_context: bool = False,
    ) -> Any:
        """Declare a task: bare, or with options. Needs no broker and no settings.

        - name: how jobs name it; by default `module.qualname`. Unique in the application
        - queue_name, priority (-100..100, larger first): where its jobs wait
        - retry: what happens when it raises; by default 10 attempts in about 1.7 hours, None for one attempt
        - timeout: how long one attempt may run
        - keep_result: how long the result is kept (0: not at all)
        - expires: how long a job may wait after it is due before it is not worth starting
        - max_crashes: how often its worker may die before the job ends FAILED
        - delivery: "at_most_once": never started twice, even after a crash
        - executor: "process" for code that holds the interpreter's lock for seconds, or must be isolated
        - unique: only one job with the same arguments waits or runs at a time; `unique_for`: for so long from its
          enqueue; `unique_key`: a key, or a function of the arguments that gives it. `on_conflict` is what another call
          does meanwhile: "return" that job, "replace" its arguments and time while it waits, or "raise" Duplicate
        - limit: `Concurrency` or `Rate`, or several, over all workers
        - fair_key: a key, or a function of the arguments: those who have jobs in its queue take turns there, one by one
        - cron ("0 7 * * *", in `timezone`, by default UTC) or every (counted from the epoch): the workers enqueue it at
          these times. `misfire` is what becomes of times at which no worker ran: "once" (by default) makes up for the
          last one, "all" for up to 100, "skip" for none
        - takes_context: the first parameter, `context`, is the job's TaskContext

        Raises DeclarationError, DuplicateTask.
        """
        options = make_options(
            queue_name=queue_name,
            priority=priority,
            retry=retry,
            timeout=timeout,
            keep_result=keep_result,
            expires=expires,
            max_crashes=max_crashes,
            delivery=delivery,
            executor=executor,
            takes_context=takes_context,
            unique=unique,
            unique_for=unique_for,
            unique_key=unique_key,
            on_conflict=on_conflict,
            limit=limit,
            fair_key=fair_key,
            cron=cron,
            every=every,
            timezone=timezone,
            misfire=misfire,
        )

        def declare(fn: Callable[..., Any]) -> Task[Any, Any]:
            return self._register(make_task(self, fn, name, options))

        return declare if fn is None else declare(fn)

    def provide(self, key: Any, provider: F) -> F:
        """Give tasks what `provider` makes, where they run: to parameters with the default `provided()` whose type is
        `key`, or whose name it is; without a default, name or type are enough.

        Call it where tasks are declared, so that who enqueues and every worker know of it. Raises DeclarationError.
        """
        self.providers.add(key, provider)
        for task in self._tasks.values():
            task.forget_payload()
        return provider

    def _register(self, task: Task[Any, Any]) -> Task[Any, Any]:
        known = self._tasks.get(task.name)
        if known is not None and _origin(known) != _origin(task):
            raise DuplicateTask(
                f"two tasks are named {task.name!r}: {known.source} and {task.source}. Give one of them a name=..."
            )
        self._tasks[task.name] = task
        return task

    @property
    def tasks(self) -> Mapping[str, Task[Any, Any]]:
        """The declared tasks by name."""
        return MappingProxyType(self._tasks)


def _origin(task: Task[Any, Any]) -> tuple[str, str]:
    """Where a task comes from: the same function declared again (a reloaded module) is not a second one."""
    return task.fn.__module__, task.fn.__qualname__
