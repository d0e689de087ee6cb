"""Dependencies that are given to tasks where they run: a database session, the configuration, a store.

    @task
    def sync(package: str, session: Session = provided()) -> None: ...

    provide(Session, open_session)      # by type; or by the parameter's name: provide("session", open_session)

A provider is a function that returns the value, or a generator that yields it once and cleans up after the attempt. It
may take other provided values itself, and the TaskContext; a value is made once for an attempt. FastAPI's `Depends` is
understood in the place of `provided(...)`. Nothing of this travels with the job: who enqueues gives the others.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Annotated, Any, Final, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from outwork.context import TaskContext
from outwork.errors import Control, DeclarationError, HookFailed

R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

_GIVEN_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_REQUIRED: Final = inspect.Parameter.empty


class Provided:
    """What stands in the place of a value that is provided where a job runs."""

    __slots__ = ("provider",)

    def __init__(self, provider: Callable[..., Any] | None = None) -> None:
        self.provider = provider

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"this value is provided where a job runs; who calls the task directly gives it ({name} was asked for)"
        )

    def __repr__(self) -> str:
        return "provided()"


def provided(provider: Callable[..., Any] | None = None) -> Any:
    """The default of a parameter that `enqueue` does not ask for: it gets its value from `provider`, else from what was
    registered for its type or its name."""
    return Provided(provider)


class Provision(NamedTuple):
    """A parameter that is provided. `provider` None: nothing was registered for it here; `needs` are the parameters of
    the provider itself."""

    name: str
    provider: Callable[..., Any] | None
    label: str
    needs: tuple[Provision, ...] = ()


class Providers:
    """The providers of an application, by type and by name."""

    def __init__(self) -> None:
        self._known: dict[Any, Callable[..., Any]] = {TaskContext: _context}

    def add(self, key: Any, provider: Callable[..., Any]) -> None:
        """Register `provider` for a type, or for a parameter's name. The last one counts. Raises DeclarationError."""
        if isinstance(key, str) and not key.isidentifier():
            raise DeclarationError(f"provide({key!r}, ...): write the name of a parameter, or a type")
        if not callable(provider):
            raise DeclarationError(f"provide({key!r}, ...): {provider!r} cannot be called. Write  lambda: value")
        self._known[key] = provider

    # ---- what is needed ---------------------------------------------------------------------------------------------

    def plan(
        self, name: str, parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any], *, is_async: bool
    ) -> tuple[Provision, ...]:
        """Those parameters of a task that are provided, and what their providers need. Raises DeclarationError."""
        found = [
            Provision(one.name, None, f"the parameter {one.name!r} of {name}")
            if provider is None
            else self._provision(one.name, provider, (), is_async, name)
            for one in parameters
            for wanted, provider in [self._source(one, hints.get(one.name, Any))]
            if wanted
        ]
        names = {provision.name for provision in found}
        for one in parameters:
            if one.name in names and one.kind not in _GIVEN_BY_NAME:
                raise DeclarationError(f"{name}: {one.name} is provided, so it must not be positional-only")
            if found and one.kind is inspect.Parameter.VAR_POSITIONAL:
                raise DeclarationError(f"{name}: with provided parameters there can be no *{one.name}. Take a list")
        return tuple(found)

    def _source(self, parameter: inspect.Parameter, hint: Any) -> tuple[bool, Callable[..., Any] | None]:
        """Whether a parameter is provided, and by whom (None: nobody is known)."""
        kind, marks = _taken_apart(hint)
        for mark in (parameter.default, *marks):
            if isinstance(mark, Provided):
                return True, mark.provider or self._registered(parameter.name, kind)
            if hasattr(type(mark), "__match_args__") and hasattr(mark, "dependency") and hasattr(mark, "use_cache"):
                return True, mark.dependency or kind  # fastapi.Depends
        registered = self._registered(parameter.name, kind) if parameter.default is _REQUIRED else None
        return (registered is not None and parameter.kind not in _VARIADIC), registered

    def _registered(self, name: str, kind: Any) -> Callable[..., Any] | None:
        try:
            return self._known.get(kind) or self._known.get(name)
        except TypeError:  # a hint that cannot be hashed
            return self._known.get(name)

    def _provision(
        self, name: str, provider: Callable[..., Any], above: tuple[Any, ...], is_async: bool, task: str
    ) -> Provision:
        label = _label(provider)
        if provider in above:
            circle = " -> ".join(map(_label, (*above[above.index(provider) :], provider)))
            raise DeclarationError(f"{task}: the providers need each other in a circle: {circle}")
        if not is_async and _kind(provider) in ("coroutine", "async generator"):
            raise DeclarationError(f"{task}: the provider {label} is async, and the task is not. Write  async def")
        needs: list[Provision] = []
        hints = _hints_of(provider)
        for one in inspect.signature(provider).parameters.values() if provider is not _context else ():
            wanted, source = self._source(one, hints.get(one.name, Any))
            if source is not None:
                needs.append(self._provision(one.name, source, (*above, provider), is_async, task))
            elif wanted or (one.default is _REQUIRED and one.kind not in _VARIADIC):
                raise DeclarationError(
                    f"{task}: the provider {label} needs {one.name!r}, which nothing provides. A task has no request; "
                    f"register it:  provide({one.name!r}, ...)"
                )
        return Provision(name, provider, label, tuple(needs))

    # ---- around an attempt ------------------------------------------------------------------------------------------

    @contextmanager
    def opened(self, provisions: Sequence[Provision], context: TaskContext) -> Iterator[dict[str, Any]]:
        """The provided values of a `def` task by name, for the length of the block. Raises HookFailed."""
        if not provisions:
            yield {}
            return
        stack = AsyncExitStack()  # nothing in it is async: the plan has refused that, so no event loop is needed
        values = _at_once(_open_all(stack, provisions, context))
        try:
            yield values
        except BaseException as error:
            _at_once(stack.__aexit__(type(error), error, error.__traceback__))
            raise
        else:
            _at_once(stack.aclose())

    @asynccontextmanager
    async def aopened(self, provisions: Sequence[Provision], context: TaskContext) -> AsyncIterator[dict[str, Any]]:
        """As `opened`, of an `async def` task."""
        async with AsyncExitStack() as stack:
            yield await _open_all(stack, provisions, context)


