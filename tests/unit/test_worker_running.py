"""The worker in this process: what runs where, in which order, and how many at once."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from outwork import Retry, TaskContext, TaskFailed, TryAgain, current_context
from outwork.job import State
from outwork.worker.options import WorkerOptions
from support import chores
from support.inside import memory_app, working
from support.ledger import VARIABLE, Ledger
from support.waiting import until

TESTS = Path(__file__).parents[1]


def test_a_sync_task_runs_on_a_thread() -> None:
    app, _ = memory_app()

    @app.task
    def add(x: int, y: int) -> tuple[int, str]:
        return x + y, threading.current_thread().name

    with working(app):
        total, thread = add.enqueue(1, 2).get(timeout=60)
    assert total == 3
    assert thread.startswith("outwork-task-")


def test_an_async_task_runs_on_the_loop_beside_others() -> None:
    app, _ = memory_app()
    meeting = 0

    @app.task
    async def meet() -> str:
        nonlocal meeting
        meeting += 1
        while meeting < 20:
            await asyncio.sleep(0.001)
        return threading.current_thread().name

    with working(app, concurrency=20):
        results = app.enqueue_many(meet.bind() for _ in range(20))
        assert {result.get(timeout=60) for result in results} == {"outwork-loop"}


def test_a_process_task_runs_in_a_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "ledger"))
    ledger = Ledger(tmp_path / "ledger")
    app = chores.app
    app.override({"broker_url": "memory:"})
    try:
        with working(app, children=2, options=WorkerOptions(targets=("support.chores",))):
            for result in app.enqueue_many(chores.heavy.bind(f"job-{number}", 0.01) for number in range(10)):
                result.get(timeout=60)
    finally:
        app.close()
    assert set(ledger.keys("E").values()) == {1}
    pids = {entry.pid for entry in ledger.entries()}
    assert os.getpid() not in pids
    assert len(pids) <= 2
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the end of the children")


def test_a_task_knows_its_job() -> None:
    app, _ = memory_app()

    @app.task(takes_context=True, queue_name="mail")
    def know(context: TaskContext) -> list[str]:
        below = current_context()
        assert below is context
        return [context.job_id, context.task_name, context.queue_name, str(context.attempt), context.worker_id]

    @app.task
    async def aknow() -> str:
        return current_context().job_id

    with working(app) as inside:
        result, other = know.enqueue(), aknow.enqueue()
        assert result.get(timeout=60) == [result.id, know.name, "mail", "1", inside.worker.id]
        assert other.get(timeout=60) == other.id
        result.refresh()
        assert result.worker_ids == [inside.worker.id]
        assert result.started_at is not None
        assert result.finished_at is not None


def test_higher_priorities_first() -> None:
    app, _ = memory_app()
    order: list[int] = []

    @app.task
    def note(number: int) -> None:
        order.append(number)

    for priority in (0, -100, 100, 5, 0):
        note.using(priority=priority).enqueue(priority)
    with working(app, concurrency=1, drain=True) as inside:
        inside.join()
    assert order == [100, 5, 0, 0, -100]


def test_every_queue_has_its_turn() -> None:
    """A queue that is never empty does not starve the others."""
    app, _ = memory_app()
    ended = threading.Event()
    seen: list[str] = []

    @app.task
    def note(queue: str) -> None:
        seen.append(queue)
        if not ended.is_set() and queue == "a":
            note.using(queue_name="a").enqueue("a")

    for _ in range(3):
        note.using(queue_name="a").enqueue("a")
    with working(app, concurrency=1, queues={"a": None, "b": None}):
        until(lambda: len(seen) > 5, "some jobs of a")
        note.using(queue_name="b").enqueue("b").get(timeout=60)
        ended.set()


def test_a_queue_has_a_limit_of_its_own() -> None:
    app, _ = memory_app()
    running = Counter[str]()
    most = Counter[str]()
    lock = threading.Lock()

    @app.task
    def work(queue: str) -> None:
        with lock:
            running[queue] += 1
            most[queue] = max(most[queue], running[queue])
        time.sleep(0.02)
        with lock:
            running[queue] -= 1

    for queue in ("a", "b"):
        app.enqueue_many(work.using(queue_name=queue).bind(queue) for _ in range(24))
    with working(app, concurrency=12, queues={"a": None, "b": 4}, drain=True) as inside:
        assert inside.join().done == 48
    assert 1 < most["b"] <= 4
    assert most["a"] > 4


def test_a_full_queue_is_not_asked_again_and_again() -> None:
    """Four of `b` run, more of `b` wait: the worker sleeps until one ends. And it goes on when one has."""
    app, broker = memory_app()
    go = threading.Event()

    @app.task(queue_name="b")
    def block() -> None:
        go.wait(30)

    results = app.enqueue_many(block.bind() for _ in range(9))
    with working(app, concurrency=20, queues={"b": 4, "a": None}):
        until(lambda: len(broker.claimed) == 4, "four at work")
        before = len(broker.exchanges)
        assert not go.wait(0.5)
        assert len(broker.exchanges) - before < 10
        go.set()
        for result in results:
            result.get(timeout=60)


def test_a_solo_job_that_finds_no_free_slot_is_not_asked_for_again_and_again() -> None:
    """Tiny tasks make the worker prefetch; a job for a free slot only must not make it spin."""
    app, broker = memory_app()
    go = threading.Event()

    @app.task
    def tiny() -> None:
        return None

    @app.task
    def block() -> None:
        go.wait(30)

    @app.task(delivery="at_most_once")
    def once() -> str:
        return "ran"

    with working(app, concurrency=1):
        for _ in range(20):
            tiny.enqueue().get(timeout=60)
        blocker = block.enqueue()
        until(lambda: blocker.id in broker.claimed, "the only slot to be taken")
        waiting = once.enqueue()
        before = len(broker.exchanges)
        assert not go.wait(0.5)
        assert len(broker.exchanges) - before < 20
        go.set()
        assert waiting.get(timeout=60) == "ran"


def test_an_idle_worker_does_not_ask() -> None:
    app, broker = memory_app()

    @app.task
    def tiny() -> None:
        return None

    with working(app):
        tiny.enqueue().get(timeout=60)
        before = len(broker.exchanges)
        assert not threading.Event().wait(0.5)
        assert len(broker.exchanges) - before <= 2


def test_a_long_task_gives_back_what_was_prefetched() -> None:
    """So that another worker can have it; uncounted, and at its old place."""
    app, broker = memory_app()
    go = threading.Event()

    @app.task
    def tiny() -> None:
        return None

    @app.task
    def block() -> None:
        go.wait(30)

    with working(app, concurrency=1):
        app.enqueue_many(tiny.bind() for _ in range(100))
        until(lambda: not any(c.jobs for c in broker.counts() if c.state is State.READY), "the tiny ones")
        blocker = block.enqueue()
        behind = app.enqueue_many(tiny.bind() for _ in range(10))
        until(lambda: blocker.id in broker.claimed, "the long one")
        until(lambda: all(r and r.state is State.READY for r in broker.get([b.id for b in behind])), "all ready again")
        assert {r.attempts for r in broker.get([b.id for b in behind]) if r} == {0}
        with working(app, concurrency=1):
            for result in behind:
                result.get(timeout=60)
        go.set()
        blocker.get(timeout=60)


def test_a_scheduled_job_starts_when_it_is_due() -> None:
    app, _ = memory_app()

    @app.task
    def now() -> float:
        return time.time()

    with working(app):
        asked = time.time()
        started = now.using(run_after=0.3).enqueue().get(timeout=60)
    assert 0.3 <= started - asked < 5


def test_a_worker_serves_queues_that_it_learns_of() -> None:
    """With no queues named it serves those of its tasks, and those that the broker has seen."""
    app, _ = memory_app()

    @app.task(queue_name="mail")
    def tiny() -> str:
        return current_context().queue_name

    tiny.using(queue_name="seen-before").enqueue()
    with working(app, drain=True) as inside:
        assert inside.join().done == 1
    with working(app):
        assert tiny.enqueue().get(timeout=60) == "mail"


def test_more_threads_than_asked_for_are_never_used() -> None:
    app, _ = memory_app()
    seen: set[str] = set()

    @app.task
    def note() -> None:
        seen.add(threading.current_thread().name)
        time.sleep(0.01)

    app.enqueue_many(note.bind() for _ in range(60))
    with working(app, concurrency=10, threads=3, drain=True) as inside:
        assert inside.join().done == 60
    assert 1 <= len(seen) <= 3


def test_tasks_that_became_slower_are_shared() -> None:
    """A worker that prefetched a hundred jobs, when its tasks took microseconds, gives back what will not start soon,
    although its slots end one job after the other."""
    app, broker = memory_app()
    done: Counter[str] = Counter()

    @app.task
    def tiny() -> None:
        return None

    @app.task
    def slower() -> None:
        time.sleep(0.02)
        done[current_context().worker_id] += 1

    with working(app, concurrency=2) as greedy:
        for _ in range(30):
            tiny.enqueue().get(timeout=60)
        greedy.worker._appetite._mean = 1e-4  # so long they take where nothing else is going on
        results = app.enqueue_many(slower.bind() for _ in range(100))
        until(lambda: len(broker.claimed) >= 130, "all claimed at once")
        with working(app, concurrency=2) as idle:
            for result in results:
                result.get(timeout=60)
            assert done[greedy.worker.id] + done[idle.worker.id] == 100
            assert done[idle.worker.id] > 20


def test_who_asks_to_be_tried_again_has_said_it_all(caplog: pytest.LogCaptureFixture) -> None:
    app, _ = memory_app()

    @app.task(takes_context=True, retry=Retry(delay=0.001))
    def post(context: TaskContext) -> int:
        if context.attempt == 1:
            raise TryAgain("it said when to come back", after=0.001)
        if context.attempt == 2:
            try:
                raise OSError("the line is cut")
            except OSError:
                raise TryAgain("the other side is away", after=0.001) from None
        if context.attempt == 3:
            try:
                raise OSError("the line is cut")
            except OSError as error:
                raise TryAgain("for a reason", after=0.001) from error
        if context.attempt == 4:
            raise OSError("the line is cut")
        return context.attempt

    with caplog.at_level(logging.INFO, "outwork.worker"), working(app):
        assert post.enqueue().get(timeout=60) == 5
    told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [len(message.splitlines()) > 1 for message in told] == [False, False, True, True], told
    assert "attempt 1 failed: outwork.errors.TryAgain: it said when to come back; again in" in told[0]


def test_a_text_of_several_lines_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    app, _ = memory_app()

    @app.task(retry=None)
    def fail() -> None:
        raise ValueError("the first line\nthe second line")

    with caplog.at_level(logging.INFO, "outwork.worker"), working(app):
        with pytest.raises(TaskFailed):
            fail.enqueue().get(timeout=60)
        until(
            lambda: "FAILED after 1 attempt: builtins.ValueError: the first line\nTraceback" in caplog.text, "the log"
        )
    assert caplog.text.splitlines().count("the second line") == 1
