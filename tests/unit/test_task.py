"""Declaring tasks, their options, their names, calling them, and enqueueing where it makes sense."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from outwork import Call, Outwork, Rate, Retry, State, Task, TaskContext
from outwork.errors import (
    DeclarationError,
    DuplicateTask,
    InvalidOption,
    NaiveDatetime,
    NotImportable,
    PartlyEnqueued,
    PayloadTooLarge,
    UnknownOption,
    UnknownQueue,
    WrongArguments,
)
from support import chores
from support.inside import memory_app

if TYPE_CHECKING:
    from fractions import Fraction


def plain(x: int, y: int = 2) -> int:
    """Adds."""
    return x + y


async def coroutine(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


def half_hinted(x: Fraction) -> None: ...


# ---- declaring ------------------------------------------------------------------------------------------------------


def test_bare_and_with_options() -> None:
    app = Outwork()
    bare = app.task(plain)
    named = app.task(name="adding", queue_name="maths", priority=5, timeout=timedelta(minutes=1), keep_result=0)(plain)
    assert (bare.name, named.name) == (f"{__name__}.plain", "adding")
    assert (bare.options.queue_name, bare.options.priority, bare.options.timeout) == ("default", 0, None)
    assert (named.options.queue_name, named.options.priority) == ("maths", 5)
    assert (named.options.timeout, named.options.keep_result) == (60.0, 0.0)
    assert set(app.tasks) == {bare.name, "adding"}
    assert bare.__doc__ == "Adds."
    assert getattr(bare, "__name__") == "plain"  # noqa: B009 - the checkers do not know of it
    assert bare.source.startswith(__file__)
    assert str(bare.signature) == "(x: int, y: int = 2) -> int"
    assert bare.hints == {"x": int, "y": int, "return": int}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"priority": 101}, "whole number from -100 to 100"),
        ({"priority": -101}, "whole number"),
        ({"priority": 1.5}, "whole number"),
        ({"priority": True}, "whole number"),
        ({"queue_name": ""}, "1 to 100 characters"),
        ({"queue_name": "a b"}, "without spaces"),
        ({"queue_name": "a:4"}, "colons"),
        ({"queue_name": "q" * 101}, "1 to 100 characters"),
        ({"queue_name": 5}, "queue_name=5"),
        ({"timeout": 0}, "more than 0 seconds"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"keep_result": -1}, "keep_result"),
        ({"expires": 0}, "expires"),
        ({"max_crashes": -1}, "0 or more"),
        ({"max_crashes": "2"}, "whole number"),
        ({"max_crashes": True}, "whole number"),
        ({"name": 3}, "name=3: a text"),
        ({"name": ""}, "a text is needed"),
        ({"delivery": "twice"}, "at_least_once"),
        ({"executor": "gpu"}, "'thread' or 'process'"),
        ({"delivery": "at_most_once", "retry": Retry(max_attempts=3)}, "contradict"),
        ({"limit": 3}, "limit=3: write Concurrency"),
        ({"limit": "10/m"}, "limit='10/m': write Concurrency"),
        ({"limit": [Rate("10/m"), 3]}, "limit=3"),
        ({"unique": "shop"}, "unique_key"),
        ({"unique_key": 3}, "3 is no key"),
        ({"unique": True, "delivery": "at_most_once"}, "contradict"),
    ],
)
def test_an_impossible_option_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        Outwork().task(**options)(plain)


def test_retry_options() -> None:
    app = Outwork()
    assert app.task(plain).options.retry == Retry()
    assert app.task(name="never", retry=None)(plain).options.retry.max_attempts == 1
    assert app.task(name="once", delivery="at_most_once")(plain).options.retry.max_attempts == 1
    assert app.task(name="fine", delivery="at_most_once", retry=Retry(max_attempts=1))(plain)


def test_what_cannot_be_a_task() -> None:
    app = Outwork()

    def generator() -> Iterator[int]:
        yield 1

    async def agenerator() -> Any:
        yield 1

    for function in (generator, agenerator):
        with pytest.raises(DeclarationError, match="is a generator; a task returns one value"):
            app.task(function)
    with pytest.raises(DeclarationError, match="below @staticmethod"):
        app.task(staticmethod(plain))
    with pytest.raises(DeclarationError, match="takes a function"):
        app.task(5)  # type: ignore[call-overload]

    class Shop:
        def sell(self, what: str) -> None: ...

    with pytest.raises(DeclarationError, match=r"not the class .*Shop$"):
        app.task(Shop)
    with pytest.raises(
        DeclarationError, match=r"Shop\.sell is a method, and no job carries its object\. Write a function"
    ):
        app.task(Shop.sell)
    with pytest.raises(DeclarationError, match="first parameter must be `context`"):
        app.task(takes_context=True)(plain)  # type: ignore[arg-type]
    assert app.tasks == {}


def test_two_tasks_of_one_name() -> None:
    app = Outwork()
    app.task(name="same")(plain)
    with pytest.raises(DuplicateTask, match=r"two tasks are named 'same': .*test_task\.py:\d+ and .*Give one of them"):
        app.task(name="same")(coroutine)
    app.task(name="same", priority=5)(plain)
    assert app.tasks["same"].options.priority == 5, "the same function again is a module that was reloaded"
    assert Outwork().task(name="same")(coroutine), "another application has its own names"


# ---- calling ---------------------------------------------------------------------------------------------------------


def test_calling_it_is_calling_the_function() -> None:
    app, broker = memory_app()
    task, atask = app.task(plain), app.task(coroutine)
    assert task(1, y=5) == 6
    assert task.call(1) == 3
    assert asyncio.run(atask(1)) == 2
    assert atask.call(1) == 2
    assert asyncio.run(task.acall(1)) == 3
    assert asyncio.run(atask.acall(1)) == 2
    assert broker.results == []


def test_a_direct_call_gets_a_context_of_no_job() -> None:
    app, _ = memory_app()

    @app.task(takes_context=True, queue_name="mail")
    def fn(context: TaskContext, x: int) -> tuple[int, TaskContext]:
        return x, context

    @app.task(takes_context=True)
    async def afn(context: TaskContext, x: int) -> str:
        return context.task_name

    x, context = fn(5)
    assert (x, context.job_id, context.attempt, context.queue_name) == (5, "", 1, "mail")
    assert repr(context) == f"<TaskContext {fn.name} job=none attempt=1>"
    assert afn.call(1) == afn.name
    assert asyncio.run(afn.acall(1)) == afn.name
    assert str(fn.signature).startswith("(x: int)")


def test_a_wrapped_function_keeps_its_signature() -> None:
    app, broker = memory_app()

    def logged(fn: Any) -> Any:
        @functools.wraps(fn)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return fn(*args, **kwargs)

        return inner

    task = app.task(logged(plain))
    assert task.name == f"{__name__}.plain"
    task.enqueue(1, y=3)
    with pytest.raises(WrongArguments):
        task.enqueue(1, z=3)
    assert len(broker.results) == 1


# ---- using -----------------------------------------------------------------------------------------------------------


def test_using_changes_a_copy() -> None:
    app, broker = memory_app()
    task = app.task(plain)
    other = task.using(queue_name="low", priority=-5, run_after=timedelta(minutes=5), expires=60)
    result = other.enqueue(1)
    assert (result.queue_name, result.priority, result.state) == ("low", -5, State.SCHEDULED)
    [record] = broker.results
    assert abs(record.due - broker.now() - 300) < 5
    assert record.expires_at == pytest.approx(record.due + 60)
    assert task.enqueue(1).queue_name == "default"
    assert app.tasks[task.name] is task
    assert other.using(priority=1).options.queue_name == "low"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"priority": 101}, InvalidOption),
        ({"queue_name": "a,b"}, InvalidOption),
        ({"run_after": datetime(2030, 1, 1)}, NaiveDatetime),
        ({"run_after": "tomorrow"}, InvalidOption),
        ({"run_after": float("inf")}, InvalidOption),
        ({"expires": 0}, InvalidOption),
        ({"after": 3}, InvalidOption),
        ({"after": ["0123"]}, InvalidOption),
        ({"on_success": 3}, InvalidOption),
        ({"on_failure": None}, InvalidOption),
    ],
)
def test_using_refuses_what_is_wrong(options: dict[str, Any], error: type[Exception]) -> None:
    app, _ = memory_app()
    with pytest.raises(error):
        app.task(plain).using(**options)


def test_run_after_takes_a_moment_or_a_length() -> None:
    app, broker = memory_app()
    task = app.task(plain)
    moment = datetime.now(UTC) + timedelta(hours=1)
    assert task.using(run_after=moment).enqueue(1).run_after == moment
    for soon in (timedelta(-1), 0, 0.0):
        task.using(run_after=soon).enqueue(1)
    states = [record.state for record in broker.get([record.id for record in broker.results]) if record]
    assert states == [State.SCHEDULED, State.READY, State.READY, State.READY]


def test_hints_are_resolved_once_for_all_copies() -> None:
    """Each `using` is a new object; its payload is the task's, or each enqueue would make it, and warn, anew."""
    app, _ = memory_app()
    task = app.task(half_hinted)
    with pytest.warns(UserWarning, match="cannot be resolved"):
        task.using(priority=1).enqueue(5)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task.using(priority=2).enqueue(5)  # type: ignore[arg-type]
        task.enqueue(5)  # type: ignore[arg-type]
    assert task.using(priority=3).payload is task.payload


