"""DatabaseBackend: a job is a row of the caller's transaction; results, tables, pruning, test helpers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.test import override_settings
from kiosk import tasks
from kiosk.api import TaskResultDoesNotExist, TaskResultMismatch, TaskResultStatus, task_backends, task_enqueued
from kiosk.models import Order
from msgspec.structs import replace

from outwork.codec import decode_job
from outwork.contrib.django import load
from outwork.contrib.django.application import backend_of
from outwork.contrib.django.models import Job
from outwork.contrib.django.tables import broker_on
from outwork.contrib.django.testing import (
    assert_enqueued,
    assert_not_enqueued,
    enqueued,
    run_jobs,
)
from outwork.errors import SchemaError
from outwork.ids import new_claim_id
from outwork.job import MISSES_ALLOWED, State
from outwork.testing.conformance import shares

Choose = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("database")


class Oops(Exception):
    pass


@contextmanager
def rolled_back(using: str = "default") -> Iterator[None]:
    """A transaction that ends with an exception."""
    try:
        with transaction.atomic(using=using):
            yield
            raise Oops
    except Oops:
        return


# ---- transactions ----------------------------------------------------------------------------------------------------


def test_row_A3_a_job_is_part_of_the_transaction() -> None:
    with transaction.atomic():
        Order.objects.create(name="one")
        result = tasks.add.enqueue(1)
        assert tasks.add.get_result(result.id).status == TaskResultStatus.READY
    result.refresh()
    assert Job.objects.get().task == "kiosk.tasks.add"
    with rolled_back():
        Order.objects.create(name="two")
        lost = tasks.add.enqueue(2)
    with pytest.raises(TaskResultDoesNotExist):
        lost.refresh()
    assert [order.name for order in Order.objects.all()] == ["one"]
    assert [job.args for job in enqueued()] == [[1]]


def test_a_savepoint_takes_back_what_is_in_it() -> None:
    with transaction.atomic():
        tasks.add.enqueue(1)
        with rolled_back():
            tasks.add.enqueue(2)
        tasks.add.enqueue(3)
    assert [job.args for job in enqueued()] == [[1], [3]]


def test_another_process_sees_it_after_the_commit() -> None:
    own = backend_of("default").app.store
    assert own.get(["unknown"]) == [None]
    with transaction.atomic():
        result = tasks.add.enqueue(1)
        assert own.get([result.id]) == [None]
    [record] = own.get([result.id])
    assert record is not None
    assert record.state is State.READY


def test_a_job_in_another_database_waits_for_the_commit(choose: Choose) -> None:
    choose("DatabaseBackend", database="other")
    with rolled_back():
        tasks.add.enqueue(1)
    assert enqueued() == []
    with transaction.atomic():
        result = tasks.add.enqueue(2)
        assert result.enqueued_at is None
        assert enqueued() == []
    assert result.enqueued_at is not None
    assert [job.args for job in enqueued()] == [[2]]
    with rolled_back(using="other"):  # its own transaction
        tasks.add.enqueue(3)
    assert [job.args for job in enqueued()] == [[2]]
    with connections["other"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM outwork_job")
        assert cursor.fetchone() == (1,)
    assert Job.objects.count() == 0


def test_row_A3_a_broker_elsewhere_is_told_at_the_commit(choose: Choose, tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/tasks.db"
    choose("OutworkBackend", broker_url=url)
    told: list[str] = []

    def hear(task_result: Any, **named: Any) -> None:
        told.append(task_result.id)

    task_enqueued.connect(hear)
    try:
        with rolled_back():
            tasks.add.enqueue(1)
        with transaction.atomic():
            result = tasks.add.enqueue(2)
            assert (enqueued(), told, result.enqueued_at) == ([], [], None)
    finally:
        task_enqueued.disconnect(hear)
    assert told == [result.id]
    assert [job.args for job in enqueued()] == [[2]]
    choose("OutworkBackend", broker_url=url, enqueue_on_commit=False)
    with rolled_back():
        tasks.add.enqueue(3)
    assert [job.args for job in enqueued()] == [[2], [3]]


def test_what_is_refused_is_refused_before_the_commit(choose: Choose, tmp_path: Any) -> None:
    choose("OutworkBackend", broker_url=f"sqlite:///{tmp_path}/tasks.db")
    with transaction.atomic(), pytest.raises(TypeError):
        tasks.add.enqueue({1})


async def _enqueue_many() -> list[Any]:
    return [await tasks.add.aenqueue(number) for number in range(3)]


def test_from_an_event_loop() -> None:
    from asgiref.sync import async_to_sync

    results = async_to_sync(_enqueue_many)()
    assert [job.id for job in enqueued()] == [result.id for result in results]


# ---- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["in the database", "elsewhere"])
def test_row_A2_results_on_an_event_loop(choose: Choose, tmp_path: Path, where: str) -> None:
    """As a view reads them that is a coroutine: by the task, by the backend, and once more by the result itself."""
    from asgiref.sync import async_to_sync, sync_to_async

    if where == "elsewhere":
        choose("OutworkBackend", broker_url=f"sqlite:///{tmp_path}/tasks.db")

    async def view() -> None:
        backend = task_backends["default"]
        result = await tasks.add.aenqueue(1, y=2)
        found = await tasks.add.aget_result(result.id)
        same = await backend.aget_result(result.id)
        assert (found.status, found.args, same.id) == (TaskResultStatus.READY, [1], result.id)
        with pytest.raises(TaskResultMismatch):
            await tasks.mail.aget_result(result.id)
        with pytest.raises(TaskResultDoesNotExist):
            await backend.aget_result("unknown")
        assert await sync_to_async(run_jobs)() == 1
        assert found.status == TaskResultStatus.READY
        await found.arefresh()
        assert (found.status, found.return_value, found.attempts) == (TaskResultStatus.SUCCESSFUL, 3, 1)
        assert (await tasks.add.aget_result(result.id)).return_value == 3

    async_to_sync(view)()


def test_a_result_as_it_goes_on() -> None:
    result = tasks.echo.using(priority=3, queue_name="low").enqueue((1,), key=b"x")
    again = tasks.echo.get_result(result.id)
    assert (again.args, again.kwargs) == ([[1]], {"key": "x"})
    assert (again.task.priority, again.task.queue_name, again.backend) == (3, "low", "default")
    assert run_jobs() == 1
    assert result.status == TaskResultStatus.READY
    result.refresh()
    assert result.status == TaskResultStatus.SUCCESSFUL
    assert result.return_value == [[[1]], {"key": "x"}]
    assert result.attempts == 1
    assert result.enqueued_at <= result.started_at <= result.finished_at


def test_row_A5_a_retry_shows_ready() -> None:
    result = tasks.second_try.enqueue()
    assert run_jobs() == 1
    result.refresh()
    assert result.status == TaskResultStatus.READY
    assert result.attempts == len(result.errors) == 1
    assert result.errors[0].exception_class is OSError
    assert backend_of("default").joined.hasten([result.id]) == 1
    assert run_jobs() == 1
    result.refresh()
    assert result.status == TaskResultStatus.SUCCESSFUL
    assert result.return_value == result.attempts == 2
    assert len(result.errors) == 1


def test_no_retry_without_a_policy() -> None:
    result = tasks.fail.enqueue()
    assert run_jobs() == 1
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    assert run_jobs() == 0


def test_a_job_for_later() -> None:
    moment = datetime.now(UTC) + timedelta(hours=1)
    result = tasks.add.using(run_after=moment).enqueue(1)
    assert run_jobs() == 0
    result = tasks.add.get_result(result.id)
    assert result.status == TaskResultStatus.READY
    assert abs(result.task.run_after - moment) < timedelta(milliseconds=1)
    assert backend_of("default").joined.hasten([result.id]) == 1
    assert run_jobs() == 1


def test_unknown_and_strange_results() -> None:
    backend = task_backends["default"]
    for strange in ("nonsense", "", "0" * 36, 7):
        with pytest.raises(TaskResultDoesNotExist):
            backend.get_result(strange)


def test_a_cancelled_job_is_failed() -> None:
    result = tasks.add.enqueue(1)
    assert backend_of("default").store.cancel([result.id]) == [State.CANCELLED]
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    assert "cancelled" in result.errors[0].traceback


def test_a_task_that_is_gone() -> None:
    result = tasks.add.enqueue(1)
    joined = backend_of("default").joined
    [record] = joined.get([result.id])
    assert record is not None
    joined.delete([result.id])
    joined.enqueue([replace(decode_job(record.body), task="kiosk.tasks.gone")])
    found = task_backends["default"].get_result(result.id)
    assert found.task.module_path == "kiosk.tasks.gone"
    assert found.args == [1]
    assert run_jobs() == 1  # given back
    found.refresh()
    assert found.status == TaskResultStatus.READY
    for _ in range(MISSES_ALLOWED - 1):  # an hour of that
        joined.hasten([result.id])
        assert run_jobs() == 1
    found.refresh()
    assert found.status == TaskResultStatus.FAILED
    assert found.errors[-1].exception_class_path == "outwork.errors.UnknownTask"
    assert "no worker knew the task 'kiosk.tasks.gone' for an hour" in found.errors[-1].traceback


def test_results_of_another_backend(choose: Choose) -> None:
    path = "outwork.contrib.django.DatabaseBackend"
    choose("DatabaseBackend", others={"second": {"BACKEND": path, "QUEUES": []}})
    result = tasks.add.using(backend="second").enqueue(1)
    assert result.backend == "second"
    assert task_backends["second"].get_result(result.id).backend == "second"
    with pytest.raises(TaskResultDoesNotExist, match="second"):
        task_backends["default"].get_result(result.id)


def test_a_context_on_a_worker() -> None:
    result = tasks.attempt_of.enqueue()
    run_jobs()
    result.refresh()
    assert result.return_value == [1, result.id, "RUNNING", [], "default", "default", 0]


def test_a_task_enqueues_another_one() -> None:
    result = tasks.chain.enqueue("x")
    assert run_jobs() == 2
    result.refresh()
    assert tasks.add.get_result(result.return_value).return_value == 3


def test_tasks_are_found_below_installed_applications_only() -> None:
    app = backend_of("default").app
    assert app.resolve("kiosk.tasks.add") is not None
    for path in (
        "kiosk.tasks.plain",
        "kiosk.tasks.nothing",
        "kiosk.nothing.add",
        "this.that",
        "json.dumps",
        "os.system",
    ):
        assert app.resolve(path) is None
    assert load.loaded("default") is app


# ---- the tables ------------------------------------------------------------------------------------------------------


def test_models_and_migrations_agree() -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_the_migration_says_its_sql() -> None:
    out = StringIO()
    call_command("sqlmigrate", "outwork", "0001", stdout=out)
    assert "outwork_job (" in out.getvalue()


def test_either_migrator_may_come_first(tmp_path: Any) -> None:
    from django.db.migrations.executor import MigrationExecutor

    with connections["other"].cursor() as cursor:
        cursor.execute("SELECT value FROM outwork_meta WHERE name = 'id'")
        before = cursor.fetchone()
    executor = MigrationExecutor(connections["other"])
    for name in ("0001_initial", "0002_outbox", "0003_bound", "0004_unsent"):
        executor.recorder.record_unapplied("outwork", name)
    call_command("migrate", "outwork", database="other", verbosity=0)  # the tables are there already
    with connections["other"].cursor() as cursor:
        cursor.execute("SELECT value FROM outwork_meta WHERE name = 'id'")
        assert cursor.fetchone() == before
    call_command("migrate", "outwork", "zero", database="other", verbosity=0)
    joined = broker_on("other")
    assert joined is not None
    assert joined.pending() == ["0001 initial", "0002 outbox", "0003 bound"]
    with pytest.raises(SchemaError, match=r"manage\.py migrate"):
        joined.queues()
    assert joined.migrate() == ["0001 initial", "0002 outbox", "0003 bound"]
    call_command("migrate", "outwork", database="other", verbosity=0)
    assert joined.pending() == []


def test_without_migrations() -> None:
    call_command("migrate", "outwork", "zero", database="other", verbosity=0)
    joined = broker_on("other")
    assert joined is not None
    with override_settings(MIGRATION_MODULES={"outwork": None}):
        call_command("migrate", run_syncdb=True, database="other", verbosity=0)
    assert joined.pending() == []
    call_command("migrate", database="other", verbosity=0)


class NotHere:
    """A router that wants no tables of ours in `other`."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return db != "other" if app_label == "outwork" else None

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "other" if model._meta.app_label == "outwork" else None


