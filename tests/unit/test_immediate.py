"""`immediate:` (nothing configured): a job runs in its caller. `dummy:`: it is recorded and never run."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from outwork import GiveUp, Outwork, Retry, Snooze, State, TaskContext, TaskFailed, TaskResultStatus, TryAgain
from outwork.brokers.memory import MemoryBroker
from outwork.errors import JobNotFound, NotSerializable, Unsupported, WrongArguments


@pytest.fixture(params=[None, "", "immediate:"])
def app(request: pytest.FixtureRequest) -> Outwork:
    return Outwork(request.param)


def test_it_runs_at_once_on_this_thread(app: Outwork) -> None:
    ran: list[str] = []

    @app.task
    def fn(x: int) -> int:
        ran.append(threading.current_thread().name)
        return x * 2

    result = fn.enqueue(21)
    assert ran == [threading.current_thread().name]
    assert (result.return_value, result.status, result.state) == (42, TaskResultStatus.SUCCESSFUL, State.SUCCESSFUL)
    assert (result.attempts, result.worker_ids, result.errors) == (1, ["caller"], [])
    assert result.get(timeout=0) == 42
    assert app.get_result(result.id).return_value == 42
    assert asyncio.run(app.aget_result(result.id)).return_value == 42


def test_async_tasks_run_wherever_they_are_enqueued(app: Outwork) -> None:
    @app.task
    async def fn(x: int) -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name + str(x)

    @app.task
    def sync_fn() -> str:
        return threading.current_thread().name

    async def main() -> None:
        here = threading.current_thread().name
        assert (await fn.aenqueue(1)).return_value == here + "1"
        assert (await sync_fn.aenqueue()).return_value != here, "the loop is not blocked"
        assert fn.enqueue(2).return_value != here + "2", "a loop runs here already"
        assert await (await fn.aenqueue(3)).aget() == here + "3"

    asyncio.run(main())
    assert fn.enqueue(4).return_value == threading.current_thread().name + "4"


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    "error", [ValueError("as asked"), SystemExit(1), TryAgain(after=5), GiveUp("enough"), Snooze(5)], ids=repr
)
def test_an_error_is_recorded_and_logged_and_not_raised(
    app: Outwork, error: BaseException, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    @app.task(retry=Retry(max_attempts=5))
    def fn() -> None:
        calls.append(1)
        raise error

    @app.task
    async def afn() -> None:
        calls.append(1)
        raise error

    result = afn.enqueue() if is_async else fn.enqueue()
    assert calls == [1], "one attempt"
    assert (result.state, result.attempts) == (State.FAILED, 1)
    with pytest.raises(TaskFailed):
        result.get()
    with pytest.raises(TaskFailed):
        _ = result.return_value
    [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "failed in its caller" in line.getMessage()
    if isinstance(error, ValueError):
        assert "raise error" in line.getMessage()
        assert result.errors[0].exception_class_path == "builtins.ValueError"
    if isinstance(error, Snooze):
        assert "cannot snooze" in result.errors[0].message


def test_run_after_is_refused(app: Outwork) -> None:
    calls: list[int] = []

    @app.task
    def fn() -> None:
        calls.append(1)

    for when in (5, timedelta(days=1), datetime(2099, 1, 1, tzinfo=UTC)):
        with pytest.raises(Unsupported, match=r"run_after cannot be kept by immediate:.*OUTWORK_BROKER_URL"):
            fn.using(run_after=when).enqueue()
    assert calls == []


def test_arguments_are_checked_as_everywhere(app: Outwork) -> None:
    @app.task
    def fn(x: int) -> int:
        return x

    with pytest.raises(NotSerializable):
        fn.enqueue("1")  # type: ignore[arg-type]
    with pytest.raises(WrongArguments):
        fn.enqueue(1, 2)  # type: ignore[call-arg]


def test_a_task_gets_a_copy_of_its_arguments(app: Outwork) -> None:
    """As from any broker: what the task changes, the caller does not see."""

    @app.task
    def fn(items: list[int]) -> list[int]:
        items.append(3)
        return items

    mine = [1, 2]
    assert fn.enqueue(mine).return_value == [1, 2, 3]
    assert mine == [1, 2]


def test_tasks_may_enqueue_tasks(app: Outwork) -> None:
    @app.task(takes_context=True)
    def tree(context: TaskContext, depth: int) -> list[str]:
        return [context.job_id, *(tree.enqueue(depth - 1).return_value if depth else [])]

    ids = tree.enqueue(4).return_value
    assert len(set(ids)) == 5


def test_lambdas_are_fine_here(app: Outwork) -> None:
    assert app.task(lambda: 5).enqueue().return_value == 5


def test_many_at_once(app: Outwork) -> None:
    @app.task
    def double(x: int) -> int:
        return x * 2

    results = app.enqueue_many(double.bind(number) for number in range(5))
    assert [result.return_value for result in results] == [0, 2, 4, 6, 8]
    assert [r.return_value for r in asyncio.run(app.aenqueue_many([double.bind(5)]))] == [10]


def test_memory_does_not_grow_for_ever() -> None:
    app = Outwork(broker=MemoryBroker("immediate:", kept=10))

    @app.task
    def fn() -> None: ...

    results = [fn.enqueue() for _ in range(50)]
    assert isinstance(app.broker, MemoryBroker)
    assert len(app.broker.results) <= 11
    with pytest.raises(JobNotFound):
        app.get_result(results[0].id)
    results[0].get()


# ---- dummy ----------------------------------------------------------------------------------------------------------


def test_dummy_records_and_never_runs() -> None:
    app = Outwork("dummy:")
    calls: list[Any] = []

    @app.task(queue_name="mail", priority=3)
    def fn(x: int) -> None:
        calls.append(x)

    first, second = fn.enqueue(1), asyncio.run(fn.aenqueue(2))
    later = fn.using(run_after=60).enqueue(3)
    broker = app.broker
    assert isinstance(broker, MemoryBroker)
    assert [record.id for record in broker.results] == [first.id, second.id, later.id]
    assert [(r.task, r.queue, r.priority) for r in broker.results] == [(fn.name, "mail", 3)] * 3
    assert calls == []
    assert first.state is State.READY
    assert later.state is State.SCHEDULED
    with pytest.raises(NotSerializable):
        fn.enqueue("one")  # type: ignore[arg-type]
    broker.clear()
    assert broker.results == []
    with pytest.raises(JobNotFound):
        first.refresh()
    app.close()