# ---- enqueueing ------------------------------------------------------------------------------------------------------


def test_a_declared_queue_is_needed_where_queues_are_declared() -> None:
    app = Outwork("memory:", queues=["default", "mail"])
    task = app.task(plain)
    task.using(queue_name="mail").enqueue(1)
    with pytest.raises(UnknownQueue, match=r"'sms' is not declared\. Declared are: default, mail\. Nothing was"):
        task.using(queue_name="sms").enqueue(1)


def test_a_payload_may_have_a_size() -> None:
    app = Outwork("memory:", max_payload=100)

    @app.task
    def fn(text: str) -> None: ...

    fn.enqueue("x" * 80)
    with pytest.raises(PayloadTooLarge, match="max_payload = 100"):
        fn.enqueue("x" * 100)


def test_many_are_sent_in_batches() -> None:
    app, broker = memory_app()
    task = app.task(plain)
    results = app.enqueue_many(task.bind(number) for number in range(2_500))
    assert [result.id for result in results] == [record.id for record in broker.results]
    assert asyncio.run(app.aenqueue_many([task.bind(1)]))[0].task_name == task.name
    assert repr(task.bind(1)) == f"<Call {task.name}>"
    assert app.enqueue_many(()) == []


def test_many_with_a_wrong_one_among_them() -> None:
    app, broker = memory_app()
    task = app.task(plain)

    def calls() -> Iterator[Call[int]]:
        for number in range(1_500):
            yield task.bind(number)
        yield task.bind("wrong")  # type: ignore[call-overload]

    with pytest.raises(Exception, match="Expected `int`"):
        app.enqueue_many(calls())
    assert len(broker.results) == 1_000, "whole batches only"