async def _open_all(stack: AsyncExitStack, provisions: Sequence[Provision], context: TaskContext) -> dict[str, Any]:
    made: dict[Any, Any] = {_context: context}
    try:
        return {one.name: await _open(stack, one, made) for one in provisions}
    except BaseException as error:
        await stack.__aexit__(type(error), error, error.__traceback__)
        raise


async def _open(stack: AsyncExitStack, provision: Provision, made: dict[Any, Any]) -> Any:
    provider = provision.provider
    if provider is None:
        raise HookFailed(
            f"nothing provides {provision.label}. Call provide(...) for its type or its name in a module that the "
            "worker loads"
        )
    if provider not in made:
        arguments = {one.name: await _open(stack, one, made) for one in provision.needs}
        try:
            made[provider] = await _call(stack, provider, provision.label, arguments)
        except Control:
            raise
        except Exception as error:
            raise _failed(provision.label, "before", error) from error
    return made[provider]


async def _call(stack: AsyncExitStack, provider: Callable[..., Any], label: str, arguments: dict[str, Any]) -> Any:
    kind = _kind(provider)
    decorated = inspect.unwrap(provider) is not provider
    if kind == "coroutine":
        return await provider(**arguments)
    if kind == "async generator":
        make: Any = provider if decorated else asynccontextmanager(provider)
    elif kind == "generator":
        make = provider if decorated else contextmanager(provider)
    else:
        return provider(**arguments)
    manager = make(**arguments)
    value = await manager.__aenter__() if kind == "async generator" else manager.__enter__()
    stack.push_async_exit(_Closing(manager, label, is_async=kind == "async generator"))
    return value


class _Closing:
    """Closes what a generator has opened: says whose error it is, and lets no error vanish."""

    def __init__(self, manager: Any, label: str, *, is_async: bool) -> None:
        self._manager = manager
        self._label = label
        self._is_async = is_async

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if self._is_async:
                await self._manager.__aexit__(kind, error, trace)
            else:
                self._manager.__exit__(kind, error, trace)
        except Control:
            raise
        except Exception as raised:
            if raised is not error:
                raise _failed(self._label, "after", raised) from raised


def _at_once(work: Coroutine[Any, Any, R]) -> R:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        result: R = done.value
        return result
    work.close()
    raise RuntimeError("a provider of a `def` task waited for an event loop")


def _context() -> None:
    """Stands for the TaskContext."""


def _kind(provider: Callable[..., Any]) -> str:
    inside: Any = inspect.unwrap(provider)
    if not inspect.isroutine(inside) and not isinstance(inside, type):
        inside = type(inside).__call__
    if inspect.isasyncgenfunction(inside):
        return "async generator"
    if inspect.isgeneratorfunction(inside):
        return "generator"
    return "coroutine" if inspect.iscoroutinefunction(inside) else "function"


def _taken_apart(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type of a hint, and what `Annotated` adds to it."""
    if get_origin(hint) is Annotated:
        kind, *marks = get_args(hint)
        return kind, tuple(marks)
    return hint, ()


def _hints_of(provider: Callable[..., Any]) -> dict[str, Any]:
    inside: Any = inspect.unwrap(provider)
    if isinstance(inside, type):
        inside = vars(inside).get("__init__", inside)
    elif not inspect.isroutine(inside):
        inside = type(inside).__call__
    try:
        return get_type_hints(inside, include_extras=True)
    except Exception:  # noqa: BLE001 - a hint that only type checkers can see; its parameter is found by name, or refused
        return {}


def _label(provider: Any) -> str:
    named: Any = provider if hasattr(provider, "__qualname__") else type(provider)
    return f"{named.__module__}.{named.__qualname__}"


def _failed(label: str, when: str, error: Exception) -> HookFailed:
    return HookFailed(f"the provider {label} failed {when} the task: {type(error).__qualname__}: {error}")
