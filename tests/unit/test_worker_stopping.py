"""How a worker ends: the grace period, the second signal, what is given back, a drain."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from outwork import Retry, TaskFailed
from outwork.job import State
from support.inside import memory_app, working
from support.waiting import until


def test_running_jobs_end_and_the_others_are_given_back() -> None:
    app, broker = memory_app()
    go = threading.Event()
    started = threading.Semaphore(0)

    @app.task
    def work() -> None:
        started.release()
        go.wait(30)

    results = app.enqueue_many(work.bind() for _ in range(10))
    with working(app, concurrency=6, threads=2) as inside:
        for _ in range(2):
            assert started.acquire(timeout=60)
        until(lambda: len(broker.claimed) == 6, "six in hand, four of them waiting for a thread")
        inside.worker.stop()
        until(lambda: sum(c.jobs for c in broker.counts() if c.state is State.READY) == 8, "the giving back")
        go.set()
        summary = inside.join()
    assert (summary.done, summary.given_back, summary.stuck) == (2, 4, False)
    records = [record for record in broker.get([result.id for result in results]) if record]
    assert [record.attempts for record in records if record.state is State.READY] == [0] * 8
    assert broker.workers() == []


def test_a_second_stop_does_not_wait() -> None:
    app, _ = memory_app()
    go = threading.Event()
    started = threading.Semaphore(0)

    @app.task
    def thread() -> None:
        started.release()
        go.wait(30)

    @app.task
    async def coroutine() -> None:
        started.release()
        await asyncio.sleep(30)

    @app.task(delivery="at_most_once")
    def once() -> None:
        started.release()
        go.wait(30)

    results = [thread.enqueue(), coroutine.enqueue(), once.enqueue()]
    try:
        with working(app, grace=60) as inside:
            for _ in range(3):
                assert started.acquire(timeout=60)
            inside.worker.stop()
            inside.worker.stop(hurry=True)
            summary = inside.join()
        assert summary.stuck
        for result in results:
            result.refresh()
        assert [result.state for result in results] == [State.READY, State.READY, State.FAILED]
        assert [result.attempts for result in results] == [0, 0, 1]
        assert "worker was stopped" in results[2].errors[0].message
    finally:
        go.set()


def test_the_grace_period_ends() -> None:
    app, _ = memory_app()
    go = threading.Event()
    started = threading.Event()

    @app.task
    def work() -> None:
        started.set()
        go.wait(30)

    try:
        with working(app, grace=0.2) as inside:
            result = work.enqueue()
            assert started.wait(60)
            summary = inside.stop()
        assert summary.given_back == 1
        result.refresh()
        assert (result.state, result.attempts) == (State.READY, 0)
    finally:
        go.set()


def test_what_a_stop_meets_on_its_way_is_not_started() -> None:
    """The stop comes while an exchange is under way that claims jobs."""
    app, broker = memory_app()
    ran: list[int] = []

    @app.task
    def work(number: int) -> None:
        ran.append(number)

    with working(app, concurrency=5) as inside:
        until(lambda: broker.exchanges, "the first look")
        broker.in_exchange = inside.worker.stop
        results = app.enqueue_many(work.bind(number) for number in range(3))
        summary = inside.join()
    assert ran == []
    assert summary.given_back == 3
    assert {record.attempts for record in broker.get([r.id for r in results]) if record} == {0}


def test_an_idle_worker_stops_at_once() -> None:
    app, _ = memory_app()
    with working(app) as inside:
        began = time.monotonic()
        summary = inside.stop()
    assert time.monotonic() - began < 20
    assert (summary.done, summary.failed, summary.given_back) == (0, 0, 0)


def test_a_drain_ends_when_nothing_is_left() -> None:
    app, _ = memory_app()

    @app.task
    def tree(depth: int) -> None:
        for _ in range(2 if depth else 0):
            tree.enqueue(depth - 1)

    tree.enqueue(5)
    tree.using(run_after=3600).enqueue(0)
    with working(app, drain=True) as inside:
        summary = inside.join()
    assert (summary.done, summary.failed, summary.left) == (63, 0, 1)


def test_a_drain_waits_for_retries() -> None:
    app, _ = memory_app()
    tries: list[int] = []

    @app.task(retry=Retry(max_attempts=3, delay=0.2, factor=1, jitter=False))
    def flaky() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("not yet")

    flaky.enqueue()
    with working(app, drain=True) as inside:
        summary = inside.join()
    assert (summary.done, summary.failed, len(tries)) == (1, 0, 3)


def test_a_drain_counts_what_ended_failed() -> None:
    app, _ = memory_app()

    @app.task(retry=None)
    def bad() -> None:
        raise ValueError("as asked")

    @app.task(expires=0.05)
    def late() -> None:
        return None

    result, expired = bad.enqueue(), late.enqueue()
    assert not threading.Event().wait(0.1)
    with working(app, drain=True) as inside:
        assert inside.join().failed == 2
    with pytest.raises(TaskFailed, match="as asked"):
        result.get(timeout=60)
    with pytest.raises(TaskFailed, match=r"Expired"):
        expired.get(timeout=60)


def test_a_drain_lets_others_queues_be() -> None:
    app, _ = memory_app()

    @app.task
    def tiny() -> None:
        return None

    tiny.using(queue_name="other").enqueue()
    tiny.enqueue()
    with working(app, drain=True, queues={"default": None}) as inside:
        assert inside.join().done == 1
