"""What a developer declares: `@task` makes a Task; a Task makes Calls; the application makes jobs of them."""

from __future__ import annotations

import copy
import inspect
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import cached_property, partial, update_wrapper
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    NoReturn,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    overload,
)

from msgspec import Raw
from msgspec.structs import replace

from outwork.context import TaskContext, direct_context
from outwork.declaring.bounds import Key, as_fair_key, ties_of
from outwork.declaring.options import (
    Duration,
    Follower,
    Options,
    When,
    as_moment,
    as_positive,
    as_priority,
    as_queue_name,
    debounced,
)
from outwork.declaring.payload import Payload
from outwork.declaring.providers import Providers
from outwork.errors import DeclarationError, HintError, InvalidOption, NotImportable, Unsupported, WrongArguments
from outwork.habits import explain_method, known_options
from outwork.hooks import Hooks
from outwork.ids import new_job_id
from outwork.job import WIRE_VERSION, Job, Record
from outwork.result import TaskResult
from outwork.ties import Ties

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")

POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Application(Protocol):
    """What a task needs of the application it belongs to."""

    hooks: Hooks
    providers: Providers

    @property
    def max_payload(self) -> int: ...

    def enqueue(self, call: Call[R], /) -> TaskResult[R]: ...
    async def aenqueue(self, call: Call[R], /) -> TaskResult[R]: ...
    def look_up_all(self, ids: Sequence[str], /, *, ends: bool = False) -> list[Record | None]: ...


class Call(Generic[R]):
    """A task with its arguments, checked and encoded: what `bind` returns and `enqueue_many` takes."""

    __slots__ = ("args", "task", "ties")

    def __init__(self, task: Task[..., R], args: Raw, ties: Ties | None = None) -> None:
        self.task = task
        self.args = args
        self.ties = ties

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
            ties=self.ties,
        )

    def enqueue(self) -> TaskResult[R]:
        """Put a job of this call in the broker, as `task.enqueue(...)` does."""
        return self.task.app.enqueue(self)

    async def aenqueue(self) -> TaskResult[R]:
        """As `enqueue`, without blocking the event loop."""
        return await self.task.app.aenqueue(self)

    def __repr__(self) -> str:
        return f"<Call {self.task.name}>"


