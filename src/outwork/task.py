"""What a developer declares: `@task` makes a Task; a Task makes Calls; the application makes jobs of them."""

from __future__ import annotations

import copy
import inspect
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from functools import cached_property, partial, update_wrapper
from typing import Any, Concatenate, Final, Generic, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from msgspec import Raw, Struct
from msgspec.structs import replace

from outwork.context import TaskContext, direct_context
from outwork.durations import seconds_of
from outwork.errors import DeclarationError, InvalidOption, NaiveDatetime, NotImportable
from outwork.hooks import Hooks
from outwork.ids import new_job_id
from outwork.job import DEFAULT_QUEUE, PRIORITY_MAX, PRIORITY_MIN, WIRE_VERSION, Job
from outwork.payload import Payload
from outwork.providers import Providers
from outwork.result import TaskResult
from outwork.retry import NEVER, Retry

P = ParamSpec("P")
R = TypeVar("R")

Duration: TypeAlias = timedelta | float
"""A length of time: a timedelta, or seconds."""
When: TypeAlias = datetime | timedelta | float
"""A moment: an aware datetime, or a length of time from now."""
Delivery: TypeAlias = Literal["at_least_once", "at_most_once"]
Executor: TypeAlias = Literal["thread", "process"]

DEFAULT_RETRY: Final = Retry()


class Options(Struct, frozen=True, kw_only=True):
    """The options of a task, as declared or changed by `using`. Times are seconds."""

    queue_name: str = DEFAULT_QUEUE
    priority: int = 0
    retry: Retry = DEFAULT_RETRY
    timeout: float | None = None
    keep_result: float | None = None
    expires: float | None = None
    max_crashes: int = 3
    delivery: Delivery = "at_least_once"
    executor: Executor | None = None
    takes_context: bool = False
    delay: float | None = None
    due: float | None = None


class Application(Protocol):
    """What a task needs of the application it belongs to."""

    hooks: Hooks
    providers: Providers

    @property
    def max_payload(self) -> int: ...

    def enqueue(self, call: Call[R], /) -> TaskResult[R]: ...
    async def aenqueue(self, call: Call[R], /) -> TaskResult[R]: ...


class Call(Generic[R]):
    """A task with its arguments, checked and encoded: what `bind` returns and `enqueue_many` takes."""

    __slots__ = ("args", "task")

    def __init__(self, task: Task[..., R], args: Raw) -> None:
        self.task = task
        self.args = args

    def job(self) -> Job:
        """A job of this call, with an id of its own."""
        options = self.task.options
        return Job(
            v=WIRE_VERSION,
            id=new_job_id(),
            task=self.task.name,
            args=self.args,
            queue=options.queue_name,
            priority=options.priority,
            created=time.time(),
            due=options.due,
            delay=options.delay,
            expires=options.expires,
            max_crashes=options.max_crashes,
            at_most_once=options.delivery == "at_most_once",
        )

    def enqueue(self) -> TaskResult[R]:
        """Put a job of this call in the broker, as `task.enqueue(...)` does."""
        return self.task.app.enqueue(self)

    async def aenqueue(self) -> TaskResult[R]:
        """As `enqueue`, without blocking the event loop."""
        return await self.task.app.aenqueue(self)

    def __repr__(self) -> str:
        return f"<Call {self.task.name}>"


