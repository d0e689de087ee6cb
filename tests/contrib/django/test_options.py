"""Outwork's own options of a Django task: what is refused, and that they reach the jobs."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import django
import pytest
from django.db import connection, connections, transaction
from kiosk import tasks
from kiosk.api import InvalidTask, TaskResultStatus, task, task_backends, task_enqueued

from outwork import Concurrency, Rate
from outwork.brokers.base import Share
from outwork.contrib.django import OutworkTask, options
from outwork.contrib.django.application import backend_of
from outwork.contrib.django.models import Unsent
from outwork.contrib.django.testing import enqueued, run_jobs
from outwork.errors import Duplicate, UnknownQueue
from outwork.periodic import check_periodic, entries
from outwork.testing import recording

Choose = Callable[..., Any]
PREFIX = "outwork.contrib.django."
PASSED_ON = django.VERSION < (6,) or django.VERSION >= (6, 1)
"""Whether the decorator of this version passes keywords to the backend's task class (that of the backport does)."""

WRONG = [
    ({"retry": 3}, "Retry"),
    ({"timeout": -1}, "timeout"),
    ({"delivery": "twice"}, "delivery"),
    ({"executor": "gpu"}, "executor"),
    ({"max_crashes": "x"}, "max_crashes"),
    ({"expires": 0}, "expires"),
    ({"unique": "shop"}, "unique_key"),
    ({"unique_for": -1}, "unique_for"),
    ({"unique_key": 3}, "3 is no key"),
    ({"unique": True, "on_conflict": "ignore"}, "'return', 'replace' or 'raise'"),
    ({"on_conflict": "raise"}, "unique=True"),
    ({"unique": True, "delivery": "at_most_once"}, "contradict"),
    ({"limit": 3}, "Concurrency"),
    ({"fair_key": 3}, "fair_key=3"),
    ({"cron": "61 * * * *"}, "the minute '61' is not 0-59"),
    ({"cron": "* * * * *", "every": 60}, "contradict"),
    ({"cron": "* * * * *", "timezone": "Europe/Pariss"}, "did you mean 'Europe/Paris'"),
    ({"every": 0.5}, "at least a second"),
    ({"every": 60, "misfire": "never"}, "'skip', 'once' or 'all'"),
    ({"timezone": "Europe/Paris"}, "says nothing without cron"),
]


@pytest.mark.parametrize(("wrong", "why"), WRONG)
def test_what_is_refused_where_the_task_is_declared(choose: Choose, wrong: dict[str, Any], why: str) -> None:
    choose("DatabaseBackend")
    with pytest.raises(InvalidTask, match=why):
        options(**wrong)(tasks.noop)
    if PASSED_ON:
        with pytest.raises(InvalidTask, match=why):
            task(**wrong)(tasks.plain)


def test_an_argument_that_nobody_gives_a_periodic_task(choose: Choose) -> None:
    choose("DatabaseBackend")
    with pytest.raises(
        InvalidTask, match=r"kiosk\.tasks\.add is periodic, and nobody gives it x\. Give a default value"
    ):
        options(every=60)(tasks.add)
    options(every=60)(tasks.attempt_of)  # its context is given


@pytest.mark.skipif(not PASSED_ON, reason="this version of Django passes no keywords on")
def test_the_keywords_of_the_decorator(choose: Choose) -> None:
    choose("DummyBackend")
    made = task(unique=True, limit=[Concurrency(2), Rate("5/s")], cron="@daily", timezone="Europe/Paris")(tasks.plain)
    assert isinstance(made, OutworkTask)
    assert made == options(unique=True, limit=[Concurrency(2), Rate("5/s")], cron="@daily", timezone="Europe/Paris")(
        task(tasks.plain)
    )
    assert hash(made) == hash(made.using(priority=0))


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("delay", r"no 'delay': write \.enqueue\(\.\.\.\)$"),
        ("apply_async", r"\.using\(.*\.enqueue"),
        ("zzz", "no 'zzz'$"),
    ],
)
def test_a_method_of_another_library(choose: Choose, method: str, said: str) -> None:
    choose("DummyBackend")
    with pytest.raises(AttributeError, match=said):
        getattr(tasks.add, method)


def test_a_fixture_that_is_not_for_djangos_tasks(choose: Choose) -> None:
    choose("DummyBackend")
    with recording() as recorder, pytest.raises(AssertionError, match=r"outwork\.contrib\.django\.testing$"):
        recorder.assert_enqueued(tasks.add, 1, 2)


def test_a_task_can_be_pickled(choose: Choose) -> None:
    choose("DatabaseBackend")
    again = pickle.loads(pickle.dumps(tasks.flaky.using(priority=3)))
    assert again == tasks.flaky.using(priority=3)
    result = tasks.flaky.enqueue(0)
    assert pickle.loads(pickle.dumps(result)) == result


