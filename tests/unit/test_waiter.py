"""Waiting for results: many waiters, one thread, deadlines."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from outwork import Outwork, ResultTimeout, Retry, TaskFailed
from outwork.brokers.memory import MemoryBroker
from outwork.client.waiter import Waiter, timed_out
from outwork.errors import BrokerUnavailable, JobNotFound, ResultNotReady
from outwork.job import State
from support.inside import memory_app, working
from support.waiting import until


def waiting_threads() -> int:
    return sum(1 for thread in threading.enumerate() if thread.name == "outwork-results")


def test_many_waiters_share_one_thread() -> None:
    until(lambda: waiting_threads() == 0, "the end of the threads of earlier tests")
    app, broker = memory_app()
    go = threading.Event()
    calls: list[int] = []
    plain_wait = broker.wait_result

    def counted(ids: Collection[str], timeout: float) -> set[str]:
        calls.append(len(ids))
        return plain_wait(ids, timeout)

    broker.wait_result = counted  # type: ignore[method-assign]

    @app.task
    async def work(number: int) -> int:
        await asyncio.to_thread(go.wait, 30)
        return number

    results = app.enqueue_many(work.bind(number) for number in range(20))
    got: list[int] = []

    def wait_in_thread(number: int) -> None:
        got.append(results[number].get(timeout=60))

    async def wait_in_coroutines() -> list[int]:
        return await asyncio.gather(*(results[number].aget(timeout=60) for number in range(20)))

    threads = [threading.Thread(target=wait_in_thread, args=(number,)) for number in range(20)]
    with working(app):
        for thread in threads:
            thread.start()
        until(lambda: calls and calls[-1] == 20, "all waited for at once")
        assert waiting_threads() == 1
        go.set()
        assert asyncio.run(wait_in_coroutines()) == list(range(20))
        for thread in threads:
            thread.join(60)
    assert sorted(got) == list(range(20))
    until(lambda: waiting_threads() == 0, "the end of the thread")


def test_the_same_job_can_be_waited_for_twice() -> None:
    app, _ = memory_app()
    go = threading.Event()

    @app.task
    def work() -> str:
        go.wait(30)
        return "done"

    async def main() -> list[str]:
        both = [asyncio.create_task(result.aget(timeout=60)), asyncio.create_task(result.aget(timeout=60))]
        await asyncio.sleep(0.05)
        go.set()
        return await asyncio.gather(*both)

    with working(app):
        result = work.enqueue()
        assert asyncio.run(main()) == ["done", "done"]


def test_a_timeout_says_what_is_wrong() -> None:
    app, _ = memory_app()

    @app.task(queue_name="mail")
    def work() -> None: ...

    result = work.enqueue()
    with pytest.raises(
        ResultTimeout, match=r"still ready after 0\.05 s: no worker is listening on queue 'mail'"
    ) as caught:
        result.get(timeout=0.05)
    assert "Start one:  outwork worker --queues mail" in str(caught.value)
    assert isinstance(caught.value, TimeoutError)

    async def main() -> None:
        with pytest.raises(ResultTimeout, match="no worker is listening"):
            await result.aget(timeout=0.05)

    asyncio.run(main())
    with pytest.raises(ResultNotReady):
        _ = result.return_value


def test_a_timeout_says_why_a_job_waits() -> None:
    """It failed and is tried again, or it was given back by a worker that does not know its task."""
    app, broker = memory_app()
    stranger, _ = memory_app()

    @app.task(retry=Retry(delay=3600, jitter=False))
    def failing() -> None:
        raise OSError("the disk\nis full")

    @stranger.task
    def unknown() -> None: ...

    with working(app):
        failed = failing.enqueue()
        until(lambda: broker.get([failed.id])[0].state is State.SCHEDULED, "its failure")  # type: ignore[union-attr]
        with pytest.raises(
            ResultTimeout, match=r"scheduled after 0\.01 s: attempt 1 failed \(builtins\.OSError: the disk\)"
        ):
            failed.get(timeout=0.01)
        with stranger.standing_in(broker):
            given_back = unknown.enqueue()
        until(lambda: broker.get([given_back.id])[0].state is State.SCHEDULED, "its release")  # type: ignore[union-attr]
        record = broker.get([given_back.id])[0]
        said = str(timed_out(given_back.id, 0.01, record, broker))
    assert f"does not know the task {unknown.name}. Start one with the module that has it:  outwork worker" in said


def test_after_a_timeout_the_result_can_still_be_had() -> None:
    app, _ = memory_app()

    @app.task
    def work() -> int:
        return 5

    result = work.enqueue()
    with pytest.raises(ResultTimeout):
        result.get(timeout=0.01)
    with working(app):
        assert result.get(timeout=60) == 5
        assert result.return_value == 5
        assert result.is_finished


def test_a_timeout_in_the_moment_of_the_end_does_not_break_the_thread() -> None:
    """A coroutine's timeout cancels its future; the thread must not stumble over it and leave all others waiting."""
    app, broker = memory_app()
    waiter = Waiter(lambda: broker)

    @app.task
    def work() -> None: ...

    first, second = work.enqueue(), work.enqueue()
    leaving = waiter.watch(first.id)
    assert leaving.cancel()
    app.cancel(first.id)
    until(lambda: first.id not in waiter._waiting, "the thread to have met it")
    staying = waiter.watch(second.id)
    app.cancel(second.id)
    staying.result(10)