def test_many_of_which_a_later_batch_fails() -> None:
    app, broker = memory_app()
    task = app.task(plain)
    plain_enqueue = broker.enqueue
    batches: list[int] = []

    def failing(jobs: Any) -> Any:
        batches.append(len(jobs))
        if len(batches) == 2:
            raise ConnectionError("gone")
        return plain_enqueue(jobs)

    broker.enqueue = failing  # type: ignore[method-assign]
    with pytest.raises(PartlyEnqueued, match="1000 jobs were accepted, then: gone") as caught:
        app.enqueue_many(task.bind(number) for number in range(1_200))
    assert list(caught.value.accepted) == [record.id for record in broker.results]
    assert caught.value.refused[0][0] == 1_000


def test_what_is_no_call_cannot_be_enqueued() -> None:
    app = Outwork("dummy:")
    task = app.task(plain)
    for wrong in (3, "x", None):
        with pytest.raises(InvalidOption, match=r"is no call: write enqueue_many\(task\.bind\(\.\.\.\) for \.\.\.\)"):
            app.enqueue_many([wrong])  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match=r"is no call: write enqueue\(task\.bind\(\.\.\.\)\), or task\.enqueue"):
        app.enqueue(task)  # type: ignore[arg-type]


UNREACHABLE = {
    "a lambda": "app.task(lambda: None)",
    "nested": "app.task(make())",
    "__main__": "app.task(top)",
}