class Task(Generic[P, R]):
    """A function that can be enqueued. Calling it calls the function and enqueues nothing.

    `name` is how jobs and workers know it, `fn` the function, `options` what was declared.
    """

    def __init__(self, app: Application, fn: Callable[..., Any], name: str | None, options: Options) -> None:
        self._app = app
        self.hooks = app.hooks
        self.fn = fn
        self.name = name or f"{fn.__module__}.{fn.__qualname__}"
        self.options = options
        self.is_async = inspect.iscoroutinefunction(fn)
        self._unreachable = _unreachable(fn) if name is None else None
        self.connection: object | None = None
        self._made: list[Payload] = []  # shared with what `using` makes of this task
        update_wrapper(self, fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self.options.takes_context:
            return self.fn(self._direct_context(), *args, **kwargs)  # type: ignore[no-any-return]
        return self.fn(*args, **kwargs)  # type: ignore[no-any-return]

    def call(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, an async one on an event loop of its own; nothing is enqueued."""
        value: Any = self(*args, **kwargs)
        if self.is_async:
            import asyncio  # as everywhere in the core: 45 ms to import, for those who use it

            return asyncio.run(value)  # type: ignore[no-any-return]
        return value  # type: ignore[no-any-return]

    async def acall(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now without blocking the event loop; nothing is enqueued."""
        if self.is_async:
            pending: Any = self(*args, **kwargs)
            return await pending  # type: ignore[no-any-return]
        import asyncio

        return await asyncio.to_thread(self, *args, **kwargs)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskResult[R]:
        """Put a job in the broker; returns once it is durable there.

        Raises a subclass of EnqueueError when the call is refused, BrokerUnavailable when the broker is away.
        """
        return self._app.enqueue(self.bind(*args, **kwargs))

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskResult[R]:
        """As `enqueue`, without blocking the event loop. One that is cancelled may have enqueued."""
        return await self._app.aenqueue(self.bind(*args, **kwargs))

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """The call with these arguments, checked and encoded, for `enqueue_many`."""
        return Call(self, self.payload.encode(args, kwargs, self._app.max_payload))

    def using(
        self,
        *,
        queue_name: str | None = None,
        priority: int | None = None,
        run_after: When | None = None,
        expires: Duration | None = None,
        connection: object | None = None,
    ) -> Task[P, R]:
        """The same task with other options for its next enqueues.

        `run_after` is an aware datetime, or a length of time from now; `expires` how long it may wait beyond that
        before it is not worth starting. `connection`: write the job by this connection (of psycopg, sqlite3, PyMySQL
        or SQLAlchemy), in its transaction: rolled back, the job never existed; it must lead to the broker's database.
        Raises InvalidOption, NaiveDatetime.
        """
        options = self.options
        if queue_name is not None:
            options = replace(options, queue_name=_queue_name(queue_name))
        if priority is not None:
            options = replace(options, priority=_priority(priority))
        if run_after is not None:
            due, delay = _moment(run_after)
            options = replace(options, due=due, delay=delay)
        if expires is not None:
            options = replace(options, expires=_positive("expires", expires, InvalidOption))
        changed = copy.copy(self)
        changed.options = options
        if connection is not None:
            changed.connection = connection
        return changed

    @property
    def payload(self) -> Payload:
        """How its arguments and result travel; made at first use, when all its hints can be resolved."""
        if not self._made:
            plan = partial(self._app.providers.plan, self.name, is_async=self.is_async)
            self._made.append(Payload(self.fn, self.name, skip=int(self.options.takes_context), plan=plan))
        return self._made[0]

    def forget_payload(self) -> None:
        """Make it anew at the next use: what is provided has changed."""
        self._made.clear()

    @property
    def app(self) -> Application:
        """The application it belongs to."""
        return self._app

    @property
    def signature(self) -> inspect.Signature:
        """The parameters that a caller gives (without the context)."""
        return self.payload.signature

    @property
    def hints(self) -> dict[str, Any]:
        """The resolved type hints."""
        return self.payload.hints

    @cached_property
    def source(self) -> str:
        """Where the function stands, as `file:line`."""
        code = getattr(inspect.unwrap(self.fn), "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else "unknown"

    def check_reachable(self, *, by_child: bool = False) -> None:
        """Refuse a task that no other process could import; a child process of this one must find its module,
        whatever its name is. Raises NotImportable."""
        in_main = by_child and self.fn.__module__ == "__main__"
        reason = _unreachable(self.fn) if in_main else self._unreachable
        if reason:
            raise NotImportable(f"{self.name}: {reason}. Nothing was enqueued")

    def _direct_context(self) -> TaskContext:
        return direct_context(self.name, self.options.queue_name)

    def __repr__(self) -> str:
        return f"<Task {self.name} queue={self.options.queue_name}>"


class AsyncTask(Task[P, R], Generic[P, R]):
    """A task whose function is a coroutine function."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:  # type: ignore[override]  # pyright: ignore
        if self.options.takes_context:
            return await self.fn(self._direct_context(), *args, **kwargs)  # type: ignore[no-any-return]
        return await self.fn(*args, **kwargs)  # type: ignore[no-any-return]


class PlainDecorator(Protocol):
    """`@task(...)`."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Task[P, R]: ...


class ContextDecorator(Protocol):
    """`@task(takes_context=True, ...)`: the first parameter is the context, which callers do not give."""

    @overload
    def __call__(self, fn: Callable[Concatenate[TaskContext, P], Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[TaskContext, P], R], /) -> Task[P, R]: ...


class Unset:
    """The type of `UNSET`: the option was not given."""


UNSET: Final = Unset()


def make_options(
    *,
    queue_name: str,
    priority: int,
    retry: Retry | Unset | None,
    timeout: Duration | None,
    keep_result: Duration | None,
    expires: Duration | None,
    max_crashes: int,
    delivery: Delivery,
    executor: Executor | None,
    takes_context: bool,
) -> Options:
    """The options of a declaration, checked. Raises DeclarationError."""
    if delivery not in ("at_least_once", "at_most_once"):
        raise DeclarationError(f"delivery={delivery!r}: write 'at_least_once' or 'at_most_once'")
    if executor not in (None, "thread", "process"):
        raise DeclarationError(f"executor={executor!r}: write 'thread' or 'process'")
    once = delivery == "at_most_once"
    if once and isinstance(retry, Retry) and retry.max_attempts != 1:
        raise DeclarationError(
            "delivery='at_most_once' and a retry policy contradict each other: leave one of them out"
        )
    if isinstance(retry, Unset):
        retry = None if once else DEFAULT_RETRY
    if max_crashes < 0:
        raise DeclarationError(f"max_crashes={max_crashes}: 0 or more crashes may be allowed")
    return Options(
        queue_name=_queue_name(queue_name, DeclarationError),
        priority=_priority(priority, DeclarationError),
        retry=NEVER if retry is None else retry,
        timeout=None if timeout is None else _positive("timeout", timeout, DeclarationError),
        keep_result=None if keep_result is None else _length("keep_result", keep_result, DeclarationError),
        expires=None if expires is None else _positive("expires", expires, DeclarationError),
        max_crashes=max_crashes,
        delivery=delivery,
        executor=executor,
        takes_context=takes_context,
    )


def make_task(app: Application, fn: Callable[..., Any], name: str | None, options: Options) -> Task[Any, Any]:
    """The Task of a function. Raises DeclarationError for what cannot be one."""
    if isinstance(fn, staticmethod | classmethod) or not callable(fn):
        raise DeclarationError(f"@task takes a function, not {fn!r}. Put @task below @staticmethod")
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        raise DeclarationError(f"{fn.__qualname__} is a generator; a task returns one value. Return a list")
    if options.takes_context:
        first = next(iter(inspect.signature(fn).parameters), None)
        if first != "context":
            raise DeclarationError(f"{fn.__qualname__}: with takes_context=True the first parameter must be `context`")
    kind = AsyncTask if inspect.iscoroutinefunction(fn) else Task
    return kind(app, fn, name, options)


def _unreachable(fn: Callable[..., Any]) -> str | None:
    if "<lambda>" in fn.__qualname__:
        return "a lambda has no name by which a worker could find it. Write a function at the top of a module"
    if "<locals>" in fn.__qualname__:
        return (
            f"{fn.__qualname__} is nested in a function, so a worker that imports {fn.__module__} does not find it. "
            "Move it to the top of the module, or give it a name (name=...) and let the worker load the factory"
        )
    if fn.__module__ == "__main__":
        file = getattr(sys.modules["__main__"], "__file__", None) or "the program that was started"
        return (
            f"{fn.__qualname__} is defined in __main__ ({file}), which a worker would import under another name. "
            "Move it to a module of its own and import it"
        )
    return None


def _queue_name(name: str, error: type[ValueError] = InvalidOption) -> str:
    if not isinstance(name, str) or not name or len(name) > 100 or not set(name).isdisjoint(" ,:\t\n\r\0"):  # pyright: ignore
        raise error(f"queue_name={name!r}: a name of 1 to 100 characters without spaces, commas or colons is needed")
    return name


def _priority(priority: int, error: type[ValueError] = InvalidOption) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int) or not PRIORITY_MIN <= priority <= PRIORITY_MAX:  # pyright: ignore
        raise error(
            f"priority={priority!r}: a whole number from {PRIORITY_MIN} to {PRIORITY_MAX} is needed, larger first"
        )
    return priority


def _length(what: str, value: Duration, error: type[ValueError]) -> float:
    try:
        return seconds_of(value)
    except ValueError as cause:
        raise error(f"{what}: {cause}") from None


def _positive(what: str, value: Duration, error: type[ValueError]) -> float:
    length = _length(what, value, error)
    if length <= 0:
        raise error(f"{what}={value!r}: more than 0 seconds are needed")
    return length


def _moment(when: When) -> tuple[float | None, float | None]:
    """(due as Unix seconds, delay in seconds): one of them."""
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise NaiveDatetime(
                "run_after is a datetime without a time zone. Write datetime.now(timezone.utc) + ..., or a timedelta"
            )
        return when.timestamp(), None
    if isinstance(when, timedelta) and when < timedelta(0):
        return None, 0.0
    return None, _length("run_after", when, InvalidOption)
