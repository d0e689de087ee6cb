"""A worker and a broker that fails it, jobs that cannot be run, leases that are lost."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from pathlib import Path

import msgspec
import pytest

from outwork import Retry, TaskFailed
from outwork.brokers.base import Extended, Settlement, Share
from outwork.brokers.memory import MemoryBroker
from outwork.ids import new_claim_id, new_job_id
from outwork.job import Answer, Job, Release, State
from outwork.worker.keeper import LifeLock, is_dead
from outwork.worker.pipeline import Exchange
from outwork.worker.plan import Plan
from outwork.worker.worker import Worker
from support.inside import memory_app, working
from support.waiting import until


def stolen(broker: MemoryBroker) -> None:
    """Another worker takes the running jobs, as if their leases had run out."""
    broker.clock_offset += broker.terms.lease + 1
    broker.tend(None, rescue=True)


def test_an_outage_keeps_outcomes() -> None:
    """What ends while the broker is away is settled when it is back, and nothing runs twice."""
    app, broker = memory_app()
    ran: list[int] = []
    go = threading.Event()

    @app.task
    def work(number: int) -> int:
        ran.append(number)
        go.wait(30)
        return number

    results = app.enqueue_many(work.bind(number) for number in range(8))
    with working(app, concurrency=8):
        until(lambda: len(ran) == 8, "all at work")
        broker.away = True
        go.set()
        before = len(broker.exchanges)
        until(lambda: len(broker.exchanges) > before + 2, "a few vain attempts")
        assert all(record and record.state is State.RUNNING for record in broker.get([r.id for r in results]))
        broker.away = False
        assert [result.get(timeout=60) for result in results] == list(range(8))
    assert len(ran) == 8
    assert set(broker.answers) == {Answer.DONE}


def test_an_outage_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    app, broker = memory_app()

    @app.task
    def tiny() -> None:
        return None

    broker.away = True
    with caplog.at_level(logging.INFO, "outwork.worker"), working(app):
        until(lambda: len(broker.exchanges) >= 5, "a few vain attempts")
        assert len([r for r in caplog.records if "cable is out" in r.message]) == 1
        broker.away = False
        tiny.enqueue().get(timeout=60)
        until(lambda: "connected again" in caplog.text, "the good news")


def test_a_lost_reply_is_asked_for_again_with_the_same_claim() -> None:
    app, broker = memory_app()
    ran: list[int] = []

    @app.task
    def work(number: int) -> int:
        ran.append(number)
        return number

    with working(app):
        for number in range(10):
            broker.lost_replies = 2
            assert work.enqueue(number).get(timeout=60) == number
        until(lambda: broker.lost_replies == 0, "all replies lost")
        assert work.enqueue(10).get(timeout=60) == 10
    assert ran == list(range(11))
    assert Answer.STALE not in broker.answers
    repeated = [claim_id for claim_id, _, _ in broker.exchanges]
    assert len(repeated) > len(set(repeated))


def test_a_worker_starts_without_its_broker() -> None:
    app, broker = memory_app()

    @app.task
    def tiny() -> str:
        return "ran"

    broker.away = True
    with working(app):
        until(lambda: len(broker.exchanges) >= 2, "a few vain attempts")
        broker.away = False
        assert tiny.enqueue().get(timeout=60) == "ran"


def test_a_broker_that_is_away_does_not_keep_a_worker_from_stopping(caplog: pytest.LogCaptureFixture) -> None:
    app, broker = memory_app()
    started, go = threading.Event(), threading.Event()

    @app.task
    def work() -> None:
        started.set()
        go.wait(30)

    with working(app, grace=0.2) as inside:
        work.enqueue()
        assert started.wait(60)
        broker.away = True
        go.set()
        inside.stop()
    assert "could not be settled" in caplog.text


def test_a_stale_outcome_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    app, broker = memory_app()
    go = threading.Event()
    starts: list[str] = []

    @app.task
    def work() -> str:
        starts.append("")
        if len(starts) == 1:
            go.wait(30)
            return "too late"
        return "in time"

    with working(app, concurrency=2):
        result = work.enqueue()
        until(lambda: len(starts) == 1, "its start")
        stolen(broker)
        assert result.get(timeout=60) == "in time"
        go.set()
        until(lambda: Answer.STALE in broker.answers, "the stale outcome")
        result.refresh()
        assert result.return_value == "in time"
        until(lambda: "its lease was lost" in caplog.text, "a word about it")


def test_a_lease_lost_by_an_older_claim_does_not_harm_the_newer_one() -> None:
    """The keeper's answer speaks of a claim that was given back meanwhile; the worker holds the job under a new one."""
    app, _ = memory_app()

    @app.task
    def work() -> None:
        return None

    worker = Worker(app, Plan())
    job = Job(v=1, id=new_job_id(), task=work.name, args=msgspec.Raw(b"{}"))
    app.broker.enqueue([job])
    worker.slots.free = 0  # nothing starts
    old, new = new_claim_id(), new_claim_id()

    def claim(claim_id: str) -> None:
        exchange = Exchange(claim_id, [], [Share("default", 1)], 1, 1, [])
        worker._pipeline.begin(exchange)
        exchange.carry_out(app.broker, worker.id)
        worker._land([exchange])

    claim(old)
    claims = worker._claims()
    app.broker.exchange(new_claim_id(), [Settlement(job.id, old, Release())], [], 0, 0, worker.id)
    claim(new)
    worker._on_extended(0.0, claims, Extended(frozenset({job.id}), frozenset()))
    assert worker._hand[job.id].claimed.claim_id == new
    assert worker._hand[job.id].stop_reason is None
    worker._life.release()


