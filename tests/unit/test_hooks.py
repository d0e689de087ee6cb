"""Hooks: their order, what they see, and what becomes of a job when one of them raises."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, Self

import pytest

from outwork import GiveUp, Outwork, Retry, Snooze, TaskContext, TryAgain, current_context
from outwork.attempt import Attempt, begin
from outwork.brokers.base import Claimed
from outwork.brokers.memory import MemoryBroker
from outwork.codec import encode_job
from outwork.errors import DeclarationError, HookRefused, PartlyEnqueued
from outwork.hooks import Enqueuing, Hooks
from outwork.job import Again, Dead, Outcome
from support.inside import working

who: ContextVar[str | None] = ContextVar("who")
depth: ContextVar[int] = ContextVar("depth", default=0)

AT_ONCE = Retry(max_attempts=2, delay=0)


@pytest.fixture
def app() -> Outwork:
    return Outwork()


def on_worker(app: Outwork) -> Outwork:
    """The same application over a broker in memory, for a worker."""
    other = Outwork(broker=MemoryBroker("memory:"))
    other.hooks = app.hooks
    return other


def drained(app: Outwork) -> None:
    """Run a worker until nothing is left to do."""
    with working(app, drain=True) as worker:
        worker.join()


def failures(result: Any) -> list[str]:
    return [error.exception_class_path for error in result.errors]


# ---- before an enqueue ----------------------------------------------------------------------------------------------


def test_before_enqueue_sees_the_job_in_order(app: Outwork) -> None:
    seen: list[str] = []

    @app.task(queue_name="mail")
    def send(to: str, copies: int = 1) -> None: ...

    @app.hooks.before_enqueue
    def first(job: Enqueuing) -> None:
        seen.append(f"first {job.task_name} {job.queue_name} {job.arguments}")

    @app.hooks.before_enqueue
    def second(job: Enqueuing) -> None:
        seen.append(f"second {job.job_id}")
        assert repr(job) == f"<Enqueuing {send.name} job={job.job_id} queue=mail>"

    result = send.enqueue("ada")
    assert seen == [f"first {send.name} mail {{'to': 'ada'}}", f"second {result.id}"]


def test_what_it_puts_into_carried_is_read_where_the_job_runs(app: Outwork) -> None:
    @app.task(takes_context=True)
    def look(context: TaskContext) -> str:
        return context.carried["trace"]

    @app.task
    def plain() -> bool:
        return "trace" in current_context().carried

    assert plain.enqueue().get() is False

    @app.hooks.before_enqueue
    def trace(job: Enqueuing) -> None:
        job.carried["trace"] = f"trace of {job.task_name}"

    assert look.enqueue().get() == f"trace of {look.name}"


def refuse(job: Enqueuing) -> None:
    if job.arguments["number"] == 13:
        raise PermissionError("not thirteen")


@pytest.mark.parametrize("url", ["immediate:", "dummy:"])
def test_one_that_raises_refuses_the_call(url: str) -> None:
    app = Outwork(url)

    @app.task
    def count(number: int) -> None: ...

    app.hooks.before_enqueue(refuse)
    with pytest.raises(HookRefused, match=r"OW127 the hook .*test_hooks\.refuse refused .*PermissionError: not") as e:
        count.enqueue(13)
    assert isinstance(e.value.__cause__, PermissionError)
    with pytest.raises(HookRefused):
        asyncio.run(count.aenqueue(13))
    with pytest.raises((HookRefused, PartlyEnqueued)):
        app.enqueue_many(count.bind(number) for number in range(20))
    count.enqueue(12)
    assert isinstance(app.broker, MemoryBroker)
    assert len(app.broker.results) == (1 if url == "dummy:" else 14), "a batch is refused as a whole"
    app.close()


def test_only_text_is_carried(app: Outwork) -> None:
    @app.task
    def nothing() -> None: ...

    @app.hooks.before_enqueue
    def wrong(job: Enqueuing) -> None:
        job.carried["number"] = 5  # type: ignore[assignment]

    with pytest.raises(HookRefused, match=r"carried\['number'\] is a int"):
        nothing.enqueue()


# ---- around a run ---------------------------------------------------------------------------------------------------


def noting(notes: list[str], name: str) -> Callable[[TaskContext], Iterator[None]]:
    def around(context: TaskContext) -> Iterator[None]:
        notes.append(f"+{name} {context.attempt}")
        try:
            yield
        finally:
            notes.append(f"-{name}")

    return around


def test_hooks_stand_around_the_task_in_order(app: Outwork) -> None:
    notes: list[str] = []

    @app.task
    def work() -> str:
        notes.append("work")
        return "done"

    app.hooks.around_run(noting(notes, "a"))
    app.hooks.around_run(noting(notes, "b"))
    assert work.enqueue().get() == "done"
    assert notes == ["+a 1", "+b 1", "work", "-b", "-a"]


class Manager:
    """A context manager for both kinds of tasks."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    def __enter__(self) -> Self:
        self.notes.append("enter")
        return self

    def __exit__(self, *_: object) -> None:
        self.notes.append("exit")

    async def __aenter__(self) -> Self:
        self.notes.append("aenter")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.notes.append("aexit")