class PartialCall(Generic[R]):
    """What `task.bind` returns where exactly one positional argument without a default is missing: a step of a `chain`,
    or of `then`, takes what the step before it returned in its place. By itself it cannot be enqueued.

    `call` has the arguments that were given; `lacks` is the parameter that has none.
    """

    __slots__ = ("_refusal", "call", "lacks")

    def __init__(self, call: Call[R], lacks: str, refusal: str) -> None:
        self.call = call
        self.lacks = lacks
        self._refusal = refusal

    @property
    def task(self) -> Task[..., R]:
        """The task that is to be called."""
        return self.call.task

    def refuse(self) -> NoReturn:
        """Raise WrongArguments, which says what is missing."""
        raise WrongArguments(self._refusal)

    job = refuse

    if not TYPE_CHECKING:  # type checkers see that these are not there; who does not use one is told at the call
        enqueue = aenqueue = refuse

    def __repr__(self) -> str:
        return f"<PartialCall {self.task.name} without {self.lacks}>"


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

    if not TYPE_CHECKING:  # for a type checker there is no such method either

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(explain_method(self.__dict__.get("name", "task"), name), name=name, obj=self)

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
        return self._app.enqueue(self.call_of(args, kwargs))

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskResult[R]:
        """As `enqueue`, without blocking the event loop. One that is cancelled may have enqueued."""
        return await self._app.aenqueue(self.call_of(args, kwargs))

    @overload
    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]: ...
    @overload
    def bind(self: Task[Concatenate[Any, Q], R], *args: Q.args, **kwargs: Q.kwargs) -> PartialCall[R]: ...
    def bind(self, *args: Any, **kwargs: Any) -> Call[R] | PartialCall[R]:
        """The call with these arguments, checked and encoded, for `enqueue_many`, `chain` and `group`.

        One positional argument may be missing where the step before it in a chain gives it (name those behind it).
        Raises WrongArguments and its like, as `enqueue` does.
        """
        try:
            return self.call_of(args, kwargs)
        except WrongArguments as refusal:
            return _partly_bound(self, args, kwargs, refusal)

    def call_of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], lacks: str = "") -> Call[R]:
        """What `bind` returns; the argument for the parameter `lacks` is added later."""
        payload = self.payload.without(lacks) if lacks else self.payload
        body = payload.encode(args, kwargs, self._app.max_payload)
        options = self.options
        if options.unique is None and not options.limits and not options.after and options.fair_key is None:
            return Call(self, body)
        bind = partial(payload.signature.bind, *args, **kwargs)
        same = payload.identity(body, args, kwargs)
        ties = ties_of(self.name, options.unique, options.limits, options.fair_key, bind, same)
        return Call(self, body, replace(ties or Ties(), after=options.after) if options.after else ties)

    @known_options
    def using(
        self,
        *,
        queue_name: str | None = None,
        priority: int | None = None,
        run_after: When | None = None,
        expires: Duration | None = None,
        connection: object | None = None,
        fair_key: Key | None = None,
        debounce: Duration | None = None,
        max_wait: Duration | None = None,
        after: TaskResult[Any] | Iterable[TaskResult[Any]] = (),
        on_success: Step | Iterable[Step] = (),
        on_failure: Step | Iterable[Step] = (),
    ) -> Task[P, R]:
        """The same task with other options for its next enqueues.

        `run_after` is an aware datetime, or a length of time from now; `expires` how long it may wait beyond that
        before it is not worth starting; `fair_key` as in `@task`. `debounce`: it starts so long after the last call
        with the same unique key (by default the same arguments), with the arguments of that call; at the latest
        `max_wait` after the first one (by default ten times as long). `after`: jobs of the same broker, one or more,
        that must have ended, well or not, before it starts. `on_success`, `on_failure`: calls that follow when it has
        ended so; one that lacks an argument takes what it returned, or the MemberFailed. `connection`: write the job by
        this connection (of psycopg, sqlite3, PyMySQL or SQLAlchemy), in its transaction: rolled back, the job never
        existed; it must lead to the broker's database. Raises InvalidOption, NaiveDatetime, Unsupported.
        """
        options = self.options
        if queue_name is not None:
            options = replace(options, queue_name=as_queue_name(queue_name))
        if priority is not None:
            options = replace(options, priority=as_priority(priority))
        if run_after is not None:
            due, delay = as_moment(run_after)
            options = replace(options, due=due, delay=delay)
        if expires is not None:
            options = replace(options, expires=as_positive("expires", expires, InvalidOption))
        if fair_key is not None:
            options = replace(options, fair_key=as_fair_key(fair_key, InvalidOption))
        if debounce is not None:
            options = debounced(options, debounce, max_wait)
        elif max_wait is not None:
            raise InvalidOption(f"{self.name}: max_wait=... says nothing without debounce=...")
        if others := _results(after):
            if not all(result.belongs_to(self._app) for result in others):
                raise Unsupported(
                    f"{self.name}: after=... names a job of another application, which has another broker"
                )
            options = replace(options, after=tuple(result.id for result in others))
        followers = [Follower("successful", step) for step in _steps(on_success)]
        followers += [Follower("failed", step) for step in _steps(on_failure)]
        if followers:
            options = replace(options, followers=tuple(followers))
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


Step: TypeAlias = Call[Any] | PartialCall[Any] | Task[..., Any]
"""What runs as one job: a call, one that takes its first argument from what ran before, or a bare task."""


