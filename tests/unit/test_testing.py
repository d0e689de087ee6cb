"""What `outwork.testing` gives to the tests of applications."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from outwork import Outwork, Retry, Snooze, State, TaskContext, TryAgain
from outwork.errors import JobNotFound, ResultTimeout, Unsupported, WrongArguments
from outwork.testing import LocalWorker, Recorder, inline, local_worker, recording


class Shop:
    """An application whose own broker must not be touched by a test."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "real.db"
        self.app = Outwork(f"sqlite:///{self.file}")
        self.sent: list[str] = []
        self.fails = 0
        app = self.app

        @app.task(queue_name="mail", name="shop.send")
        def send(to: str, copies: int = 1, at: datetime | None = None) -> str:
            if self.fails:
                self.fails -= 1
                raise OSError("no route")
            self.sent.append(to)
            return f"{copies} to {to}"

        @app.task(name="shop.asend")
        async def asend(to: str) -> str:
            await asyncio.sleep(0)
            self.sent.append(f"{to} by {threading.current_thread().name}")
            return to

        @app.task(name="shop.chain")
        def chain(left: int) -> None:
            self.sent.append(str(left))
            if left:
                chain.enqueue(left - 1)

        self.send, self.asend, self.chain = send, asend, chain


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


# ---- recording ------------------------------------------------------------------------------------------------------


def test_recording_runs_nothing(shop: Shop) -> None:
    with recording(shop.app) as recorder:
        result = shop.send.using(priority=5, run_after=60).enqueue("ada", copies=2)
        [job] = recorder.jobs
        with pytest.raises(ResultTimeout):
            result.get(timeout=0.01)
        assert (job.id, job.task_name, job.queue_name, job.priority) == (result.id, "shop.send", "mail", 5)
        assert job.arguments == {"to": "ada", "copies": 2, "at": None}
        assert (job.run_after, job.carried, job.state, job.attempts, job.errors) == (60.0, {}, State.SCHEDULED, 0, ())
        recorder.clear()
        assert recorder.jobs == []
    assert shop.sent == []


def test_what_was_enqueued_can_be_asserted(shop: Shop) -> None:
    with recording(shop.app) as recorder:
        recorder.assert_not_enqueued()
        recorder.assert_not_enqueued(shop.send)
        at = datetime.now(UTC)
        first = shop.send.enqueue("ada")
        asyncio.run(shop.send.aenqueue(to="bob", copies=3, at=at))
        shop.app.enqueue_many(shop.send.bind(f"m{number}") for number in range(3))
        assert recorder.assert_enqueued(shop.send, "ada", 1).id == first.id
        assert recorder.assert_enqueued(shop.send, copies=3, to="bob", at=at).arguments["at"] == at
        assert recorder.assert_enqueued(shop.send).arguments["to"] == "m2", "the newest"
        assert len(recorder.find(shop.send)) == 5
        recorder.assert_not_enqueued(shop.send, "eve")
        recorder.assert_not_enqueued(shop.asend)


def test_options_count_where_they_were_changed(shop: Shop) -> None:
    with recording(shop.app) as recorder:
        later = shop.send.using(queue_name="low", priority=3, run_after=timedelta(hours=1), expires=60)
        later.enqueue("ada")
        recorder.assert_enqueued(shop.send, "ada")
        recorder.assert_enqueued(later, "ada")
        recorder.assert_enqueued(shop.send.using(queue_name="low"), "ada")
        recorder.assert_not_enqueued(shop.send.using(queue_name="high"), "ada")
        recorder.assert_not_enqueued(shop.send.using(run_after=60), "ada")


def test_a_failed_assertion_says_what_there_was(shop: Shop) -> None:
    with recording(shop.app) as recorder:
        with pytest.raises(AssertionError, match=r"^shop\.send\('eve', copies=2\) was not enqueued\. Nothing was$"):
            recorder.assert_enqueued(shop.send, "eve", copies=2)
        shop.send.using(priority=2, run_after=60).enqueue("ada")
        with pytest.raises(AssertionError) as caught:
            recorder.assert_enqueued(shop.asend)
        line = "shop.send(to='ada', copies=1, at=None)  queue=mail priority=2 run_after=60  scheduled"
        assert str(caught.value) == f"shop.asend(...) was not enqueued. Enqueued were:\n  {line}"
        with pytest.raises(AssertionError, match=r"shop\.send\('ada'\) was enqueued: shop\.send\(to='ada', copies=1"):
            recorder.assert_not_enqueued(shop.send, "ada")
        with pytest.raises(AssertionError, match="nothing should have been enqueued"):
            recorder.assert_not_enqueued()
        shop.app.enqueue_many(shop.send.bind(str(number)) for number in range(30))
        with pytest.raises(AssertionError, match="and 11 before"):
            recorder.assert_enqueued(shop.asend)
        with pytest.raises(WrongArguments):
            recorder.assert_enqueued(shop.send, "ada", 1, None, "more")  # type: ignore[call-overload]