def test_an_unknown_task_is_given_back_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    app, broker = memory_app()
    job = Job(v=1, id=new_job_id(), task="of.another.version", args=msgspec.Raw(b"{}"))
    broker.enqueue([job])
    with working(app):
        until(lambda: (record := broker.get([job.id])[0]) and record.misses == 1, "the giving back")
    [record] = broker.get([job.id])
    assert record
    assert (record.state, record.attempts) == (State.SCHEDULED, 0)
    assert 25 < record.due - broker.now() <= 30
    assert f"OW102 job {job.id} is of a task that this worker does not know, of.another.version: " in caplog.text


def test_what_cannot_be_decoded_ends_failed_and_harms_nobody() -> None:
    app, broker = memory_app()

    @app.task
    def work(number: int) -> int:
        return number

    wrong = Job(v=1, id=new_job_id(), task=work.name, args=msgspec.Raw(b'{"number": "one"}'))
    newer = Job(v=99, id=new_job_id(), task=work.name, args=msgspec.Raw(b"{}"))
    garbage = Job(v=1, id=new_job_id(), task=work.name, args=msgspec.Raw(b'{"number": 1}'))
    broker.enqueue([wrong, newer, garbage])
    broker._shelf.records[garbage.id] = msgspec.structs.replace(broker._shelf.records[garbage.id], body=b"\xff\x00")
    with working(app) as inside:
        assert work.enqueue(7).get(timeout=60) == 7
        until(lambda: inside.worker.failed == 3, "the end of all")
    for record in broker.get([wrong.id, newer.id, garbage.id]):
        assert record
        assert record.state is State.FAILED
        assert record.errors[-1].exception == "outwork.errors.Undecodable"
        assert record.failures == 1


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
def test_nothing_that_a_task_raises_ends_the_worker(error: BaseException, is_async: bool) -> None:
    app, _ = memory_app()

    @app.task(retry=None)
    def wild() -> None:
        raise error

    @app.task(retry=None)
    async def awild() -> None:
        raise error

    @app.task
    async def fine() -> str:
        return "fine"

    with working(app):
        with pytest.raises(TaskFailed, match=type(error).__name__):
            (awild if is_async else wild).enqueue().get(timeout=60)
        assert fine.enqueue().get(timeout=60) == "fine"


