"""The one extension point: what an application does before an enqueue, around a run, and when something happened.

    app.hooks.before_enqueue    called with each job before it is sent; raising refuses it
    app.hooks.around_run        a context manager around each attempt: app contexts, sessions, spans, locks
    app.hooks.on_event          called with each event: metrics, audit logs
    app.hooks.carry             a context variable whose value travels with the job

Hooks of a kind are called in the order of their registration; those around a run are left in the opposite order. One
that raises is told apart from the task: the error names it. Where none is registered, a job pays for a look at a flag.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from contextvars import ContextVar, copy_context
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar, overload

import msgspec
from msgspec.structs import replace

from outwork.context import TaskContext
from outwork.errors import Control, DeclarationError, HookFailed, HookRefused
from outwork.events import Event, JobCancelled, JobEnqueued
from outwork.job import Job, Record

logger = logging.getLogger("outwork")

V = TypeVar("V")

LINE_EVERY: Final = 60.0
"""Seconds between two log lines about the same broken hook: it is called for every job."""


# ---- what hooks look like --------------------------------------------------------------------------------------------


class Enqueuing:
    """A job that is about to be sent. What a hook writes into `carried` (texts) travels with it, and is read as
    `context.carried` where it runs."""

    __slots__ = ("carried", "job")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.carried: dict[str, str] = dict(job.carried or {})

    @property
    def job_id(self) -> str:
        return self.job.id

    @property
    def task_name(self) -> str:
        return self.job.task

    @property
    def queue_name(self) -> str:
        return self.job.queue

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name, as JSON has them."""
        arguments: dict[str, Any] = msgspec.json.decode(self.job.args)
        return arguments

    def __repr__(self) -> str:
        return f"<Enqueuing {self.task_name} job={self.job_id} queue={self.queue_name}>"


BeforeEnqueue: TypeAlias = Callable[[Enqueuing], None]
OnEvent: TypeAlias = Callable[[Event], None]
AroundRun: TypeAlias = Callable[
    [TaskContext],
    AbstractContextManager[Any] | AbstractAsyncContextManager[Any] | Iterator[None] | AsyncIterator[None],
]

B = TypeVar("B", bound=BeforeEnqueue)
O = TypeVar("O", bound=OnEvent)  # noqa: E741
A = TypeVar("A", bound=AroundRun)


class _Around(NamedTuple):
    """A hook around runs. `make` returns its context manager; `kind` None: known only when it is made."""

    hook: AroundRun
    name: str
    make: Callable[[TaskContext], Any]
    kind: Literal["sync", "async"] | None
    everywhere: bool


class _Carried(NamedTuple):
    """A context variable that travels with jobs."""

    variable: ContextVar[Any]
    encode: Callable[[Any], str]
    decode: Callable[[str], Any]