def test_a_job_that_is_gone_is_not_waited_for() -> None:
    app, broker = memory_app()

    @app.task
    def work() -> None: ...

    result = work.enqueue()
    broker.delete([result.id])
    with pytest.raises(JobNotFound):
        result.get(timeout=60)
    other = work.enqueue()
    threading.Timer(0.1, broker.delete, [[other.id]]).start()
    began = time.monotonic()
    with pytest.raises(JobNotFound):
        other.get(timeout=60)
    assert time.monotonic() - began < 30


def test_a_store_that_is_away_is_said_to_those_who_wait() -> None:
    app, broker = memory_app()
    away = threading.Event()
    plain_wait = broker.wait_result

    def failing(ids: Collection[str], timeout: float) -> set[str]:
        if away.is_set():
            raise BrokerUnavailable("the cable is out")
        return plain_wait(ids, timeout)

    broker.wait_result = failing  # type: ignore[method-assign]

    @app.task
    def work() -> int:
        return 5

    result = work.enqueue()
    away.set()
    with pytest.raises(BrokerUnavailable):
        result.get(timeout=60)
    away.clear()
    with working(app):
        assert result.get(timeout=60) == 5


def test_an_application_that_was_closed_waits_on_its_new_store() -> None:
    """The thread lingers for a second; it must not go on asking the store that is closed."""
    app = Outwork("memory:")

    @app.task
    def work() -> int:
        return 5

    with working(app):
        assert work.enqueue().get(timeout=60) == 5
    app.close()
    with working(app):
        assert work.enqueue().get(timeout=60) == 5
    app.close()


def test_a_failed_job_raises_with_its_traceback() -> None:
    app, _ = memory_app()

    @app.task(retry=None)
    def work() -> None:
        raise LookupError("where is it?")

    async def main() -> None:
        with pytest.raises(
            TaskFailed, match=r"(?s)builtins\.LookupError: where is it\?.*traceback in the worker.*raise"
        ):
            await work.enqueue().aget(timeout=60)

    with working(app):
        asyncio.run(main())


def test_waiting_does_not_block_the_event_loop() -> None:
    app, broker = memory_app()

    @app.task
    def work() -> None: ...

    result = work.enqueue()

    async def main() -> int:
        pending = asyncio.create_task(result.aget(timeout=60))
        ticks = 0
        while ticks < 50:
            await asyncio.sleep(0.001)
            ticks += 1
        assert not pending.done()
        await result.arefresh()
        assert await result.acancel() is State.CANCELLED
        with pytest.raises(TaskFailed, match="was cancelled"):
            await pending
        return ticks

    assert asyncio.run(main()) == 50
    assert isinstance(broker, MemoryBroker)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///{0}/jobs.db", r"Workers online: none\. Start one:  outwork worker --queues default$"),
        ("sqlite:///{0}/jobs.db?embedded=true", r"starts in the application's web process, with its first request$"),
        ("thread:", r"starts in this process$"),
        ("dummy:", r"still ready after 0\.01 s: dummy: runs no jobs\. Set another broker, or use immediate:$"),
    ],
)
def test_a_timeout_says_why_nobody_takes_the_job(url: str, said: str, tmp_path: Path) -> None:
    app = Outwork(url.format(tmp_path))

    @app.task(name="work")
    def work() -> None: ...

    app.hold_worker()  # as where this is not the process that serves
    with pytest.raises(ResultTimeout, match=said):
        work.enqueue().get(timeout=0.01)
    app.close()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ready", r"^a TaskResult has no 'ready': write \.refresh\(\), then \.is_finished$"),
        ("result", r"write \.get\(timeout=\.\.\.\), or \.return_value$"),
        ("zzz", "no 'zzz'$"),
    ],
)
def test_an_attribute_of_another_library_is_said_in_our_words(name: str, said: str) -> None:
    task = Outwork("dummy:").task(lambda: None)
    with pytest.raises(AttributeError, match=said):
        getattr(task.enqueue(), name)