class Broken:
    """Looks like a model, and cannot be dumped."""

    def model_dump(self, mode: str) -> None:
        raise RuntimeError("dumping fails")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_result_that_cannot_be_encoded_ends_failed_at_once(is_async: bool) -> None:
    app, _ = memory_app()
    calls: list[object] = []

    @app.task
    def odd(value: int) -> object:
        calls.append(value)
        return [threading.Lock(), Broken(), float("nan")][value]

    @app.task
    async def aodd(value: int) -> object:
        calls.append(value)
        return [threading.Lock(), Broken(), float("nan")][value]

    with working(app) as inside:
        for value in range(3):
            with pytest.raises(TaskFailed, match="ResultNotSerializable"):
                (aodd if is_async else odd).enqueue(value).get(timeout=60)
        until(lambda: inside.worker.slots.free == inside.worker.slots.total, "all slots free")
    assert calls == [0, 1, 2]


def test_at_most_once_fails_when_its_worker_dies() -> None:
    app, broker = memory_app()
    go = threading.Event()
    starts: list[int] = []

    @app.task(delivery="at_most_once")
    def once() -> None:
        starts.append(1)
        go.wait(30)

    with working(app):
        result = once.enqueue()
        until(lambda: starts, "its start")
        stolen(broker)
        with pytest.raises(TaskFailed, match="worker died"):
            result.get(timeout=60)
        go.set()
    assert starts == [1]


def test_at_most_once_is_not_retried() -> None:
    app, _ = memory_app()
    starts: list[int] = []

    @app.task(delivery="at_most_once")
    def once() -> None:
        starts.append(1)
        raise OSError("no")

    with working(app), pytest.raises(TaskFailed):
        once.enqueue().get(timeout=60)
    assert starts == [1]


def test_a_job_that_waited_too_long_is_not_started() -> None:
    app, _ = memory_app(lease=1.0)
    starts: list[int] = []

    @app.task
    def work() -> None:
        starts.append(1)

    result = work.using(expires=0.1).enqueue()
    assert not threading.Event().wait(0.2)
    with working(app), pytest.raises(TaskFailed, match="Expired"):
        result.get(timeout=60)
    assert starts == []


def test_retries_run_with_their_history() -> None:
    app, _ = memory_app()

    @app.task(retry=Retry(max_attempts=3, delay=0.01))
    def flaky(names: list[str]) -> None:
        raise ValueError("still " + names[0])

    with working(app):
        result = flaky.enqueue(["broken"])
        with pytest.raises(TaskFailed, match=r"failed after 3 attempts: builtins.ValueError: still broken") as caught:
            result.get(timeout=60)
    assert [error.attempt for error in result.errors] == [1, 2, 3]
    assert len(caught.value.failures) == 3
    assert "raise ValueError" in result.errors[0].traceback
    assert result.errors[0].traceback.count("File ") == 1, "our own frames are left out"


def test_a_worker_that_lives_is_not_taken_for_dead() -> None:
    lock = LifeLock(f"test-{os.getpid()}-{new_claim_id()[:8]}")
    try:
        assert not is_dead(Path(lock.path))
    finally:
        lock.release()
    assert not is_dead(Path(lock.path)), "a file that is gone says nothing"


def test_no_payload_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app, _ = memory_app()

    @app.task(retry=None)
    def secretive(password: str) -> str:
        raise ValueError("no") if password.endswith("!") else SystemExit(1)

    with caplog.at_level(logging.DEBUG), working(app):
        for word in ("canary-7f3a", "canary-7f3a!"):
            with pytest.raises(TaskFailed):
                secretive.enqueue(word).get(timeout=60)
    assert "canary-7f3a" not in caplog.text


def test_a_result_that_nobody_wants_is_not_kept() -> None:
    app, broker = memory_app()

    @app.task(keep_result=0)
    def tiny() -> str:
        return "not kept"

    with working(app):
        result = tiny.enqueue()
        until(lambda: (record := broker.get([result.id])[0]) and record.state is State.SUCCESSFUL, "its end")
    [record] = broker.get([result.id])
    assert record
    assert record.result == b"null"
