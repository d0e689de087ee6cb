"""Dependencies given to tasks: who provides them, when they are opened and closed, what cannot be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import pytest
from fastapi import Depends

from outwork import GiveUp, Outwork, TaskContext, TaskFailed, provided
from outwork.errors import DeclarationError, WrongArguments


class Session:
    pass


def run(fn: Callable[..., Any], *given: Any, tasks: Outwork | None = None, **named: Any) -> Any:
    task = (tasks or Outwork()).task(name="task")(fn)
    return task.enqueue(*given, **named).get()


def test_a_value_by_type_by_name_and_by_provider() -> None:
    tasks, session = Outwork(), Session()
    tasks.provide(Session, lambda: session)
    tasks.provide("size", lambda: 3)

    def work(size, key: str, by_type: Session, marked: Session = provided(), own: int = provided(lambda: 4)) -> str:  # type: ignore[no-untyped-def]
        assert by_type is marked is session
        return f"{key} {size} {own}"

    assert run(work, "a", tasks=tasks) == "a 3 4"
    assert run(work, key="a", tasks=tasks) == "a 3 4"
    with pytest.raises(WrongArguments, match=r"Signature: task\(key: str\)"):
        run(work, "a", 5, tasks=tasks)


def test_registered_after_the_first_use() -> None:
    tasks = Outwork()
    task: Any = tasks.task(name="task")(lambda key, size: f"{key} {size}")
    assert task.enqueue("a", 1).get() == "a 1"
    tasks.provide("size", lambda: 3)
    assert task.enqueue("a").get() == "a 3"


def test_what_nobody_provides_fails_the_attempt_with_a_word() -> None:
    def work(session: Session = provided()) -> None: ...

    with pytest.raises(TaskFailed, match=r"OW156 nothing provides the parameter 'session' of task. Call provide"):
        run(work)


def test_a_direct_call_gets_what_it_gives() -> None:
    task = Outwork().task(name="task")(needs_a_session)
    assert task(session=Session()) == "Session"
    with pytest.raises(AttributeError, match="provided where a job runs"):
        task()


def needs_a_session(session: Session = provided()) -> str:
    return session.__class__.__name__ if session.__class__ is Session else str(session.execute)  # type: ignore[attr-defined]


events: list[str] = []


@contextmanager
def managed() -> Iterator[str]:
    events.append("open")
    try:
        yield "m"
    except ValueError as error:
        events.append(f"saw {error}")  # and would hide it
    finally:
        events.append("close")


def on_top(managed: str = provided(managed)) -> Iterator[str]:
    events.append("open top")
    yield f"top of {managed}"
    events.append("close top")


async def of_a_loop(context: TaskContext) -> AsyncIterator[str]:
    events.append("open async")
    yield context.task_name
    events.append("close async")


def test_they_are_closed_in_the_opposite_order_and_hide_no_error() -> None:
    def work(fail: bool, base: str = provided(managed), top: str = provided(on_top)) -> str:
        if fail:
            raise ValueError("no")
        return f"{base}, {top}"

    events.clear()
    assert run(work, False) == "m, top of m"
    assert events == ["open", "open top", "close top", "close"]
    events.clear()
    with pytest.raises(TaskFailed, match="ValueError: no"):
        run(work, True)
    assert events == ["open", "open top", "saw no", "close"]


def test_async_generators_around_async_tasks() -> None:
    async def number() -> int:
        return 3

    async def work(name: str = provided(of_a_loop), size: int = provided(number), base: str = provided(managed)) -> str:
        return f"{name} {size} {base}"

    events.clear()
    assert run(work) == "task 3 m"
    assert events == ["open async", "open", "close", "close async"]


def broken_before() -> Iterator[int]:
    raise OSError("no database")
    yield 1


def broken_after() -> Iterator[int]:
    yield 1
    raise OSError("cannot commit")


def gives_up() -> int:
    raise GiveUp("not today")


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        (broken_before, r"OW156 the provider \S+broken_before failed before the task: OSError: no database"),
        (broken_after, r"OW156 the provider \S+broken_after failed after the task: OSError: cannot commit"),
        (gives_up, "GiveUp: not today"),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_provider_that_fails(provider: Callable[..., Any], expected: str, is_async: bool) -> None:
    """And what was opened before it is closed."""

    def plain(base: str = provided(managed), value: int = provided(provider)) -> int:
        return value

    async def coroutine(base: str = provided(managed), value: int = provided(provider)) -> int:
        return value

    events.clear()
    with pytest.raises(TaskFailed, match=expected):
        run(coroutine if is_async else plain)
    assert events == ["open", "close"]


def needs_a_request(request: Any) -> None: ...


def circle_one(two: Any = provided(lambda: None)) -> None: ...


def circle_two(one: Any = provided(circle_one)) -> None: ...


circle_one.__defaults__ = (provided(circle_two),)


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        (needs_a_request, "needs 'request', which nothing provides. A task has no request"),
        (of_a_loop, "of_a_loop is async, and the task is not"),
        (circle_two, r"in a circle: \S+circle_two -> \S+circle_one -> \S+circle_two"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_enqueued(provider: Callable[..., Any], expected: str) -> None:
    def work(value: Any = provided(provider)) -> None: ...

    with pytest.raises(DeclarationError, match=expected):
        run(work)


def test_parameters_that_cannot_be_provided() -> None:
    def positional(value: int = provided(lambda: 1), /) -> None: ...
    def variadic(value: int = provided(lambda: 1), *rest: int) -> None: ...

    with pytest.raises(DeclarationError, match="positional-only"):
        run(positional)
    with pytest.raises(DeclarationError, match=r"no \*rest"):
        run(variadic)
    with pytest.raises(DeclarationError, match="write the name of a parameter"):
        Outwork().provide("not a name", lambda: 1)
    with pytest.raises(DeclarationError, match="cannot be called"):
        Outwork().provide("size", 3)  # type: ignore[type-var]


def make_session() -> Iterator[Session]:
    yield Session()


def make_dao(session: Annotated[Session, Depends(make_session)]) -> tuple[Session, str]:
    return session, "dao"


def test_depends_of_fastapi() -> None:
    def work(
        key: str,
        session: Annotated[Session, Depends(make_session)],
        dao: Any = Depends(make_dao),
        made: Session = Depends(),
    ) -> str:
        assert dao[0] is session
        assert isinstance(made, Session)
        return f"{key} {dao[1]}"

    assert run(work, "a") == "a dao"