def test_a_task_of_another_application_is_a_mistake(shop: Shop) -> None:
    @Outwork().task
    def foreign() -> None: ...

    with recording(shop.app) as recorder, pytest.raises(AssertionError, match="is no task of this application"):
        recorder.assert_enqueued(foreign)


# ---- inline ---------------------------------------------------------------------------------------------------------


def test_inline_runs_in_the_caller(shop: Shop) -> None:
    with inline(shop.app) as jobs:
        assert shop.send.enqueue("ada").return_value == "1 to ada"
        assert jobs.assert_enqueued(shop.send, "ada").state is State.SUCCESSFUL
        shop.fails = 1
        assert shop.send.enqueue("bob").state is State.FAILED
        assert jobs.jobs[-1].errors == ("no route",)
        with pytest.raises(Unsupported):
            shop.send.using(run_after=1).enqueue("eve")
    assert shop.sent == ["ada"]


# ---- a worker -------------------------------------------------------------------------------------------------------


def drain(worker: LocalWorker, kind: str, **options: Any) -> int:
    return worker.drain(**options) if kind == "sync" else asyncio.run(worker.adrain(**options))


Kind = Literal["sync", "async"]


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


def test_drain_runs_what_is_due_by_priority_and_what_that_enqueues(shop: Shop, kind: Kind) -> None:
    with local_worker(shop.app) as worker:
        results = [shop.send.enqueue("ada"), shop.send.using(priority=9).enqueue("bob")]
        shop.send.using(run_after=3600).enqueue("later")
        shop.chain.enqueue(2)
        assert shop.sent == []
        assert drain(worker, kind) == 5
        assert sorted(shop.sent) == ["0", "1", "2", "ada", "bob"]
        assert shop.sent.index("bob") < shop.sent.index("ada")
        assert [result.get(0) for result in results] == ["1 to ada", "1 to bob"]
        assert [job.state for job in worker.find(shop.send)][-1] is State.SCHEDULED
        assert drain(worker, kind) == 0


def test_drain_tries_failed_attempts_again_at_once(shop: Shop, kind: Kind) -> None:
    with local_worker(shop.app) as worker:
        shop.fails = 2
        result = shop.send.enqueue("ada")
        assert drain(worker, kind) == 3
        result.refresh()
        assert (result.state, result.attempts, len(result.errors)) == (State.SUCCESSFUL, 3, 2)