@pytest.mark.parametrize("what", UNREACHABLE)
def test_a_task_that_no_worker_could_import(what: str, tmp_path: Path) -> None:
    """Refused where other processes take the jobs; named ones are the developer's own affair."""
    (tmp_path / "script.py").write_text(
        f"""
from outwork import Outwork
app = Outwork("sqlite:///{tmp_path}/tasks.db")
def top() -> None: ...
def make():
    def inner() -> None: ...
    return inner
task = {UNREACHABLE[what]}
try:
    task.enqueue()
except Exception as error:
    print(type(error).__name__, error)
app.task(name="named")(make()).enqueue()
print(app.broker.counts())
"""
    )
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    said, counts = done.stdout.splitlines()
    assert said.startswith("NotImportable OW106")
    assert what in said
    assert "Nothing was enqueued" in said
    assert counts.count("Count(") == 1
    assert "jobs=1" in counts


def test_an_unreachable_task_is_fine_where_nobody_else_takes_it() -> None:
    app, broker = memory_app()
    app.task(lambda: None).enqueue()
    assert len(broker.results) == 1


def test_a_task_of_a_module_is_reachable(tmp_path: Path) -> None:
    chores.step.check_reachable()
    nested: Task[..., Any] = Outwork().task(functools.wraps(plain)(lambda *args: None))
    nested.check_reachable()

    def inner() -> None: ...

    with pytest.raises(NotImportable, match="is nested in a function"):
        Outwork().task(inner).check_reachable()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"queue": "mail"}, r"^OW113 task\(\) has no option 'queue'\. Write queue_name=\.\.\.$"),
        ({"max_retries": 3}, r"'max_retries'\. Write retry=Retry\(max_attempts=\.\.\.\)$"),
        ({"bind": True}, r"'bind'\. Write takes_context=True$"),
        ({"time_out": 3}, r"'time_out'\. Write timeout=\.\.\.$"),
        ({"colour": 3}, r"'colour'\. There are name, queue_name, "),
    ],
)
def test_an_option_of_another_library_is_said_in_our_words(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownOption, match=said) as caught:
        Outwork().task(**options)
    assert isinstance(caught.value, TypeError)


def test_using_says_so_too() -> None:
    task = Outwork("dummy:").task(plain)
    with pytest.raises(UnknownOption, match=r"using\(\) has no option 'countdown'\. Write using\(run_after=\.\.\.\)"):
        task.using(countdown=5)  # type: ignore[call-arg] # as one writes who comes from Celery
    with pytest.raises(DeclarationError, match=r"retry=3: write retry=Retry"):
        Outwork().task(retry=3)  # type: ignore[call-overload] # likewise


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_retries": 3}, r"^OW113 Retry\(\) has no option 'max_retries'\. Write max_attempts=\.\.\., which counts"),
        ({"autoretry_for": (OSError,)}, r"'autoretry_for'\. Write on=\(\.\.\.,\)$"),
        ({"max_dely": 3}, r"'max_dely'\. Write max_delay=\.\.\.$"),
        ({"colour": 3}, r"'colour'\. There are max_attempts, delay, "),
    ],
)
def test_a_retry_of_another_library_is_said_in_our_words(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownOption, match=said):
        Retry(**options)


def test_a_retry_takes_its_options_by_name() -> None:
    with pytest.raises(UnknownOption, match=r"by name, for example Retry\(max_attempts=3\)$"):
        Retry(3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("delay", r"write .*\.plain\.enqueue\(\.\.\.\)$"),
        ("kiq", r"aenqueue"),
        ("map", r"enqueue_many"),
        ("zzz", "no 'zzz'$"),
    ],
)
def test_a_method_of_another_library_is_said_in_our_words(method: str, said: str) -> None:
    task = Outwork("dummy:").task(plain)
    with pytest.raises(AttributeError, match=said):
        getattr(task, method)
    assert not hasattr(task, method)