# ---- unique ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DatabaseBackend", "DummyBackend"])
def test_the_first_job_stands_for_the_second_call(choose: Choose, name: str) -> None:
    choose(name)
    heard: list[str] = []

    def hear(task_result: Any, **named: Any) -> None:
        heard.append(task_result.id)

    only = options(unique=True)(tasks.add)
    task_enqueued.connect(hear)
    try:
        first, second = only.enqueue(1), only.enqueue(x=1)
    finally:
        task_enqueued.disconnect(hear)
    assert second.id == first.id
    assert (second.args, second.kwargs, second.status) == ([1], {}, TaskResultStatus.READY)
    assert second.enqueued_at is not None
    assert heard == [first.id]
    assert only.enqueue(2).id != first.id
    assert len(enqueued()) == 2


def test_a_job_that_is_over_stands_for_nobody(choose: Choose) -> None:
    choose("DatabaseBackend")
    only, for_an_hour = options(unique=True)(tasks.add), options(unique_for=timedelta(hours=1))(tasks.noop)
    first, kept = only.enqueue(1), for_an_hour.enqueue()
    run_jobs()
    assert only.enqueue(1).id != first.id
    again = for_an_hour.enqueue()
    assert (again.id, again.status) == (kept.id, TaskResultStatus.SUCCESSFUL)


def test_a_transaction_holds_no_keys(choose: Choose) -> None:
    """They would be locked for as long as it lasts: which of the jobs stands is seen at the commit."""
    choose("DatabaseBackend")
    only = options(unique=True)(tasks.add)
    with transaction.atomic():
        lost = only.enqueue(1)
        assert only.get_result(lost.id).status == TaskResultStatus.READY
        transaction.set_rollback(True)
    with transaction.atomic():
        first, second = only.enqueue(1), only.enqueue(x=1)
        assert len({lost.id, first.id, second.id}) == 3
        assert enqueued() == []
    assert (second.id, second.args, second.kwargs) == (first.id, [1], {})
    assert run_jobs() == 1


def test_a_broker_elsewhere_says_it_at_the_commit(choose: Choose, tmp_path: Path) -> None:
    backend = choose("OutworkBackend", broker_url=f"sqlite:///{tmp_path}/jobs.db")
    only = options(unique=True)(tasks.add)
    strict = options(unique=True, on_conflict="raise")(tasks.echo)
    first = only.enqueue(1)
    with transaction.atomic():
        second = only.enqueue(1)
        assert second.id != first.id
    assert (second.id, second.status, second.args) == (first.id, TaskResultStatus.READY, [1])
    strict.enqueue()
    with pytest.raises(Duplicate), transaction.atomic():
        strict.enqueue()
    assert len(enqueued()) == 2
    backend.close()


def test_a_process_that_died_at_its_commit(choose: Choose) -> None:
    backend = choose("DatabaseBackend")
    only = options(unique=True)(tasks.add)
    with transaction.atomic():
        result = only.enqueue(1)
        connection.run_on_commit = []
    assert enqueued() == []
    Unsent.objects.update(send_at=0.0)  # its time for that is over
    backend.app.outbox.send_old()
    assert [job.id for job in enqueued()] == [result.id]


def test_two_transactions_that_want_the_same_keys(choose: Choose) -> None:
    """In another order, and at once: neither is a deadlock for the other."""
    if connection.vendor == "sqlite":
        pytest.skip("it has one transaction at a time that writes")
    choose("DatabaseBackend")
    only = options(unique=True)(tasks.add)
    both = Barrier(2, timeout=30)

    def enqueue(*numbers: int) -> list[str]:
        try:
            with transaction.atomic():
                results = []
                for number in numbers:
                    results.append(only.enqueue(number))
                    both.wait()
            return [result.id for result in results]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as threads:
        one, other = threads.submit(enqueue, 1, 2), threads.submit(enqueue, 2, 1)
        assert one.result(60) == other.result(60)[::-1]
    assert run_jobs() == 2


def test_many_that_want_the_same_keys(choose: Choose) -> None:
    """Whoever makes a key first wins; the others find it."""
    choose("DatabaseBackend")
    only = options(unique=True)(tasks.add)

    def enqueue(start: int) -> list[str]:
        try:
            return [only.enqueue((start + number) % 10).id for number in range(10)]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as threads:
        found = [set(ids) for ids in threads.map(enqueue, range(4))]
    assert found == [found[0]] * 4
    assert run_jobs() == 10


