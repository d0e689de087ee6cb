"""What `on_event` is told, and the context variables that travel with jobs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest

from outwork import Outwork, Retry, Snooze, State
from outwork.brokers.memory import MemoryBroker
from outwork.errors import DeclarationError, HookRefused
from outwork.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    JobCancelled,
    JobEnqueued,
    JobFailed,
    JobRetried,
    JobSnoozed,
    JobSucceeded,
)
from outwork.job import Failure
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


def run_in_caller(app: Outwork, task: Any) -> None:
    assert task.enqueue().get() == "x"


def run_in_coroutine(app: Outwork, task: Any) -> None:
    assert asyncio.run(task.aenqueue()).get() == "x"


def run_on_worker(app: Outwork, task: Any) -> None:
    result = task.enqueue()
    drained(app)
    assert result.get(5) == "x"


# ---- events ---------------------------------------------------------------------------------------------------------


def listening(app: Outwork) -> list[Event]:
    events: list[Event] = []
    app.hooks.on_event(events.append)
    return events


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


def test_a_job_that_succeeds(app: Outwork) -> None:
    events = listening(app)

    @app.task
    def work() -> int:
        return 1

    result = work.enqueue()
    assert kinds(events) == [JobEnqueued, AttemptStarted, JobSucceeded]
    enqueued, started, done = events
    assert {(event.job_id, event.task_name, event.queue_name) for event in events} == {
        (result.id, work.name, "default")
    }
    assert isinstance(started, AttemptStarted)
    assert (started.attempt, started.worker_id) == (1, "caller")
    assert isinstance(done, JobSucceeded)
    assert done.seconds >= 0
    assert enqueued.at <= started.at <= done.at


def test_a_job_that_is_retried_and_fails_for_good(app: Outwork) -> None:
    events = listening(app)
    app = on_worker(app)

    @app.task(retry=AT_ONCE)
    def work() -> None:
        raise ValueError("wrong")

    work.enqueue()
    drained(app)
    assert kinds(events) == [
        *(JobEnqueued, AttemptStarted, AttemptFailed, JobRetried),
        *(AttemptStarted, AttemptFailed, JobFailed),
    ]
    retried, failed = events[3], events[-1]
    assert isinstance(retried, JobRetried)
    assert (retried.attempt, retried.delay) == (1, 0.0)
    assert isinstance(failed, JobFailed)
    assert failed.attempt == 2
    assert isinstance(failed.failure, Failure)
    assert failed.failure.message == "wrong"


def test_in_its_caller_nothing_is_retried_or_snoozed(app: Outwork) -> None:
    events = listening(app)

    @app.task
    def fails() -> None:
        raise ValueError("wrong")

    @app.task
    def snoozes() -> None:
        raise Snooze(5)

    for task in (fails, snoozes):
        events.clear()
        assert task.enqueue().state is State.FAILED
        assert kinds(events) == [JobEnqueued, AttemptStarted, AttemptFailed, JobFailed]


def test_snoozed_unreadable_and_unencodable_jobs(app: Outwork) -> None:
    events = listening(app)
    app = on_worker(app)

    @app.task
    def snoozes() -> None:
        raise Snooze(3600)

    @app.task
    def returns() -> object:
        return object()

    @app.task
    def takes(number: int) -> None: ...

    call = takes.bind(5)
    call.args = type(call.args)(b'{"number": "five"}')
    for enqueue in (snoozes.enqueue, returns.enqueue, lambda: app.enqueue(call)):
        events.clear()
        enqueue()
        drained(app)
        ends = kinds(events)[-1]
        assert ends is (JobSnoozed if enqueue == snoozes.enqueue else JobFailed)


def test_cancelling(app: Outwork) -> None:
    app = on_worker(app)
    events = listening(app)

    @app.task
    def work() -> None: ...

    result = work.using(run_after=timedelta(hours=1)).enqueue()
    result.cancel()
    result.cancel()
    assert kinds(events) == [JobEnqueued, JobCancelled]
    assert isinstance(events[0], JobEnqueued)
    assert events[0].delay == 3600.0


def test_many_and_async_enqueues_are_told(app: Outwork) -> None:
    app = Outwork("dummy:")
    events = listening(app)

    @app.task
    def work() -> None: ...

    app.enqueue_many(work.bind() for _ in range(3))
    asyncio.run(work.aenqueue())
    assert kinds(events) == [JobEnqueued] * 4
    app.close()


def test_a_listener_that_raises_harms_nothing(app: Outwork, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Event) -> None:
        raise SystemExit("out") if isinstance(event, JobSucceeded) else RuntimeError("no metrics")

    app.hooks.on_event(broken)
    events = listening(app)

    @app.task
    def work() -> int:
        return 1

    with caplog.at_level(logging.ERROR):
        assert work.enqueue().get() == 1
        assert work.enqueue().get() == 1
    assert kinds(events)[:3] == [JobEnqueued, AttemptStarted, JobSucceeded], "the next one is called all the same"
    [record] = caplog.records
    assert "broken failed for JobEnqueued: no metrics" in record.getMessage()
    assert record.exc_info is not None


# ---- carried context variables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [run_in_caller, run_in_coroutine, run_on_worker])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_variable_travels_with_the_job(run: Callable[[Outwork, Any], None], kind: str) -> None:
    app = Outwork(broker=MemoryBroker("memory:" if run is run_on_worker else "immediate:"))
    app.hooks.carry(who)
    app.hooks.carry(depth, encode=str, decode=int)
    seen: list[tuple[str | None, int]] = []

    @app.task
    def plain() -> str:
        seen.append((who.get("nobody"), depth.get()))
        who.set("changed")
        return "x"

    @app.task
    async def coroutine() -> str:
        return plain()

    task = plain if kind == "sync" else coroutine
    run(app, task)
    mine = who.set("ada"), depth.set(3)
    run(app, task)
    assert seen == [("nobody", 0), ("ada", 3)]
    assert who.get() == "ada", "the caller's is its own"
    who.reset(mine[0])
    depth.reset(mine[1])


def test_what_cannot_be_carried_is_refused_and_what_cannot_be_read_fails(app: Outwork) -> None:
    app.hooks.carry(depth, encode=lambda number: number, decode=int)  # type: ignore[arg-type,return-value]

    @app.task(retry=None)
    def work() -> None: ...

    token = depth.set(5)
    with pytest.raises(HookRefused, match=r"the hook carry\(depth\) refused .*only text is carried"):
        work.enqueue()
    app.hooks.remove(depth)
    app.hooks.carry(depth, encode=str, decode=lambda text: int(text, 2))
    [error] = work.enqueue().errors
    assert error.exception_class_path == "outwork.errors.HookFailed"
    assert "the hook carry(depth) failed before the task: ValueError" in error.message
    depth.reset(token)


def test_carry_refuses_contradictions(app: Outwork) -> None:
    app.hooks.carry(who)
    app.hooks.carry(who)
    with pytest.raises(DeclarationError, match="two context variables"):
        app.hooks.carry(ContextVar[str]("who"))
    with pytest.raises(DeclarationError, match="give both"):
        app.hooks.carry(depth, encode=str)  # type: ignore[call-overload]