def _results(given: TaskResult[Any] | Iterable[TaskResult[Any]]) -> tuple[TaskResult[Any], ...]:
    results = (given,) if isinstance(given, TaskResult) or not isinstance(given, Iterable) else tuple(given)  # pyright: ignore
    for one in results:
        if not isinstance(one, TaskResult):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidOption(f"after={given!r}: write what enqueue() returned, or a list of such results")
    return results


def _steps(given: Step | Iterable[Step]) -> tuple[Step, ...]:
    if isinstance(given, Call | PartialCall | Task):
        return (given,)
    if isinstance(given, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        return tuple(given)
    raise InvalidOption(f"{given!r} is nothing that can follow: write task.bind(...) or a task, or a list of them")


def _partly_bound(
    task: Task[..., R], args: tuple[Any, ...], kwargs: Mapping[str, Any], refusal: WrongArguments
) -> PartialCall[R]:
    """The call with these arguments, one of which is missing. Raises `refusal` where more than that is wrong."""
    try:
        bound = task.signature.bind_partial(*args, **kwargs).arguments
    except TypeError:
        raise refusal from None
    missing = [
        one
        for one in task.signature.parameters.values()
        if one.default is one.empty and one.name not in bound and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if len(missing) != 1 or missing[0].kind not in POSITIONAL:
        raise refusal
    lacks = missing[0].name
    return PartialCall(task.call_of(args, kwargs, lacks), lacks, str(refusal.args[0]))


def make_task(app: Application, fn: Callable[..., Any], name: str | None, options: Options) -> Task[Any, Any]:
    """The Task of a function. Raises DeclarationError for what cannot be one."""
    if name is not None and not (isinstance(name, str) and name):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DeclarationError(f"name={name!r}: a text is needed, by which its jobs name it")
    if isinstance(fn, staticmethod | classmethod) or not callable(fn):
        raise DeclarationError(f"@task takes a function, not {fn!r}. Put @task below @staticmethod")
    if inspect.isclass(fn):
        raise DeclarationError(f"@task takes a function, not the class {fn.__qualname__}")
    if _is_method(fn):
        raise DeclarationError(
            f"{fn.__qualname__} is a method, and no job carries its object. Write a function outside of the class "
            "that makes the object"
        )
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        raise DeclarationError(f"{fn.__qualname__} is a generator; a task returns one value. Return a list")
    if options.takes_context:
        first = next(iter(inspect.signature(fn).parameters), None)
        if first != "context":
            raise DeclarationError(f"{fn.__qualname__}: with takes_context=True the first parameter must be `context`")
    kind = AsyncTask if inspect.iscoroutinefunction(fn) else Task
    task: Task[Any, Any] = kind(app, fn, name, options)
    if options.periodic is not None:
        check_arguments(task)
    return task


def _is_method(fn: Callable[..., Any]) -> bool:
    """By its place and its first parameter: a class is not there yet when its methods are declared."""
    above = getattr(fn, "__qualname__", "").rpartition(".")[0]
    inside = bool(above) and not above.endswith("<locals>")
    return inside and next(iter(inspect.signature(fn).parameters), None) == "self"


def check_arguments(task: Task[Any, Any]) -> None:
    """Refuse a periodic task with an argument that nobody gives it. Raises DeclarationError."""
    given = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [
        parameter.name
        for parameter in list(inspect.signature(task.fn).parameters.values())[int(task.options.takes_context) :]
        if parameter.default is parameter.empty and parameter.kind not in given
    ]
    if not required:
        return
    try:
        asked = task.signature.parameters  # without those that are provided, as far as that is known already
    except (DeclarationError, HintError):
        return  # said at its first use, when all its hints can be resolved
    finally:
        task.forget_payload()
    if missing := [name for name in required if name in asked]:
        raise DeclarationError(
            f"{task.name} is periodic, and nobody gives it {', '.join(missing)}. Give a default value; or leave the "
            'schedule to the configuration file, which can give arguments: [periodic.NAME] task = "..." args = {...}'
        )


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