def test_routers_are_honoured(choose: Choose) -> None:
    call_command("migrate", "outwork", "zero", database="other", verbosity=0)
    joined = broker_on("other")
    assert joined is not None
    with override_settings(DATABASE_ROUTERS=["test_database.NotHere"]):
        call_command("migrate", "outwork", database="other", verbosity=0)
        assert joined.pending() == ["0001 initial", "0002 outbox", "0003 bound"]
        assert choose("DatabaseBackend").database == "other"
    call_command("migrate", "outwork", "zero", database="other", verbosity=0)
    call_command("migrate", "outwork", database="other", verbosity=0)
    assert joined.pending() == []


def test_missing_tables_are_said_at_the_enqueue(choose: Choose) -> None:
    call_command("migrate", "outwork", "zero", database="other", verbosity=0)
    choose("DatabaseBackend", database="other")
    try:
        with pytest.raises(SchemaError, match=r"manage\.py migrate"):
            tasks.add.enqueue(1)
        with pytest.raises(CommandError, match=r"manage\.py migrate --database other"):
            call_command("outwork_worker")
    finally:
        call_command("migrate", "outwork", database="other", verbosity=0)


# ---- pruning ---------------------------------------------------------------------------------------------------------


def prune(*words: str) -> str:
    """What the command says."""
    out = StringIO()
    call_command("outwork_prune", *words, stdout=out)
    return out.getvalue()


