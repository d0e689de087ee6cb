"""Attempts that are stopped from outside: time limits, cancels, tasks that take no notice."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from pathlib import Path

import pytest

from outwork import TaskFailed
from outwork.job import State
from outwork.worker import limits
from outwork.worker.options import WorkerOptions
from support import chores
from support.inside import memory_app, working
from support.ledger import VARIABLE, Ledger
from support.waiting import until

TESTS = Path(__file__).parents[1]


def busy(seconds: float = 30) -> None:
    """Python code that can be stopped at any bytecode."""
    until_then = time.monotonic() + seconds
    while time.monotonic() < until_then:
        time.sleep(0.001)


def test_a_thread_is_stopped_at_its_time_limit() -> None:
    app, _ = memory_app()
    cleaned: list[str] = []

    @app.task(timeout=0.5, retry=None)
    def slow() -> None:
        try:
            busy()
        finally:
            cleaned.append("up")

    with working(app) as inside:
        result = slow.enqueue()
        with pytest.raises(TaskFailed, match=r"TimeLimitExceeded.*longer than its timeout of 0.5 s"):
            result.get(timeout=60)
        assert result.errors[0].exception_class_path == "outwork.errors.TimeLimitExceeded"
        assert "busy()" in result.errors[0].traceback
        assert cleaned == ["up"]
        assert slow.using(priority=1).enqueue().id
        until(lambda: inside.worker.failed == 2, "the same thread serves the next one")
    assert not inside.worker.slots.lost


def test_a_coroutine_is_stopped_at_its_time_limit() -> None:
    app, _ = memory_app()
    cleaned: list[str] = []

    @app.task(timeout=0.2, retry=None)
    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            cleaned.append("up")

    with working(app), pytest.raises(TaskFailed, match="TimeLimitExceeded"):
        slow.enqueue().get(timeout=60)
    assert cleaned == ["up"]


def test_a_child_is_killed_at_its_time_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "ledger"))
    ledger = Ledger(tmp_path / "ledger")
    chores.app.override({"broker_url": "memory:"})
    try:
        with working(chores.app, options=WorkerOptions(targets=("support.chores",))):
            result = chores.stubborn.enqueue("stubborn")
            with pytest.raises(TaskFailed, match=r"TimeLimitExceeded.*its child was killed"):
                result.get(timeout=60)
            chores.heavy.enqueue("next").get(timeout=60)
            long = chores.heavy.enqueue("cancelled", 60)
            until(lambda: ledger.count("S", "cancelled"), "its start")
            long.cancel()
            # the keeper tells of it when it renews the leases
    finally:
        chores.app.close()


def test_a_time_limit_is_retried_as_any_failure() -> None:
    app, _ = memory_app()
    starts: list[float] = []

    @app.task(timeout=0.7)
    def slow() -> str:
        starts.append(time.monotonic())
        if len(starts) == 1:
            busy()
        return "done"

    with working(app):
        result = slow.enqueue()
        assert result.get(timeout=60) == "done"
        assert result.attempts == 2


def test_what_ends_in_time_is_left_alone() -> None:
    app, _ = memory_app()

    @app.task(timeout=1)
    def quick(number: int) -> int:
        return number

    @app.task(timeout=1)
    async def aquick(number: int) -> int:
        return number

    with working(app, concurrency=4) as inside:
        end = time.monotonic() + 2.2
        number = 0
        while time.monotonic() < end:
            assert quick.enqueue(number).get(timeout=60) == number
            assert aquick.enqueue(number).get(timeout=60) == number
            number += 1
        assert inside.worker.failed == 0


def test_ended_attempts_are_not_remembered_until_their_time_limit() -> None:
    """A time limit of an hour must not keep an hour of jobs in memory."""
    app, _ = memory_app()

    @app.task(timeout=3600)
    def quick() -> None:
        return None

    with working(app) as inside:
        app.enqueue_many(quick.bind() for _ in range(6000))
        until(lambda: inside.worker.done == 6000, "the end of all")
        assert len(inside.worker._limits._heap) < 4000


def test_a_task_that_takes_no_notice_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is settled, its slot stays taken, the other jobs end in peace, and the process is to be recycled."""
    monkeypatch.setattr(limits, "PATIENCE", 0.3)
    app, broker = memory_app()
    go = threading.Event()
    other_started = threading.Event()

    @app.task(timeout=0.2, retry=None)
    def deaf() -> None:
        while not go.is_set():
            with contextlib.suppress(BaseException):
                go.wait(0.05)

    @app.task
    def other() -> str:
        other_started.set()
        go.wait(30)
        return "in peace"

    with working(app, concurrency=4, grace=0.1) as inside:
        slow = other.enqueue()
        other_started.wait(60)
        result = deaf.enqueue()
        with pytest.raises(TaskFailed, match="TimeLimitExceeded"):
            result.get(timeout=60)
        assert inside.worker.slots.lost == 1
        later = other.enqueue()
        assert not threading.Event().wait(0.5)
        assert not inside.ended, "it waits for the other job, longer than any grace period"
        go.set()
        assert slow.get(timeout=60) == "in peace"
        summary = inside.join()
    assert summary.recycle
    assert later.state is State.READY
    assert broker.get([later.id])[0].attempts == 0  # type: ignore[union-attr]