def test_a_job_that_fails_for_good_is_recorded_and_logged(
    shop: Shop, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    @shop.app.task(retry=Retry(max_attempts=2), name="shop.wrong")
    def wrong() -> None:
        raise ValueError("wrong")

    with local_worker(shop.app) as worker, caplog.at_level(logging.ERROR):
        wrong.enqueue()
        assert drain(worker, kind) == 2
        assert worker.jobs[0].state is State.FAILED
        assert worker.jobs[0].errors == ("wrong", "wrong")
    assert "ValueError: wrong" in caplog.text


def test_the_clock_moves_due_times_retries_and_expiry(shop: Shop, kind: Kind) -> None:
    seen: list[int] = []

    @shop.app.task(name="shop.hourly", takes_context=True)
    def hourly(context: TaskContext) -> None:
        seen.append(context.attempt)
        if context.attempt < 3:
            raise TryAgain(after=timedelta(hours=1))

    @shop.app.task(name="shop.snooze", takes_context=True)
    def snooze(context: TaskContext) -> None:
        if not seen:
            seen.append(0)
            raise Snooze(timedelta(hours=1))

    with local_worker(shop.app) as worker:
        hourly.enqueue()
        late = shop.send.using(expires=60).enqueue("too late")
        drain(worker, kind, retries=False, limit=2)
        assert drain(worker, kind, retries=False) == 0
        worker.clock.move(timedelta(minutes=59))
        assert drain(worker, kind, retries=False) == 0
        worker.clock.move(timedelta(minutes=1))
        assert drain(worker, kind, retries=False) == 1
        worker.clock.move(3600)
        assert drain(worker, kind, retries=False) == 1
        assert seen == [1, 2, 3]
        late.refresh()
        assert late.state is State.SUCCESSFUL

        expiring = shop.send.using(expires=60).enqueue("too late")
        worker.clock.move(61)
        assert drain(worker, kind) == 0
        expiring.refresh()
        assert expiring.state is State.FAILED

        seen.clear()
        snooze.enqueue()
        assert drain(worker, kind) == 1, "a snooze waits for its time"
        worker.clock.move_to(worker.clock.now() + timedelta(hours=1))
        assert drain(worker, kind) == 1


def test_the_clock_shows_a_time_and_goes_forward_only(shop: Shop) -> None:
    @shop.app.task(keep_result=3600, name="shop.brief")
    def brief() -> None: ...

    with local_worker(shop.app) as worker:
        clock = worker.clock
        clock.move(timedelta(days=400))
        assert timedelta(days=399) < clock.now() - datetime.now(UTC) < timedelta(days=401)
        moment = clock.now() + timedelta(hours=3)
        result = shop.send.using(run_after=moment).enqueue("ada")
        assert worker.drain() == 0
        clock.move_to(moment)
        assert worker.drain() == 1
        brief_result = brief.enqueue()
        worker.drain()
        clock.move(timedelta(days=200))
        worker.drain()
        with pytest.raises(JobNotFound):
            brief_result.refresh()
        result.refresh()
        with pytest.raises(ValueError, match="negative"):
            clock.move(-5)
        with pytest.raises(ValueError, match="negative"):
            clock.move_to(datetime.now(UTC))
        with pytest.raises(ValueError, match="time zone"):
            clock.move_to(datetime(2030, 1, 1))


def test_a_job_that_enqueues_itself_ends_the_drain(shop: Shop, kind: Kind) -> None:
    with local_worker(shop.app) as worker:
        shop.chain.enqueue(10_000)
        with pytest.raises(AssertionError, match=r"50 attempts were run.*: shop\.chain\(left=9950"):
            drain(worker, kind, limit=50)


def test_tasks_run_in_the_thread_of_the_test(shop: Shop) -> None:
    here = threading.current_thread().name

    async def in_a_loop(worker: LocalWorker) -> None:
        await shop.asend.aenqueue("loop")
        await worker.adrain()
        await shop.asend.aenqueue("beside")
        worker.drain()

    with local_worker(shop.app) as worker:
        shop.asend.enqueue("plain")
        worker.drain()
        asyncio.run(in_a_loop(worker))
    assert shop.sent[:2] == [f"plain by {here}", f"loop by {here}"]
    assert shop.sent[2].startswith("beside by outwork-immediate"), "a loop runs here already"


# ---- nothing is left behind -----------------------------------------------------------------------------------------


def test_the_applications_own_broker_is_neither_opened_nor_lost(shop: Shop) -> None:
    threads = set(threading.enumerate())
    for mode in (recording, inline, local_worker):
        with mode(shop.app):
            asyncio.run(shop.send.aenqueue("ada"))
            shop.app.close()
            shop.send.enqueue("after a close")
            shop.app.configure({})
            result = shop.send.enqueue("after being configured")
            with suppress(ResultTimeout):
                result.get(0.01)
        assert not shop.file.exists()
    assert set(threading.enumerate()) <= threads
    real = shop.app.broker
    with recording(shop.app) as outer:
        with inline(shop.app):
            shop.send.enqueue("inner")
        shop.send.enqueue("outer")
        assert [job.arguments["to"] for job in outer.jobs] == ["outer"]
    assert shop.app.broker is real
    shop.app.close()


def test_without_an_application_it_is_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Outwork()
    monkeypatch.setattr("outwork.app.default_app", app)
    for mode in (recording, inline, local_worker):
        with mode() as jobs:
            assert jobs.app is app
    assert isinstance(Recorder(app, jobs.broker).jobs, list)
