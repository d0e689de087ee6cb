"""How ready-made tasks are enqueued: from coroutines, later, in a transaction, together with others."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from outwork import Outwork
from outwork.brokers.base import Filter
from outwork.contrib.mail import Mail, Mailer, MailSettings
from outwork.contrib.provisioning import Provisioning, ProvisioningSettings, ScimClient
from outwork.contrib.sms import Sms, SmsSettings, Texter
from outwork.contrib.webhook import Webhooks, WebhookSettings, new_secret
from outwork.testing import LocalWorker, local_worker

MAIL = Mail(to=["ada@example.org", "bob@example.org"], subject="Hello", text="Hello")
SMS = Sms(to="+491701234567", text="x" * 200)
URL = "https://hooks.example.org/"


class Ready:
    """All four, for one application."""

    def __init__(self, app: Outwork) -> None:
        clients = {"wiki": ScimClient(url="https://wiki.example.org/scim")}
        self.mailer = Mailer(MailSettings(sender="shop@example.org"), app=app, queue_name="mail")
        self.texter = Texter(SmsSettings(host="127.0.0.1", sender="Shop"), app=app)
        self.webhooks = Webhooks(WebhookSettings(secret=new_secret()), app=app)
        self.provisioning = Provisioning(lambda *asked: None, ProvisioningSettings(clients=clients), app=app)


@pytest.fixture
def app() -> Outwork:
    return Outwork()


@pytest.fixture
def ready(app: Outwork) -> Ready:
    return Ready(app)


@pytest.fixture
def worker(app: Outwork) -> Iterator[LocalWorker]:
    with local_worker(app) as worker:
        yield worker


NAMES = ["outwork.mail"] * 2 + ["outwork.sms"] * 2 + ["outwork.webhook", "outwork.provisioning"]


def test_from_a_coroutine(ready: Ready, worker: LocalWorker) -> None:
    async def enqueue() -> list[Any]:
        return [
            *await ready.mailer.asend(MAIL),
            *await ready.texter.asend(SMS),
            await ready.webhooks.asend(URL, {}),
            *await ready.provisioning.achanged("user", "u1"),
        ]

    results = asyncio.run(enqueue())
    assert [result.id for result in results] == [job.id for job in worker.jobs]
    assert [job.task_name for job in worker.jobs] == NAMES
    assert {job.queue_name for job in worker.jobs[:2]} == {"mail"}


def test_later(ready: Ready, worker: LocalWorker) -> None:
    hour = timedelta(hours=1)
    ready.mailer.send(MAIL, run_after=hour)
    ready.texter.send(SMS, run_after=hour)
    ready.webhooks.send(URL, {}, run_after=hour)
    ready.provisioning.changed("user", "u1", run_after=hour)
    assert [(job.task_name, job.run_after) for job in worker.jobs] == [(name, 3600.0) for name in NAMES]


def test_together_with_others(app: Outwork, ready: Ready, worker: LocalWorker) -> None:
    calls: list[Any] = [*ready.mailer.calls(MAIL), *ready.texter.calls(SMS), ready.webhooks.call(URL, {})]
    app.enqueue_many([*calls, *ready.provisioning.calls("user", "u1")])
    assert [job.task_name for job in worker.jobs] == NAMES


def test_in_the_transaction_of_the_change(tmp_path: Path) -> None:
    app = Outwork(f"sqlite:///{tmp_path}/tasks.db")
    ready = Ready(app)
    connection = sqlite3.connect(tmp_path / "tasks.db")
    try:
        assert len(app.store.find(Filter()).records) == 0
        for commit in (False, True):
            ready.mailer.send(MAIL, connection=connection)
            ready.texter.send(SMS, connection=connection)
            ready.webhooks.send(URL, {}, connection=connection)
            ready.provisioning.changed("user", "u1", connection=connection)
            if commit:
                connection.commit()
            else:
                connection.rollback()
            assert len(app.store.find(Filter()).records) == (6 if commit else 0)
    finally:
        connection.close()
        app.close()