class Hooks:
    """The hooks of an application. Register them where its tasks are declared, so that every process that runs tasks
    (a child of the worker, too) has them."""

    def __init__(self) -> None:
        self._before: list[tuple[BeforeEnqueue, str]] = []
        self._around: list[_Around] = []
        self._listeners: list[tuple[OnEvent, str]] = []
        self._carried: dict[str, _Carried] = {}
        self._complained: dict[str, float] = {}
        self.touches_jobs = False
        self.touches_runs = False
        self.listens = False
        """What there is to do before an enqueue, at a run and after an event: looked at for every job."""

    # ---- registering ------------------------------------------------------------------------------------------------

    def before_enqueue(self, hook: B) -> B:
        """Call `hook` with each job (an Enqueuing) before it is sent. If it raises, the call is refused with
        HookRefused and nothing is enqueued, nor is anything of its batch. Also a decorator.

        It runs in the caller of `enqueue`, on the event loop in the case of `aenqueue`.
        """
        self._before.append((_plain(hook, "before_enqueue"), name_of(hook)))
        self._look()
        return hook

    def on_event(self, hook: O) -> O:
        """Call `hook` with each event, in the process and thread where it happens. If it raises, that is logged and
        harms nothing. Also a decorator."""
        self._listeners.append((_plain(hook, "on_event"), name_of(hook)))
        self._look()
        return hook

    @overload
    def around_run(self, hook: A, /) -> A: ...
    @overload
    def around_run(self, /, *, everywhere: bool) -> Callable[[A], A]: ...
    def around_run(self, hook: Any = None, /, *, everywhere: bool = False) -> Any:
        """Run each attempt inside the context manager that `hook` returns for its TaskContext. Also a decorator.

        A generator function is one, too, with one `yield`; an async one stands around `async def` tasks, any other
        around `def` tasks (with `everywhere` around both: it must not block the event loop then).

        If it raises before the task or after it, the attempt fails with HookFailed and is tried again as long as the
        task's policy has attempts; `GiveUp`, `TryAgain` and `Snooze` mean what they mean in a task. It sees the task's
        error pass, and cannot hide it.
        """

        def register(hook: A) -> A:
            self._around.append(_around(hook, everywhere))
            self._look()
            return hook

        return register if hook is None else register(hook)

    @overload
    def carry(self, variable: ContextVar[str] | ContextVar[str | None], /) -> None: ...
    @overload
    def carry(self, variable: ContextVar[V], /, *, encode: Callable[[V], str], decode: Callable[[str], V]) -> None: ...
    def carry(
        self,
        variable: ContextVar[Any],
        /,
        *,
        encode: Callable[[Any], str] | None = None,
        decode: Callable[[str], Any] | None = None,
    ) -> None:
        """Let the value that `variable` has in the caller of `enqueue` be its value where the job runs.

        It travels as text, under the variable's name; `encode` and `decode` make other types of it. None, and a
        variable that is not set, are not carried. Raises DeclarationError.
        """
        known = self._carried.get(variable.name)
        if known is not None and known.variable is not variable:
            raise DeclarationError(f"two context variables named {variable.name!r} are to be carried. Rename one")
        if (encode is None) != (decode is None):
            raise DeclarationError(f"carry({variable.name}): give both encode and decode, or none of them")
        self._carried[variable.name] = _Carried(variable, encode or _as_it_is, decode or _as_it_is)
        self._look()

    def remove(self, hook: BeforeEnqueue | OnEvent | AroundRun | ContextVar[Any]) -> None:
        """Forget a hook, or a context variable that was carried."""
        self._before = [one for one in self._before if one[0] != hook]
        self._around = [one for one in self._around if one.hook != hook]
        self._listeners = [one for one in self._listeners if one[0] != hook]
        self._carried = {name: one for name, one in self._carried.items() if one.variable is not hook}
        self._look()

    def _look(self) -> None:
        self.touches_jobs = bool(self._before or self._carried)
        self.listens = bool(self._listeners)
        self.touches_runs = bool(self._around or self._carried or self.listens)

    # ---- before an enqueue ------------------------------------------------------------------------------------------

    def prepare(self, job: Job) -> Job:
        """The job with what it carries, after the hooks had their say. Raises HookRefused."""
        enqueuing = Enqueuing(job)
        self._pack(enqueuing)
        for hook, name in self._before:
            try:
                hook(enqueuing)
                _check_carried(enqueuing.carried)
            except Exception as error:
                raise _refused(name, job, error) from error
        carried = enqueuing.carried or None
        return job if carried == job.carried else replace(job, carried=carried)

    def _pack(self, enqueuing: Enqueuing) -> None:
        here = copy_context() if self._carried else {}
        for name, (variable, encode, _) in self._carried.items():
            value = here.get(variable)
            if value is None:
                continue
            try:
                enqueuing.carried[name] = encode(value)
                _check_carried(enqueuing.carried)
            except Exception as error:
                raise _refused(f"carry({name})", enqueuing.job, error) from error

    # ---- around a run -----------------------------------------------------------------------------------------------

    @contextmanager
    def around(self, context: TaskContext) -> Iterator[None]:
        """All hooks that stand around a `def` task. Raises HookFailed."""
        self._unpack(context.carried)
        with ExitStack() as stack:
            for around in self._around:
                if around.kind != "async":
                    stack.enter_context(_Guard(around, context))
            yield

    @asynccontextmanager
    async def aaround(self, context: TaskContext) -> AsyncIterator[None]:
        """All hooks that stand around an `async def` task. Raises HookFailed."""
        self._unpack(context.carried)
        async with AsyncExitStack() as stack:
            for around in self._around:
                if around.kind != "sync" or around.everywhere:
                    await stack.enter_async_context(_AsyncGuard(around, context))
            yield

    def _unpack(self, carried: Mapping[str, str]) -> None:
        """Set the carried variables; the context of the attempt ends with it."""
        for name, (variable, _, decode) in self._carried.items():
            if name in carried:
                try:
                    variable.set(decode(carried[name]))
                except Exception as error:
                    raise _failed(f"carry({name})", "before", error) from error

    # ---- after an event ---------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Call every listener. What one raises is logged, with its traceback, once a minute."""
        for hook, name in self._listeners:
            try:
                hook(event)
            except (Exception, SystemExit) as error:  # neither the job nor its worker may suffer
                now = time.monotonic()
                if now - self._complained.get(name, -LINE_EVERY) >= LINE_EVERY:
                    self._complained[name] = now
                    logger.error(
                        "the on_event hook %s failed for %s: %s", name, type(event).__name__, error, exc_info=error
                    )

    def tell_enqueued(self, jobs: list[Job]) -> None:
        """Tell that the broker has accepted these jobs."""
        at = time.time()
        for job in jobs:
            self.tell(
                JobEnqueued(
                    job_id=job.id, task_name=job.task, queue_name=job.queue, at=at, due=job.due, delay=job.delay
                )
            )

    def tell_cancelled(self, record: Record) -> None:
        """Tell that this job was withdrawn while it waited."""
        self.tell(JobCancelled(job_id=record.id, task_name=record.task, queue_name=record.queue, at=time.time()))