def test_a_worker_that_recycles_can_be_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first signal grants the grace period even then."""
    monkeypatch.setattr(limits, "PATIENCE", 0.2)
    app, _ = memory_app()
    go = threading.Event()
    finish = threading.Event()
    started = threading.Event()

    @app.task(timeout=0.1, retry=None)
    def deaf() -> None:
        while not go.is_set():
            with contextlib.suppress(BaseException):
                go.wait(0.05)

    @app.task
    def other() -> str:
        started.set()
        finish.wait(30)
        return "in peace"

    try:
        with working(app, concurrency=4, grace=20) as inside:
            slow = other.enqueue()
            started.wait(60)
            with pytest.raises(TaskFailed):
                deaf.enqueue().get(timeout=60)
            until(lambda: inside.worker._recycle, "the wish to be recycled")
            inside.worker.stop()
            assert not threading.Event().wait(0.3)
            assert not inside.ended
            finish.set()
            summary = inside.join()
        assert summary.stuck
        assert slow.get(timeout=60) == "in peace"
    finally:
        go.set()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_running_job_is_cancelled(is_async: bool) -> None:
    app, _ = memory_app(lease=0.6)
    started = threading.Event()
    cleaned = threading.Event()

    @app.task
    def slow() -> None:
        try:
            started.set()
            busy()
        finally:
            cleaned.set()

    @app.task
    async def aslow() -> None:
        try:
            started.set()
            await asyncio.sleep(30)
        finally:
            cleaned.set()

    with working(app):
        result = (aslow if is_async else slow).enqueue()
        assert started.wait(60)
        assert result.cancel() is State.RUNNING
        with pytest.raises(TaskFailed, match="was cancelled"):
            result.get(timeout=60)
        assert result.state is State.CANCELLED
        assert cleaned.wait(60)


def test_a_child_is_killed_by_a_cancel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "ledger"))
    ledger = Ledger(tmp_path / "ledger")
    chores.app.override({"broker_url": "memory:?lease=1"})
    try:
        with working(chores.app, options=WorkerOptions(targets=("support.chores",))):
            result = chores.heavy.enqueue("long", 60)
            until(lambda: ledger.count("S", "long"), "its start")
            result.cancel()
            with pytest.raises(TaskFailed, match="was cancelled"):
                result.get(timeout=60)
    finally:
        chores.app.close()


def test_a_cancel_of_a_waiting_job_needs_no_worker() -> None:
    app, _ = memory_app()

    @app.task
    def tiny() -> None:
        return None

    result = tiny.enqueue()
    assert result.cancel() is State.CANCELLED
    with working(app, drain=True) as inside:
        assert inside.join().done == 0
