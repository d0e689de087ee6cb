"""The outbox: what is enqueued in a transaction reaches a broker elsewhere, whatever dies or is away at the commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.test import modify_settings
from kiosk import tasks
from kiosk.api import TaskResultStatus, task_enqueued

from outwork.contrib.django.models import Unsent
from outwork.contrib.django.testing import enqueued
from outwork.errors import BrokerUnavailable, Duplicate

Choose = Callable[..., Any]
Backend = Any


@pytest.fixture
def backend(choose: Choose, tmp_path: Path) -> Iterator[Backend]:
    """One whose jobs are in another file."""
    backend = choose("OutworkBackend", broker_url=f"sqlite:///{tmp_path}/tasks.db")
    yield backend
    backend.close()


class Away:
    """The broker of a backend, which can be away."""

    def __init__(self, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: list[Any] | None = None
        monkeypatch.setattr(backend.app.broker, "enqueue", self.enqueue)

    def enqueue(self, jobs: Sequence[Any]) -> list[Any]:
        if self.answers is None:
            raise BrokerUnavailable("nobody is there")
        return self.answers


def kept() -> list[str]:
    return [row.pk for row in Unsent.objects.order_by("pk")]


def make_due() -> None:
    """As if the thirty seconds of whoever enqueued were over."""
    Unsent.objects.update(send_at=0.0)


def test_a_row_of_the_transaction_until_the_broker_has_the_job(backend: Backend) -> None:
    with transaction.atomic():
        result = tasks.add.enqueue(1, y=2)
        assert kept() == [result.id]
        seen = tasks.add.get_result(result.id)
        assert (seen.status, seen.args, seen.kwargs, seen.task) == (TaskResultStatus.READY, [1], {"y": 2}, tasks.add)
        assert enqueued() == []
    assert [job.id for job in enqueued()] == [result.id]
    assert kept() == []


def test_nothing_of_what_is_rolled_back(backend: Backend) -> None:
    with transaction.atomic():
        tasks.add.enqueue(1)
        with transaction.atomic():
            tasks.add.enqueue(2)
            transaction.set_rollback(True)
    with transaction.atomic():
        tasks.add.enqueue(3)
        transaction.set_rollback(True)
    with transaction.atomic():
        tasks.add.enqueue(4)
    assert [job.args for job in enqueued()] == [[1], [4]]
    assert kept() == []


def test_a_transaction_is_sent_together(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    broker, sizes = backend.app.broker, []

    def enqueue(jobs: Sequence[Any]) -> list[Any]:
        sizes.append(len(jobs))
        return type(broker).enqueue(broker, jobs)

    monkeypatch.setattr(broker, "enqueue", enqueue)
    with transaction.atomic():
        results = [tasks.add.enqueue(number) for number in range(5)]
        with transaction.atomic():
            tasks.add.enqueue(5)
            transaction.set_rollback(True)
    assert sizes == [5]
    assert all(result.enqueued_at for result in results)
    assert [job.id for job in enqueued()] == [result.id for result in results]
    assert kept() == []


def test_a_broker_that_is_away_gets_it_later(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def hear(task_result: Any, **named: Any) -> None:
        told.append(task_result.id)

    task_enqueued.connect(hear)
    caplog.set_level(logging.WARNING, "outwork.django")
    with monkeypatch.context() as patch:
        Away(backend, patch)
        with transaction.atomic():
            result = tasks.add.enqueue(1)
            tasks.add.enqueue(2)
        assert result.enqueued_at is not None
        assert told[0] == result.id
        assert [record.getMessage() for record in caplog.records] == [
            f"jobs wait in the database 'default' until {backend.app.broker.url} takes them: OW107 nobody is there"
        ]
        make_due()
        backend.app.outbox.send_old()
        assert len(kept()) == 2
    backend.app.outbox.send_old()  # it was tried a moment ago
    assert enqueued() == []
    make_due()
    backend.app.outbox.send_old()
    task_enqueued.disconnect(hear)
    assert [job.args for job in enqueued()] == [[1], [2]]
    assert kept() == []


def test_what_is_refused_at_the_commit_is_said(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    away = Away(backend, monkeypatch)
    away.answers = [Duplicate("another one has the key")]
    with pytest.raises(Duplicate), transaction.atomic():
        tasks.add.enqueue(1)
    assert kept() == []


def test_what_is_sent_already_is_not_run_again(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(backend.app.outbox, "_remove", lambda ids: None)  # it died between the send and this
        with transaction.atomic():
            result = tasks.add.enqueue(1)
    assert kept() == [result.id]
    make_due()
    backend.app.outbox.send_old()
    assert kept() == []
    assert [job.id for job in enqueued()] == [result.id]


def test_a_keeper_waits_for_its_database(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def take() -> Any:
        raise OperationalError("it is away")

    monkeypatch.setattr(backend.app.outbox, "_take", take)
    assert not backend.app.outbox.send_old()
    assert not backend.app.outbox.send_old()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["the outbox in the database 'default' cannot be looked at: it is away"]


def test_only_where_there_is_a_transaction_to_wait_for(choose: Choose, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tasks.db"
    choose("OutworkBackend", broker_url=url, enqueue_on_commit=False)
    with transaction.atomic():
        tasks.add.enqueue(1)
        assert kept() == []
    choose("DatabaseBackend")
    with transaction.atomic():
        tasks.add.enqueue(2)
        assert kept() == []
    choose("DatabaseBackend", database="other")
    with transaction.atomic():
        result = tasks.add.enqueue(3)
        assert kept() == [result.id]
    assert kept() == []


def test_without_the_application_it_is_sent_at_the_commit(choose: Choose, tmp_path: Path) -> None:
    with modify_settings(INSTALLED_APPS={"remove": ["outwork.contrib.django"]}):
        choose("OutworkBackend", broker_url=f"sqlite:///{tmp_path}/tasks.db")
        with transaction.atomic():
            tasks.add.enqueue(1)
            assert not Unsent.objects.exists()
        assert [job.args for job in enqueued()] == [[1]]


def test_a_missing_table_is_said(choose: Choose, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from django.core.checks import run_checks
    from django.core.management import call_command

    choose("OutworkBackend", broker_url=f"sqlite:///{tmp_path}/tasks.db", database="other")
    call_command("migrate", "outwork", "0003", database="other", verbosity=0)
    try:
        warnings = [message.id for message in run_checks(databases=["other"])]
        with transaction.atomic(using="other"):
            tasks.add.enqueue(1)
            tasks.add.enqueue(2)
    finally:
        call_command("migrate", "outwork", database="other", verbosity=0)
    assert "outwork.W004" in warnings
    assert [job.args for job in enqueued()] == [[1], [2]]
    assert sum("manage.py migrate --database other" in line.getMessage() for line in caplog.records) == 1
    assert "outwork.W004" not in [message.id for message in run_checks(databases=["other"])]