# ---- a hook is told apart from the task ------------------------------------------------------------------------------


class _Guard:
    """One hook's context manager around a `def` task: says whose error it is, and lets no error vanish."""

    def __init__(self, around: _Around, context: TaskContext) -> None:
        self._around = around
        self._context = context
        self._exit: Callable[..., Any] = _nothing

    def __enter__(self) -> None:
        name = self._around.name
        try:
            manager = self._around.make(self._context)
            if not hasattr(manager, "__enter__"):
                _check_manager(manager)
                return  # an async one: not for this task
            self._exit = manager.__exit__
            manager.__enter__()
        except Control:
            raise
        except Exception as error:
            raise _failed(name, "before", error) from error

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self._exit(kind, error, trace)
        except Control:
            raise
        except Exception as raised:
            if raised is error:
                return
            raise _failed(self._around.name, "after", raised) from raised


class _AsyncGuard:
    """As _Guard, around an `async def` task."""

    def __init__(self, around: _Around, context: TaskContext) -> None:
        self._around = around
        self._context = context
        self._guard: _Guard | None = None
        self._exit: Callable[..., Any] = _anothing

    async def __aenter__(self) -> None:
        name = self._around.name
        try:
            manager = self._around.make(self._context)
            if hasattr(manager, "__aenter__"):
                self._exit = manager.__aexit__
                await manager.__aenter__()
                return
            _check_manager(manager)
        except Control:
            raise
        except Exception as error:
            raise _failed(name, "before", error) from error
        if self._around.everywhere:
            self._guard = _Guard(self._around._replace(make=lambda _: manager), self._context)
            self._guard.__enter__()

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._guard is not None:
            self._guard.__exit__(kind, error, trace)
            return
        try:
            await self._exit(kind, error, trace)
        except Control:
            raise
        except Exception as raised:
            if raised is error:
                return
            raise _failed(self._around.name, "after", raised) from raised


def name_of(hook: object) -> str:
    """A hook as an error names it."""
    named: Any = hook if hasattr(hook, "__qualname__") else type(hook)
    return f"{named.__module__}.{named.__qualname__}"


def _around(hook: AroundRun, everywhere: bool) -> _Around:
    function: Any = hook
    inside = inspect.unwrap(function)
    make: Callable[[TaskContext], Any] = function
    kind: Literal["sync", "async"] | None = None
    if inspect.isasyncgenfunction(inside):
        kind = "async"
        if inside is function:  # else it is decorated, as a context manager
            make = asynccontextmanager(inside)
    elif inspect.isgeneratorfunction(inside):
        kind = "sync"
        if inside is function:
            make = contextmanager(inside)
    elif inspect.iscoroutinefunction(inside):
        raise DeclarationError(f"around_run: {name_of(hook)} is a coroutine function. Let it `yield` once")
    return _Around(hook, name_of(hook), make, kind, everywhere)


def _plain(hook: B | O, what: str) -> B | O:
    if inspect.iscoroutinefunction(hook) or inspect.isgeneratorfunction(hook):
        raise DeclarationError(f"{what}: {name_of(hook)} must be a plain function, because `def` code calls it, too")
    return hook


def _check_manager(manager: object) -> None:
    if not hasattr(manager, "__enter__") and not hasattr(manager, "__aenter__"):
        raise TypeError(f"it returned a {type(manager).__qualname__}, which is not a context manager")


def _check_carried(carried: Mapping[str, object]) -> None:
    for name, value in carried.items():
        if not isinstance(value, str):
            raise TypeError(f"carried[{name!r}] is a {type(value).__qualname__}; only text is carried")


def _refused(name: str, job: Job, error: Exception) -> HookRefused:
    return HookRefused(f"the hook {name} refused {job.task}: {_short(error)}. Nothing was enqueued")


def _failed(name: str, when: str, error: Exception) -> HookFailed:
    return HookFailed(f"the hook {name} failed {when} the task: {_short(error)}")


def _short(error: Exception) -> str:
    return f"{type(error).__qualname__}: {error}"


def _as_it_is(value: Any) -> Any:
    return value


def _nothing(*_: object) -> None:
    return None


async def _anothing(*_: object) -> None:
    return None