def test_row_A4_two_weeks_are_kept_by_default() -> None:
    """What ended 13 days ago stays, and what ended 15 days ago goes; a job that runs stays, however long it does."""
    for days in (2, 13):
        young = {task.enqueue("1").id for task in (tasks.echo, tasks.fail)}
        run_jobs()
        with connection.cursor() as cursor:
            cursor.execute("UPDATE outwork_ended SET finished_at = finished_at - %s", [days * 86_400])
    running = tasks.add.enqueue(1)
    joined = backend_of("default").joined
    assert len(joined.exchange(new_claim_id(), [], shares("default"), 1, 1, "w").claimed) == 1
    with connection.cursor() as cursor:
        cursor.execute("UPDATE outwork_running SET started_at = 0")
        cursor.execute("UPDATE outwork_job SET enqueued_at = 0, due = 0")
    assert prune() == "2 jobs forgotten\n"
    assert {job.id for job in enqueued()} == {running.id, *young}
    running.refresh()
    assert running.status == TaskResultStatus.RUNNING


def test_row_A4_pruning() -> None:
    tasks.add.enqueue(1)
    tasks.mail.enqueue("ada")
    tasks.fail.enqueue()
    run_jobs()
    waiting = tasks.add.enqueue(2)
    assert prune() == "0 jobs forgotten\n"
    age = 10 * 86_400
    with connection.cursor() as cursor:
        cursor.execute("UPDATE outwork_ended SET finished_at = finished_at - %s", [age])
    assert prune("--min-age-days", "5", "--dry-run") == "3 jobs would be forgotten\n"
    assert prune("--min-age-days", "5", "--failed-min-age-days", "20", "--queue-name", "mail") == "1 job forgotten\n"
    assert prune("--min-age-days", "5", "--failed-min-age-days", "20") == "1 job forgotten\n"
    assert prune("--min-age-days", "5") == "1 job forgotten\n"
    assert [job.id for job in enqueued()] == [waiting.id]


def test_finished_jobs_are_kept_for_two_weeks() -> None:
    tasks.add.enqueue(1)
    run_jobs()
    with connection.cursor() as cursor:
        cursor.execute("SELECT prune_at - finished_at FROM outwork_ended")
        [kept] = cursor.fetchone()
    assert kept == pytest.approx(14 * 86_400)


# ---- for users' tests ------------------------------------------------------------------------------------------------


def test_assertions() -> None:
    tasks.add.enqueue(1, y=2)
    assert assert_enqueued(tasks.add).args == [1]
    assert_enqueued(tasks.add, 1, y=2)
    assert_not_enqueued(tasks.add, 3)
    assert_not_enqueued(tasks.mail)
    with pytest.raises(
        AssertionError, match=r"kiosk.tasks.add\(3\) was not enqueued. Enqueued were:\n  kiosk.tasks.add\(1"
    ):
        assert_enqueued(tasks.add, 3)
    with pytest.raises(AssertionError, match="was enqueued"):
        assert_not_enqueued(tasks.add)
