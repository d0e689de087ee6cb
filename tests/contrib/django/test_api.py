"""Django's task API, on backends that need no database: what is refused, what a result says, what is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from kiosk import tasks
from kiosk.api import (
    LOGGER,
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultMismatch,
    TaskResultStatus,
    default_task_backend,
    task,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)

from outwork import Retry
from outwork.contrib.django import OutworkTask, options

Choose = Callable[..., Any]


@pytest.fixture(params=["DummyBackend", "ImmediateBackend", "ThreadPoolBackend", "DatabaseBackend"])
def backend(request: pytest.FixtureRequest, choose: Choose) -> Any:
    return choose(request.param)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", [-101, 101, 1.5, True, "high", None])
def test_a_priority_that_is_none(backend: Any, priority: Any) -> None:
    with pytest.raises(InvalidTask, match="whole number"):
        task(priority=priority)(tasks.plain)


@pytest.mark.parametrize("priority", [-100, -1, 0, 1, 100, 5.0])
def test_a_priority(backend: Any, priority: Any) -> None:
    assert task(priority=priority)(tasks.plain).priority == priority


def test_a_nested_function(backend: Any) -> None:
    def inside() -> None: ...

    with pytest.raises(InvalidTask, match="module level"):
        task(inside)
    with pytest.raises(InvalidTask, match="module level"):
        task(lambda: None)


def test_a_context_without_its_parameter(backend: Any) -> None:
    with pytest.raises(InvalidTask, match="context"):
        task(takes_context=True)(tasks.plain)


def test_a_naive_moment(choose: Choose) -> None:
    choose("DatabaseBackend")
    with pytest.raises(InvalidTask, match="aware datetime"):
        tasks.add.using(run_after=datetime(2030, 1, 1))
    with pytest.raises(InvalidTask, match="datetime, not a timedelta"):
        tasks.add.using(run_after=timedelta(1))


def test_an_unknown_queue(choose: Choose) -> None:
    choose("DatabaseBackend", queues=["default", "mail"])
    assert tasks.add.using(queue_name="mail").queue_name == "mail"
    with pytest.raises(InvalidTask, match="Queue 'post' is not valid for backend"):
        tasks.add.using(queue_name="post")


def test_a_queue_that_is_no_name(choose: Choose) -> None:
    choose("DatabaseBackend")
    with pytest.raises(InvalidTask, match="characters"):
        tasks.add.using(queue_name="two words")


def test_settings_that_changed_are_heeded_at_the_enqueue(choose: Choose) -> None:
    choose("DummyBackend", queues=["default"])
    with pytest.raises(InvalidTask, match="Queue 'mail'"):
        tasks.mail.enqueue("ada@example.com")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (datetime(2030, 1, 1, tzinfo=UTC), "isoformat"),
        (Decimal(1), "Unsupported type"),
        ({1, 2}, "Pass a list"),
        (object(), "Unsupported type"),
        (float("nan"), "NaN"),
        (float("inf"), "NaN"),
        (b"\xff\xfe", "Unsupported value"),
        ("\ud800", "surrogates"),
        (tasks.plain, "Code cannot be sent"),
        ({"deep": [{"inside": {3}}]}, "Unsupported type"),
    ],
)
def test_arguments_that_json_cannot_carry(backend: Any, wrong: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why) as caught:
        tasks.echo.enqueue(wrong)
    assert "Nothing was enqueued" in str(caught.value)
    with pytest.raises(TypeError, match=why):
        tasks.echo.enqueue(key=wrong)


def test_a_model_instance(backend: Any) -> None:
    with pytest.raises(TypeError, match="its pk"):
        tasks.echo.enqueue(tasks.Order(name="one"))


@pytest.mark.parametrize(
    ("args", "kwargs", "why"),
    [
        ((), {}, "missing"),
        ((1, 2, 3), {}, "too many"),
        ((1,), {"yy": 2}, "did you mean 'y'"),
        ((1,), {"x": 1}, "multiple"),
    ],
)
def test_arguments_that_do_not_fit(backend: Any, args: Any, kwargs: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        tasks.add.enqueue(*args, **kwargs)


def test_the_context_is_not_an_argument(backend: Any) -> None:
    with pytest.raises(TypeError, match="too many"):
        tasks.attempt_of.enqueue(1, 2)


def test_arguments_that_are_too_large(choose: Choose) -> None:
    choose("DummyBackend", max_payload=100)
    with pytest.raises(ValueError, match="max_payload"):
        tasks.echo.enqueue("x" * 200)


def test_options_of_another_backend_are_left_out(choose: Choose) -> None:
    import django

    choose(("django.tasks" if django.VERSION >= (6,) else "django_tasks") + ".backends.immediate.ImmediateBackend")
    plain = task(tasks.plain)
    assert not isinstance(plain, OutworkTask)
    assert options(retry=Retry())(plain) is plain


# ---- what is sent ----------------------------------------------------------------------------------------------------


def test_arguments_are_what_json_makes_of_them(backend: Any) -> None:
    result = tasks.echo.enqueue((1, 2), b"text", {"a": (3,)}, 1.5, None, True, key=[()])
    assert result.args == [[1, 2], "text", {"a": [3]}, 1.5, None, True]
    assert result.kwargs == {"key": [[]]}


def test_a_result_that_waits(choose: Choose) -> None:
    backend = choose("DummyBackend")
    before = datetime.now(UTC)
    moment = before + timedelta(days=1)
    result = tasks.mail.using(priority=-3, queue_name="slow", run_after=moment).enqueue("ada@example.com")
    assert result.status == TaskResultStatus.READY
    assert not result.is_finished
    assert (result.task.priority, result.task.queue_name, result.task.run_after) == (-3, "slow", moment)
    assert result.task.func is tasks.mail.func
    assert result.backend == "default"
    assert (result.started_at, result.finished_at, result.last_attempted_at) == (None, None, None)
    assert before <= result.enqueued_at <= datetime.now(UTC)
    assert (result.errors, result.worker_ids, result.attempts) == ([], [], 0)
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value
    assert [one.id for one in backend.results] == [result.id]
    assert backend.results[0] is not result
    assert tasks.mail.get_result(result.id).id == result.id
    with pytest.raises(TaskResultMismatch):
        tasks.add.get_result(result.id)
    backend.clear()
    assert backend.results == []
    with pytest.raises(TaskResultDoesNotExist):
        backend.get_result(result.id)


def test_what_backends_say_they_can(choose: Choose) -> None:
    def can() -> tuple[bool, ...]:
        backend = default_task_backend
        return (
            backend.supports_defer,
            backend.supports_async_task,
            backend.supports_get_result,
            backend.supports_priority,
        )

    wanted = {
        "DummyBackend": (True, True, False, True),
        "ImmediateBackend": (False, True, False, True),
        "ThreadPoolBackend": (True, True, False, True),
        "DatabaseBackend": (True, True, True, True),
        "RedisBackend": (True, True, True, True),
    }
    for name, abilities in wanted.items():
        choose(name)
        assert can() == abilities, name


# ---- in the caller ---------------------------------------------------------------------------------------------------


@pytest.fixture
def immediate(choose: Choose) -> Any:
    return choose("ImmediateBackend")


@pytest.mark.usefixtures("immediate")
class TestImmediate:
    def test_success(self) -> None:
        result = tasks.add.enqueue(1, y=2)
        assert result.status == TaskResultStatus.SUCCESSFUL
        assert (result.return_value, result.args, result.kwargs) == (3, [1], {"y": 2})
        assert result.enqueued_at <= result.started_at <= result.finished_at
        assert result.last_attempted_at == result.started_at
        assert (result.attempts, len(result.worker_ids), result.errors) == (1, 1, [])

    def test_failure(self) -> None:
        result = tasks.fail.enqueue()
        assert result.status == TaskResultStatus.FAILED
        assert result.is_finished
        with pytest.raises(ValueError, match="Task failed"):
            _ = result.return_value
        [error] = result.errors
        assert error.exception_class is ValueError
        assert error.traceback.startswith("Traceback (most recent call last):")
        assert error.traceback.endswith("ValueError: as asked\n")
        assert "def" not in error.traceback
        assert "outwork" not in error.traceback
        assert result.attempts == 1

    def test_other_ends(self) -> None:
        assert tasks.fail_deeply.enqueue().errors[0].exception_class is ValueError
        assert tasks.leave.enqueue().errors[0].exception_class is SystemExit
        assert tasks.afail.enqueue().errors[0].exception_class is ValueError
        strange = tasks.strange.enqueue()
        assert strange.status == TaskResultStatus.FAILED
        assert issubclass(strange.errors[0].exception_class, TypeError)
        assert "Unsupported type" in strange.errors[0].traceback
        with pytest.raises(KeyboardInterrupt):
            tasks.interrupt.enqueue()

    def test_context(self) -> None:
        result = tasks.attempt_of.using(queue_name="special").enqueue(extra=7)
        assert result.return_value == [1, result.id, "RUNNING", [], "special", "default", 7]
        assert tasks.aattempt_of.enqueue().return_value == 1

    def test_no_waiting(self) -> None:
        with pytest.raises(InvalidTask, match="run_after"):
            tasks.add.using(run_after=datetime.now(UTC)).enqueue(1)

    def test_at_once_in_a_transaction(self) -> None:
        with transaction.atomic():
            assert tasks.add.enqueue(1).return_value == 2

    def test_a_retry_policy_has_one_attempt(self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KIOSK_FOLDER", str(tmp_path))
        assert tasks.flaky.enqueue(1).status == TaskResultStatus.FAILED
        assert (tmp_path / "ledger").read_text() == "attempt 1\n"

    def test_results_are_not_kept(self) -> None:
        with pytest.raises(NotImplementedError, match="does not support retrieving or refreshing results"):
            tasks.add.enqueue(1).refresh()


async def _enqueue_async(backend: Any) -> list[Any]:
    first = await tasks.aecho.aenqueue(5)
    second = await tasks.add.aenqueue(1, 2)
    return [first, second]


def test_from_an_event_loop(immediate: Any) -> None:
    from asgiref.sync import async_to_sync

    first, second = async_to_sync(_enqueue_async)(immediate)
    assert (first.return_value, second.return_value) == (5, 3)
    assert tasks.aecho.call(4) == 4
    assert async_to_sync(tasks.add.acall)(1) == 2


# ---- what is told ----------------------------------------------------------------------------------------------------


def test_signals(immediate: Any) -> None:
    told: list[tuple[str, Any, str]] = []

    def hear(name: str) -> Callable[..., None]:
        def receive(sender: Any, task_result: Any, **named: Any) -> None:
            told.append((name, sender, task_result.status))

        return receive

    receivers = {"enqueued": task_enqueued, "started": task_started, "finished": task_finished}
    heard = {name: hear(name) for name in receivers}
    for name, signal in receivers.items():
        signal.connect(heard[name])
    try:
        tasks.add.enqueue(1)
        tasks.fail.enqueue()
    finally:
        for name, signal in receivers.items():
            signal.disconnect(heard[name])
    kind = type(immediate)
    assert told == [
        ("enqueued", kind, "READY"),
        ("started", kind, "RUNNING"),
        ("finished", kind, "SUCCESSFUL"),
        ("enqueued", kind, "READY"),
        ("started", kind, "RUNNING"),
        ("finished", kind, "FAILED"),
    ]


def test_log_lines(immediate: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger=LOGGER):
        result = tasks.add.enqueue(1)
        failed = tasks.fail.enqueue()
    lines = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    assert len(lines) == 6
    assert f"Task id={result.id} path=kiosk.tasks.add enqueued backend=default" in lines[0]
    assert "state=RUNNING" in lines[1]
    assert "state=SUCCESSFUL" in lines[2]
    assert failed.id in lines[5]
    assert "state=FAILED" in lines[5]


def test_two_aliases(choose: Choose) -> None:
    other = {"BACKEND": "outwork.contrib.django.DummyBackend", "QUEUES": ["default"]}
    choose("ImmediateBackend", others={"second": other})
    result = tasks.add.using(backend="second").enqueue(1)
    assert (result.backend, result.status) == ("second", "READY")
    assert [one.id for one in task_backends["second"].results] == [result.id]
    assert tasks.add.enqueue(1).backend == "default"