def around_of_every_kind(notes: list[str]) -> Hooks:
    hooks = Hooks()

    @hooks.around_run
    def generator(context: TaskContext) -> Iterator[None]:
        notes.append("generator")
        yield

    @hooks.around_run
    async def agenerator(context: TaskContext) -> AsyncIterator[None]:
        notes.append("agenerator")
        yield

    @hooks.around_run
    @contextmanager
    def manager(context: TaskContext) -> Iterator[None]:
        notes.append("manager")
        yield

    @hooks.around_run
    @asynccontextmanager
    async def amanager(context: TaskContext) -> AsyncIterator[None]:
        notes.append("amanager")
        yield

    @hooks.around_run(everywhere=True)
    def everywhere(context: TaskContext) -> Iterator[None]:
        notes.append("everywhere")
        yield

    @hooks.around_run
    def opaque(context: TaskContext) -> AbstractContextManager[Any]:
        notes.append("opaque")
        return contextlib.nullcontext()

    hooks.around_run(lambda context: Manager(notes))
    return hooks


SYNC = ["generator", "manager", "everywhere", "opaque", "enter", "exit"]
ASYNC = ["agenerator", "amanager", "everywhere", "opaque", "aenter", "aexit"]


def run_in_caller(app: Outwork, task: Any) -> None:
    assert task.enqueue().get() == "x"


def run_in_coroutine(app: Outwork, task: Any) -> None:
    assert asyncio.run(task.aenqueue()).get() == "x"


def run_on_worker(app: Outwork, task: Any) -> None:
    result = task.enqueue()
    drained(app)
    assert result.get(5) == "x"


@pytest.mark.parametrize("run", [run_in_caller, run_in_coroutine, run_on_worker])
def test_sync_ones_are_for_def_and_async_ones_for_async_def(run: Callable[[Outwork, Any], None]) -> None:
    notes: list[str] = []
    app = Outwork(broker=MemoryBroker("memory:" if run is run_on_worker else "immediate:"))
    app.hooks = around_of_every_kind(notes)

    @app.task
    def plain() -> str:
        return "x"

    @app.task
    async def coroutine() -> str:
        await asyncio.sleep(0)
        return "x"

    @app.task(executor="thread")
    async def on_a_thread() -> str:
        return "x"

    for task, expected in ((plain, SYNC), (coroutine, ASYNC), (on_a_thread, ASYNC)):
        notes.clear()
        run(app, task)
        assert notes == expected


def test_one_that_is_no_context_manager_is_named(app: Outwork) -> None:
    @app.task(retry=None)
    def plain() -> None: ...

    @app.task(retry=None)
    async def coroutine() -> None: ...

    app.hooks.around_run(lambda context: None)  # type: ignore[type-var]
    for task in (plain, coroutine):
        [error] = task.enqueue().errors
        assert (
            "failed before the task: TypeError: it returned a NoneType, which is not a context manager" in error.message
        )


def broken_before(context: TaskContext) -> Iterator[None]:
    raise OSError("no database")
    yield


async def abroken_before(context: TaskContext) -> AsyncIterator[None]:
    raise OSError("no database")
    yield


def broken_after(context: TaskContext) -> Iterator[None]:
    try:
        yield
    finally:
        raise OSError("no commit")


async def abroken_after(context: TaskContext) -> AsyncIterator[None]:
    try:
        yield
    finally:
        raise OSError("no commit")


