"""DatabaseBackend in the test cases of Django."""

from __future__ import annotations

import tempfile

import pytest
from django.db import transaction
from django.test import TestCase, TransactionTestCase, override_settings
from kiosk import tasks
from kiosk.models import Order

from outwork.contrib.django import app_of, options
from outwork.contrib.django.testing import TaskAssertions, enqueued
from outwork.contrib.mail import Mail, Mailer, MailSettings
from support.mail_server import MailServer

PREFIX = "outwork.contrib.django."
pytestmark = pytest.mark.usefixtures("tables")


class InATestCase(TaskAssertions, TestCase):
    def test_first(self) -> None:
        tasks.save.enqueue("one")
        self.assertEnqueued(tasks.save, "one")
        assert self.runJobs() == 1
        assert Order.objects.get().name == "one"

    def test_a_ready_made_task(self) -> None:
        """It is no task of Django's: its jobs are in the transaction, run, and shown all the same."""
        server = MailServer()
        try:
            mailer = Mailer(MailSettings(host="127.0.0.1", port=server.port, sender="a@example.org"), app=app_of())
            [sent] = mailer.send(Mail(to="ada@example.org", subject="Hello", text="Hello"))
            [shown] = enqueued()
            assert (shown.id, shown.task.module_path, shown.status) == (sent.id, "outwork.mail", "READY")
            assert self.runJobs() == 1
            assert len(server.mails) == 1
            [shown] = enqueued()
            assert (shown.status, shown.return_value) == ("SUCCESSFUL", "2.0.0 queued as 1")
        finally:
            server.stop()

    def test_second(self) -> None:
        self.assertNotEnqueued(tasks.save)
        assert Order.objects.count() == 0

    def test_callbacks(self) -> None:
        """With a broker elsewhere the job is sent where the test lets the transaction's callbacks run."""
        with tempfile.TemporaryDirectory() as folder:
            tasks_elsewhere = {
                "BACKEND": PREFIX + "OutworkBackend",
                "OPTIONS": {"broker_url": f"sqlite:///{folder}/j.db"},
            }
            with override_settings(TASKS={"default": {"QUEUES": [], **tasks_elsewhere}}):
                with self.captureOnCommitCallbacks() as callbacks:
                    tasks.noop.enqueue()
                assert len(callbacks) == 1
                self.assertNotEnqueued(tasks.noop)
                with self.captureOnCommitCallbacks(execute=True):
                    result = tasks.add.enqueue(1)
                self.assertEnqueued(tasks.add, 1)
                assert self.runJobs() == 1
                result.refresh()
                assert result.return_value == 2

    def test_a_unique_job(self) -> None:
        """The transaction of a test is no reason to wait; one in it is."""
        only = options(unique=True)(tasks.add)
        assert only.enqueue(1).id == only.enqueue(1).id
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            first, second = only.enqueue(2), only.enqueue(2)
        assert first.id == second.id
        assert self.runJobs() == 2

    def test_other_backends(self) -> None:
        with override_settings(TASKS={"default": {"BACKEND": PREFIX + "DummyBackend", "QUEUES": []}}):
            tasks.save.enqueue("one")
            self.assertEnqueued(tasks.save, "one")
            self.assertNotEnqueued(tasks.save, "two")
        with override_settings(TASKS={"default": {"BACKEND": PREFIX + "ImmediateBackend", "QUEUES": []}}):
            tasks.save.enqueue("two")
        self.assertNotEnqueued(tasks.save)
        assert [order.name for order in Order.objects.all()] == ["two"]


class InATransactionTestCase(TaskAssertions, TransactionTestCase):
    def test_first(self) -> None:
        tasks.save.enqueue("one")
        assert self.runJobs() == 1

    def test_second(self) -> None:
        self.assertNotEnqueued(tasks.save)
