"""A worker that gives jobs what those before them returned, and a store that fails it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from outwork import Outwork, Retry, State, TaskContext, chain, group
from outwork.brokers.memory import MemoryBroker
from outwork.errors import BrokerUnavailable
from outwork.events import AttemptFailed, Event, JobFailed
from outwork.job import Record
from support.inside import working
from support.waiting import until


class Archive(MemoryBroker):
    """A broker whose worker finds the store as `on_look` has it. (Tests look at the records themselves.)"""

    def __init__(self) -> None:
        super().__init__("memory:")
        self.on_look: Callable[[], None] = lambda: None
        self.looks: list[str] = []

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        if threading.current_thread() is not threading.main_thread():
            self.looks.append(threading.current_thread().name)
            self.on_look()
        return super().get(ids)


@pytest.fixture
def broker() -> Archive:
    return Archive()


@pytest.fixture
def app(broker: Archive) -> Outwork:
    return Outwork(broker=broker)


def times(error: Exception, number: int) -> Callable[[], None]:
    """Raise so often."""
    left = [error] * number

    def look() -> None:
        if left:
            raise left.pop()

    return look


@pytest.mark.parametrize("is_async", [False, True])
def test_a_job_is_given_back_while_the_store_is_away(
    app: Outwork, broker: Archive, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_async: bool
) -> None:
    monkeypatch.setattr("outwork.attempt.STORE_PAUSE", 0.01)
    broker.on_look = times(BrokerUnavailable("the cable is out"), 3)

    @app.task
    def one() -> int:
        return 1

    if is_async:

        @app.task(takes_context=True, retry=None)
        async def more(context: TaskContext, x: int) -> list[int]:
            return [x, context.attempt]
    else:

        @app.task(takes_context=True, retry=None)
        def more(context: TaskContext, x: int) -> list[int]:
            return [x, context.attempt]

    with working(app):
        result = chain(one, more).enqueue()
        assert result.get(30) == [1, 1]
    assert len(broker.looks) >= 4
    assert not any("loop" in name for name in broker.looks), "the event loop is not blocked"
    assert caplog.text.count("the store does not say how those before it ended: OW107 the cable is out") == 3


def test_any_other_error_of_the_store_fails_the_attempt(app: Outwork, broker: Archive) -> None:
    broker.on_look = times(RuntimeError("a bug"), 1)

    @app.task
    def one() -> int:
        return 1

    @app.task(retry=Retry(max_attempts=2, delay=0.01))
    def more(x: int) -> int:
        return x + 1

    with working(app):
        result = chain(one, more).enqueue()
        assert result.get(30) == 2
    result.refresh()
    assert [error.message for error in result.errors] == ["a bug"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_worker_that_stops_meanwhile_gives_the_job_back(app: Outwork, broker: Archive, is_async: bool) -> None:
    looking, go = threading.Event(), threading.Event()

    def look() -> None:
        looking.set()
        go.wait(30)

    broker.on_look = look

    @app.task
    def one() -> int:
        return 1

    if is_async:

        @app.task
        async def more(x: int) -> int:
            return x + 1
    else:

        @app.task
        def more(x: int) -> int:
            return x + 1

    with working(app) as inside:
        result = chain(one, more).enqueue()
        assert looking.wait(30)
        inside.worker.stop(hurry=True)
        until(lambda: (r := broker.get([result.id])[0]) and r.state is State.READY, "the job given back")
        go.set()
        inside.join()
        result.refresh()
        assert (result.state, result.attempts) == (State.READY, 0)
    broker.on_look = lambda: None
    with working(app):
        assert result.get(30) == 2


def test_every_attempt_takes_the_results(app: Outwork) -> None:
    taken: list[list[int]] = []

    @app.task
    def one(x: int) -> int:
        return x

    @app.task(retry=Retry(max_attempts=3, delay=0.01))
    def add(numbers: list[int]) -> int:
        taken.append(numbers)
        if len(taken) < 3:
            raise OSError("again")
        return sum(numbers)

    with working(app):
        assert group(one.bind(n) for n in range(3)).then(add).enqueue().get(30) == 3
    assert taken == [[0, 1, 2]] * 3


def test_results_may_be_larger_than_a_payload(broker: Archive) -> None:
    app = Outwork(broker=broker, max_payload=200)

    @app.task
    def page() -> str:
        return "x" * 1000

    @app.task
    def length(pages: list[str]) -> int:
        return sum(map(len, pages))

    with working(app):
        assert group([page] * 1200).then(length).enqueue().get(30) == 1_200_000


def test_a_job_that_is_not_called_is_told_of_as_failed(app: Outwork) -> None:
    heard: list[Event] = []
    app.hooks.on_event(heard.append)

    @app.task(retry=None)
    def wrong() -> int:
        raise ValueError("wrong")

    @app.task
    def more(x: int) -> int:
        return x + 1

    with working(app):
        result = chain(wrong, more).enqueue()
        until(lambda: app.get_result(result.id).is_finished, "the end of the chain")
    told = [type(one) for one in heard if getattr(one, "job_id", "") == result.id]
    assert told[-2:] == [AttemptFailed, JobFailed]
    assert "File" not in app.get_result(result.id).errors[-1], "frames of ours say nothing about it"


def test_a_job_without_anything_to_take_asks_for_nothing(app: Outwork, broker: Archive) -> None:
    @app.task
    def one() -> int:
        return 1

    with working(app):
        result = one.enqueue()
        until(lambda: broker.get([result.id])[0], "the record")
        until(lambda: (r := broker.get([result.id])[0]) and r.state.finished, "the end")
    assert broker.looks == []