@pytest.mark.parametrize("hook", [broken_before, broken_after], ids=["before", "after"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_one_that_raises_fails_the_attempt_and_is_named(app: Outwork, hook: Any, kind: str) -> None:
    ran: list[str] = []
    left: list[str] = []
    app = on_worker(app)

    @app.task(retry=Retry(max_attempts=2, delay=0, on=(ZeroDivisionError,)))
    def plain() -> None:
        ran.append("x")

    @app.task(retry=Retry(max_attempts=2, delay=0, on=(ZeroDivisionError,)))
    async def coroutine() -> None:
        ran.append("x")

    app.hooks.around_run(noting(left, "outer"))
    hooks = {broken_before: abroken_before, broken_after: abroken_after}
    app.hooks.around_run(hook if kind == "sync" else hooks[hook])
    result = (plain if kind == "sync" else coroutine).enqueue()
    drained(app)
    result.refresh()
    assert failures(result) == ["outwork.errors.HookFailed"] * 2, "tried again, whatever the task's policy is for"
    when = "before" if hook is broken_before else "after"
    assert (
        f".{'a' if kind == 'async' else ''}broken_{when} failed {when} the task: OSError: no"
        in result.errors[0].message
    )
    assert "OSError: no" in result.errors[0].traceback
    assert len(ran) == (0 if when == "before" else 2)
    assert left.count("-outer") == (2 if kind == "sync" else 0), "those that were entered are left"


def test_a_hook_that_fails_behind_a_failed_task_shows_both(app: Outwork) -> None:
    @app.task(retry=None)
    def work() -> None:
        raise ValueError("the task's own")

    app.hooks.around_run(broken_after)
    [error] = work.enqueue().errors
    assert error.exception_class_path == "outwork.errors.HookFailed"
    assert "the task's own" in error.traceback
    assert "no commit" in error.traceback


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_error_of_a_task_is_seen_and_cannot_be_hidden(app: Outwork, kind: str) -> None:
    seen: list[str] = []

    @app.task(retry=None)
    def plain() -> None:
        raise ValueError("wrong")

    @app.task(retry=None)
    async def coroutine() -> None:
        raise ValueError("wrong")

    @app.hooks.around_run
    def swallow(context: TaskContext) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            seen.append(str(error))

    @app.hooks.around_run
    async def aswallow(context: TaskContext) -> AsyncIterator[None]:
        try:
            yield
        except ValueError as error:
            seen.append(str(error))

    [error] = (plain if kind == "sync" else coroutine).enqueue().errors
    assert (error.exception_class_path, error.message) == ("builtins.ValueError", "wrong")
    assert "test_hooks.py" in error.traceback.splitlines()[1], "it begins in the task"
    assert seen == ["wrong"]


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("error", "outcome"),
    [(GiveUp("closed"), Dead), (Snooze(3600), Again), (TryAgain(after=3600), Again)],
    ids=["GiveUp", "Snooze", "TryAgain"],
)
def test_a_hook_may_steer_the_job(app: Outwork, error: Exception, outcome: type[Outcome], when: str, kind: str) -> None:
    @app.task
    def plain() -> None: ...

    @app.task
    async def coroutine() -> None: ...

    @app.hooks.around_run
    def maintenance(context: TaskContext) -> Iterator[None]:
        if when == "before":
            raise error
        yield
        raise error

    @app.hooks.around_run
    async def amaintenance(context: TaskContext) -> AsyncIterator[None]:
        if when == "before":
            raise error
        yield
        raise error

    job = (plain if kind == "sync" else coroutine).bind().job()
    attempt = begin(Claimed(job.id, "c", encode_job(job)), app.tasks, "w")
    assert isinstance(attempt, Attempt)
    ended = attempt.run()
    assert type(ended) is outcome
    if isinstance(ended, Again):
        assert ended.delay == 3600.0
        assert ended.counted is isinstance(error, TryAgain)


def test_a_hook_must_be_of_a_kind_that_can_be_called(app: Outwork) -> None:
    async def coroutine(_: Any) -> None: ...

    def generator(_: Any) -> Iterator[None]:
        yield

    for register in (app.hooks.before_enqueue, app.hooks.on_event):
        for hook in (coroutine, generator):
            with pytest.raises(DeclarationError, match="must be a plain function"):
                register(hook)  # type: ignore[type-var]
    with pytest.raises(DeclarationError, match="is a coroutine function"):
        app.hooks.around_run(coroutine)  # type: ignore[type-var]


# ---- the rest -------------------------------------------------------------------------------------------------------


def test_a_hook_can_be_removed(app: Outwork) -> None:
    notes: list[str] = []
    around = noting(notes, "a")
    app.hooks.around_run(around)
    app.hooks.before_enqueue(refuse)
    app.hooks.on_event(notes.append)  # type: ignore[type-var]
    app.hooks.carry(who)
    assert (app.hooks.touches_jobs, app.hooks.touches_runs, app.hooks.listens) == (True, True, True)
    for hook in (around, refuse, who):
        app.hooks.remove(hook)
    app.hooks.remove(notes.append)  # type: ignore[arg-type]

    @app.task
    def work() -> None: ...

    work.enqueue()
    assert notes == []
    assert (app.hooks.touches_jobs, app.hooks.touches_runs, app.hooks.listens) == (False, False, False)
