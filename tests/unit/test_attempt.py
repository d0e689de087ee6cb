"""One attempt, from the claimed bytes to its outcome."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from outwork import GiveUp, Outwork, Retry, Snooze, TaskContext, TryAgain, codec, current_context
from outwork.attempt import UNKNOWN_DELAY, Attempt, begin
from outwork.brokers.base import Claimed
from outwork.errors import TimeLimitExceeded
from outwork.ids import new_claim_id
from outwork.job import MISSES_ALLOWED, Again, Cancelled, Dead, Done, Outcome, Release
from outwork.task import Task


def claimed_of(task: Task[..., Any], *args: Any, failures: int = 0, crashes: int = 0, misses: int = 0) -> Claimed:
    job = task.bind(*args).job()
    return Claimed(job.id, new_claim_id(), codec.encode_job(job), failures, crashes, misses)


def run(task: Task[..., Any], *args: Any, failures: int = 0, crashes: int = 0) -> Outcome:
    claimed = claimed_of(task, *args, failures=failures, crashes=crashes)
    begun = begin(claimed, {task.name: task}, "worker-1")
    assert isinstance(begun, Attempt)
    return asyncio.run(begun.arun()) if task.is_async else begun.run()


def raising(error: Callable[[], BaseException], **options: Any) -> Task[[], None]:
    app = Outwork()

    def fn() -> None:
        raise error()

    declared: Task[[], None] = app.task(**options)(fn)
    return declared


def test_what_it_returns_is_kept() -> None:
    app = Outwork()

    @app.task(keep_result=60)
    def double(number: int) -> int:
        return number * 2

    @app.task(keep_result=0)
    async def adouble(number: int) -> int:
        return number * 2

    assert run(double, 21) == Done(b"42", 60.0)
    assert run(adouble, 21) == Done(b"null", 0.0)


def test_an_error_is_tried_again_with_its_history() -> None:
    outcome = run(
        raising(lambda: ValueError("no"), retry=Retry(delay=8, factor=1, jitter=False)), failures=1, crashes=1
    )
    assert isinstance(outcome, Again)
    assert (outcome.delay, outcome.counted) == (8.0, True)
    [failure] = outcome.failures
    assert (failure.exception, failure.message, failure.attempt) == ("builtins.ValueError", "no", 3)
    assert failure.worker == "worker-1"
    assert "raise error()" in failure.traceback
    assert "outwork/attempt.py" not in failure.traceback


def test_the_last_attempt_is_the_end() -> None:
    outcome = run(raising(lambda: ValueError("no"), retry=Retry(max_attempts=3)), failures=2)
    assert isinstance(outcome, Dead)
    assert isinstance(run(raising(lambda: ValueError("no"), retry=None)), Dead)


def test_crashes_are_not_failed_attempts() -> None:
    assert isinstance(run(raising(lambda: ValueError("no"), retry=Retry(max_attempts=2)), crashes=3), Again)


@pytest.mark.parametrize("after", [5, timedelta(seconds=5), "5s"])
def test_a_task_asks_for_another_try(after: Any) -> None:
    outcome = run(raising(lambda: TryAgain("busy", after=after), retry=Retry(on=(OSError,))))
    assert isinstance(outcome, Again)
    assert (outcome.delay, outcome.counted) == (5.0, True)
    assert outcome.failures[0].message.endswith("busy")


def test_another_try_without_a_time_follows_the_policy() -> None:
    outcome = run(raising(TryAgain, retry=Retry(delay=3, jitter=False)))
    assert isinstance(outcome, Again)
    assert outcome.delay == 3.0


def test_another_try_needs_an_attempt() -> None:
    assert isinstance(run(raising(TryAgain, retry=None)), Dead)
    assert isinstance(run(raising(lambda: TryAgain(after=5), retry=Retry(max_attempts=2)), failures=1), Dead)


def test_a_snooze_is_not_counted() -> None:
    outcome = run(raising(lambda: Snooze(timedelta(minutes=1)), retry=None), failures=5)
    assert outcome == Again(60.0, (), counted=False)


@pytest.mark.parametrize("error", [lambda: Snooze("soon"), lambda: Snooze(-1), lambda: TryAgain(after=float("nan"))])
def test_a_wrong_time_ends_it(error: Callable[[], BaseException]) -> None:
    outcome = run(raising(error))
    assert isinstance(outcome, Dead)
    assert "length of time" in outcome.failures[-1].message


def test_control_works_at_any_depth() -> None:
    app = Outwork()

    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        raise GiveUp("for good")

    @app.task
    def fn() -> None:
        deep(10)

    outcome = run(fn)
    assert isinstance(outcome, Dead)
    assert "for good" in outcome.failures[-1].message


@pytest.mark.parametrize(
    "error", [SystemExit(2), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), BaseException()]
)
@pytest.mark.parametrize("is_async", [False, True])
def test_whatever_it_raises_becomes_an_outcome(error: BaseException, is_async: bool) -> None:
    app = Outwork()

    @app.task
    def fn() -> None:
        raise error

    @app.task
    async def afn() -> None:
        raise error

    outcome = run(afn if is_async else fn)
    assert isinstance(outcome, Again)
    assert outcome.failures[0].exception.endswith(type(error).__name__)


class Odd(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("not even this")

    __repr__ = __str__


def test_an_error_that_cannot_be_shown() -> None:
    outcome = run(raising(Odd, retry=None))
    assert isinstance(outcome, Dead)
    assert "RuntimeError" in outcome.failures[0].message


def test_a_long_error_is_shortened() -> None:
    outcome = run(raising(lambda: ValueError("x" * 100_000 + "\ud800"), retry=None))
    assert isinstance(outcome, Dead)
    assert len(outcome.failures[0].message) < 2_200
    assert len(outcome.failures[0].traceback) < 17_000
    assert codec.decode_failures(codec.encode_failures(outcome.failures)) == outcome.failures


def test_a_recursion_without_end_is_a_failure() -> None:
    app = Outwork()

    @app.task(retry=None)
    def fn() -> None:
        fn()

    outcome = run(fn)
    assert isinstance(outcome, Dead)
    assert outcome.failures[0].exception == "builtins.RecursionError"


@pytest.mark.parametrize("value", [threading.Lock(), float("nan"), object()])
def test_what_cannot_be_returned_is_not_tried_again(value: Any) -> None:
    app = Outwork()

    @app.task
    def fn() -> Any:
        return value

    outcome = run(fn)
    assert isinstance(outcome, Dead)
    assert outcome.failures[0].exception == "outwork.errors.ResultNotSerializable"


def test_an_unknown_task_is_given_back_and_after_an_hour_failed() -> None:
    app = Outwork()

    @app.task
    def fn() -> None: ...

    assert begin(claimed_of(fn), {}, "w") == Release(delay=UNKNOWN_DELAY, missed=True)
    assert begin(claimed_of(fn, misses=MISSES_ALLOWED - 2), {}, "w") == Release(delay=UNKNOWN_DELAY, missed=True)
    last = begin(claimed_of(fn, misses=MISSES_ALLOWED - 1), {}, "w")
    assert isinstance(last, Dead)
    assert "no worker knew the task" in last.failures[0].message
    assert UNKNOWN_DELAY * MISSES_ALLOWED == 3600


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"[]", b'{"v": 1}', b'{"v": 2, "id": "x", "task": "t", "args": {}}']
)
def test_a_body_that_cannot_be_decoded_ends_failed(body: bytes) -> None:
    outcome = begin(Claimed("id", new_claim_id(), body), {}, "w")
    assert isinstance(outcome, Dead)
    assert outcome.failures[0].exception == "outwork.errors.Undecodable"


@pytest.mark.parametrize("is_async", [False, True])
def test_arguments_that_no_longer_fit_end_failed(is_async: bool) -> None:
    app = Outwork()

    @app.task(name="fn")
    def old(count: int) -> None: ...

    other = Outwork()

    @other.task(name="fn")
    def new(count: str) -> None: ...

    attempt = begin(claimed_of(old, 1), {"fn": new}, "w")
    assert isinstance(attempt, Attempt)
    outcome = asyncio.run(attempt.arun()) if is_async else attempt.run()
    assert isinstance(outcome, Dead)
    assert "do not fit fn" in outcome.failures[0].message


def test_a_newer_envelope_field_is_ignored() -> None:
    app = Outwork()

    @app.task
    def fn() -> None: ...

    claimed = claimed_of(fn)
    wider = msgspec.json.encode(msgspec.json.decode(claimed.body) | {"colour": "blue"})
    assert isinstance(begin(claimed._replace(body=wider), {fn.name: fn}, "w"), Attempt)


@pytest.mark.parametrize("is_async", [False, True])
def test_the_context(is_async: bool) -> None:
    app = Outwork()
    seen: list[TaskContext] = []

    @app.task(takes_context=True)
    def fn(context: TaskContext, x: int) -> None:
        assert current_context() is context
        seen.append(context)

    @app.task(takes_context=True)
    async def afn(context: TaskContext, x: int) -> None:
        await asyncio.sleep(0)
        assert current_context() is context
        seen.append(context)

    assert isinstance(run(afn if is_async else fn, 1, failures=2, crashes=1), Done)
    assert (seen[0].attempt, seen[0].crashes, seen[0].failed_attempts) == (4, 1, 2)
    with pytest.raises(LookupError, match="no job is running here"):
        current_context()


@pytest.mark.parametrize(
    ("reason", "at_most_once", "expected"),
    [
        (Cancelled(), False, Cancelled),
        (Release(), False, Release),
        (Release(), True, Dead),
        (Cancelled(), True, Cancelled),
        (TimeLimitExceeded("too long"), False, Again),
        (TimeLimitExceeded("too long"), True, Dead),
    ],
)
def test_who_stops_it_says_why(reason: Any, at_most_once: bool, expected: type) -> None:
    app = Outwork()

    @app.task(delivery="at_most_once" if at_most_once else "at_least_once")
    def fn() -> None: ...

    attempt = begin(claimed_of(fn), {fn.name: fn}, "w")
    assert isinstance(attempt, Attempt)
    attempt.stop_reason = reason
    outcome = attempt.failed(KeyboardInterrupt())
    assert isinstance(outcome, expected)
    if isinstance(reason, BaseException):
        assert isinstance(outcome, Again | Dead)
        assert "too long" in outcome.failures[0].message


def test_an_attempt_has_its_own_context_variables() -> None:
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="outside")
    app = Outwork()

    @app.task
    def fn() -> None:
        variable.set("inside")

    assert isinstance(run(fn), Done)
    assert variable.get() == "outside"