def test_conflicts(choose: Choose) -> None:
    choose("DatabaseBackend")
    newest = options(unique=True, unique_key=lambda x, **_: x, on_conflict="replace")(tasks.add)
    first, second = newest.enqueue(1, 2), newest.enqueue(1, y=3)
    assert (second.id, second.args, second.kwargs) == (first.id, [1], {"y": 3})
    strict = options(unique=True, on_conflict="raise")(tasks.echo)
    held = strict.enqueue("x")
    with pytest.raises(Duplicate) as caught:
        strict.enqueue("x")
    assert caught.value.job_id == held.id


def test_a_dummy_that_is_cleared_holds_no_keys(choose: Choose) -> None:
    backend = choose("DummyBackend")
    newest = options(unique=True, unique_key="one", on_conflict="replace")(tasks.echo)
    first = newest.enqueue("a")
    newest.enqueue("b")
    assert [(job.id, job.args) for job in backend.results] == [(first.id, ["b"])]
    backend.clear()
    assert newest.enqueue("c").id != first.id
    assert [job.args for job in backend.results] == [["c"]]


# ---- limits, and brokers ---------------------------------------------------------------------------------------------


def test_a_limit(choose: Choose) -> None:
    choose("DatabaseBackend")
    slow = options(limit=Concurrency(1, key=lambda key, **_: key))(tasks.step)
    declared = backend_of("default").app.tasks[slow.module_path]
    assert [limit.most for limit in declared.options.limits if isinstance(limit, Concurrency)] == [1]
    for name in ("a", "a", "b"):
        slow.enqueue(name)
    broker = backend_of("default").joined
    claimed = broker.exchange("1" * 32, [], [Share("default", 3)], 3, 3, "worker").claimed
    assert len(claimed) == 2  # one for each key


def test_turns(choose: Choose) -> None:
    choose("DatabaseBackend")
    fair = options(fair_key=lambda key, **_: key)(tasks.step)
    big, _, _, small = [fair.enqueue(name).id for name in ("big", "big", "big", "small")]
    claimed = backend_of("default").joined.exchange("1" * 32, [], [Share("default", 2)], 2, 2, "worker").claimed
    assert {one.id for one in claimed} == {big, small}


@pytest.mark.parametrize("option", [{"unique": True}, {"limit": Concurrency(1)}])
def test_what_a_broker_cannot_keep_is_refused_where_the_task_is_declared(
    choose: Choose, option: Any, tmp_path: Path
) -> None:
    pytest.importorskip("pika")
    choose("RabbitMQBackend")
    with pytest.raises(InvalidTask, match=r"cannot be kept by TASKS\['default'\] \(RabbitMQBackend\).*store_url"):
        options(**option)(tasks.noop)
    choose("RabbitMQBackend", store_url=f"sqlite:///{tmp_path}/store.db")
    options(**option)(tasks.noop)
    with pytest.raises(InvalidTask, match="fair_key cannot be kept"):
        options(fair_key="one")(tasks.noop)


# ---- periodic tasks --------------------------------------------------------------------------------------------------


def test_a_schedule_belongs_to_one_backend(choose: Choose) -> None:
    choose("DatabaseBackend", others={"second": {"BACKEND": PREFIX + "DatabaseBackend", "QUEUES": []}})
    nightly = options(cron="@daily")(tasks.noop)
    nightly.using(backend="second").enqueue()
    first, second = backend_of("default").app, backend_of("second").app
    assert [entry.name for entry in entries(first)] == ["kiosk.tasks.noop"]
    assert entries(second) == []
    assert second.resolve("kiosk.tasks.noop") is not None  # a job of it was sent here
    assert entries(second) == []
    assert task_backends["second"].get_result(nightly.using(backend="second").enqueue().id)


def test_schedules_of_the_operator(choose: Choose) -> None:
    table = {"task": "kiosk.tasks.add", "cron": "0 7 * * *", "timezone": "Europe/Paris", "args": {"x": 1}}
    choose("DatabaseBackend", periodic={"morning": table, "kiosk.tasks.noop": {"enabled": False}})
    options(every=60)(tasks.noop)
    tasks.add.using(priority=0)  # known here
    found = {entry.name: entry for entry in entries(backend_of("default").app)}
    assert str(found["morning"].rule.schedule) == "every day at 07:00, Europe/Paris"
    assert bytes(found["morning"].call.args) == b'{"args":[],"kwargs":{"x":1}}'
    assert not found["kiosk.tasks.noop"].enabled


def test_a_queue_that_no_worker_serves(choose: Choose) -> None:
    table = {"task": "kiosk.tasks.noop", "every": 60, "queue": "slow"}
    choose("DatabaseBackend", queues=["default", "mail"], periodic={"often": table})
    tasks.noop.using(priority=0)  # known here
    app = backend_of("default").app
    with pytest.raises(UnknownQueue, match=r"'slow' is not declared\. Declared are: default, mail"):
        check_periodic(app, entries(app))
