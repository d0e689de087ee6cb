"""What is ordered from outside while a worker runs: pauses, cancels; and what tasks say of their progress."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from outwork import Progress, TaskContext, current_context
from outwork.job import State
from outwork.worker.options import WorkerOptions
from support import chores
from support.inside import memory_app, working
from support.waiting import until

TESTS = Path(__file__).parents[1]


def test_jobs_of_a_paused_queue_stay_in_their_line_until_it_goes_on() -> None:
    app, broker = memory_app()
    ran = threading.Event()

    @app.task(queue_name="mail")
    def send() -> None:
        ran.set()

    @app.task
    def other() -> int:
        return 1

    broker.pause("queue:mail")
    with working(app):
        result = send.enqueue()
        assert other.enqueue().get(timeout=60) == 1
        result.refresh()
        assert (result.state, ran.is_set()) == (State.READY, False)
        broker.resume("queue:mail")
        result.get(timeout=60)


def test_a_queue_can_be_paused_while_the_worker_runs(caplog: pytest.LogCaptureFixture) -> None:
    app, broker = memory_app()

    @app.task
    def count() -> int:
        return 1

    with working(app) as worker:
        assert count.enqueue().get(timeout=60) == 1
        broker.pause("queue:default")
        until(lambda: worker.worker._steering.paused == {"queue:default"}, "the worker's obedience")
        result = count.enqueue()
        broker.pause("schedule:nightly")
        until(lambda: len(worker.worker._steering.paused) == 2, "another look")
        assert "queue default is paused; let it go on with:  outwork resume --queue default" in caplog.messages
        assert "schedule nightly is paused; let it go on with:  outwork periodic resume nightly" in caplog.messages
        result.refresh()
        assert result.state is State.READY
        broker.resume("queue:default")
        assert result.get(timeout=60) == 1


def test_a_paused_task_is_held_and_the_others_of_its_queue_run() -> None:
    app, broker = memory_app()

    @app.task(name="shop.paused")
    def paused() -> int:
        return 2

    @app.task
    def other() -> int:
        return 1

    broker.pause("task:shop.paused")
    with working(app):
        held = paused.enqueue()
        assert other.enqueue().get(timeout=60) == 1
        until(lambda: broker.get([held.id])[0].state is State.HELD, "the held job")  # type: ignore[union-attr]
        broker.resume("task:shop.paused")
        assert (held.get(timeout=60), held.attempts) == (2, 1)


def test_a_running_job_is_cancelled_without_waiting_for_its_lease() -> None:
    app, broker = memory_app(lease=600.0)
    started = threading.Event()
    seen: list[bool] = []

    @app.task
    async def sleep() -> None:
        started.set()
        try:
            await asyncio.sleep(300)
        finally:
            seen.append(current_context().cancelled)

    with working(app):
        result = sleep.enqueue()
        assert started.wait(60)
        result.cancel()
        until(lambda: broker.get([result.id])[0].state is State.CANCELLED, "the end")  # type: ignore[union-attr]
    assert seen == [True]


def test_a_task_says_how_far_it_is() -> None:
    app, _ = memory_app()
    go_on = threading.Event()

    @app.task(takes_context=True)
    def climb(context: TaskContext) -> None:
        context.progress(1, 3, "first step")
        context.log("it is steep")
        go_on.wait(20)
        context.progress(3)

    with working(app):
        result = climb.enqueue()
        until(lambda: result.progress() is not None, "a word")
        said = result.progress()
        assert said is not None
        assert (said.done, said.total, said.message, said.fraction) == (1, 3, "first step", 1 / 3)
        assert [line.text for line in said.log] == ["it is steep"]
        go_on.set()
        result.get(timeout=60)
        last = result.progress()
    assert last is not None
    assert (last.done, last.total, last.message) == (3, 3, "first step")


def test_a_child_process_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    app = chores.app
    app.override({"broker_url": "memory:"})
    try:
        with working(app, children=1, options=WorkerOptions(targets=("support.chores",))):
            result = chores.count_up.enqueue(4)
            assert result.get(timeout=60) == 4
            said = result.progress()
    finally:
        app.close()
    assert said is not None
    assert (said.done, said.total) == (4, 4)


def test_updates_end_with_the_job() -> None:
    app, _ = memory_app()

    @app.task(takes_context=True)
    def climb(context: TaskContext) -> None:
        context.progress(1, 1)

    async def follow() -> list[Progress]:
        result = await climb.aenqueue()
        return [said async for said in result.updates(every=0.02)]

    with working(app):
        heard = asyncio.run(asyncio.wait_for(follow(), 20))
    assert [said.done for said in heard] == [1]


def test_a_task_that_is_called_directly_may_speak_too() -> None:
    app, _ = memory_app()

    @app.task(takes_context=True)
    def climb(context: TaskContext) -> str:
        context.progress(1, 2)
        context.log("alone")
        return json.dumps(context.cancelled)

    assert climb() == "false"


def test_a_long_log_keeps_its_end() -> None:
    progress = Progress()
    for number in range(250):
        progress = progress.with_line(f"line {number}" + "x" * 1000, 1.0)
    assert len(progress.log) == 100
    assert progress.log[-1].text.startswith("line 249x")
    assert len(progress.log[-1].text) == 500
