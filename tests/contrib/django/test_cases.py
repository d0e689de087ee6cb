"""DatabaseBackend in the test cases of Django."""

from __future__ import annotations

import pytest
from django.test import TestCase, TransactionTestCase, override_settings
from kiosk import tasks
from kiosk.models import Order

from outwork.contrib.django.testing import TaskAssertions

pytestmark = pytest.mark.usefixtures("tables")


class InATestCase(TaskAssertions, TestCase):
    def test_first(self) -> None:
        tasks.save.enqueue("one")
        self.assertEnqueued(tasks.save, "one")
        assert self.runJobs() == 1
        assert Order.objects.get().name == "one"

    def test_second(self) -> None:
        self.assertNotEnqueued(tasks.save)
        assert Order.objects.count() == 0

    def test_callbacks(self) -> None:
        path = "outwork.contrib.django.OutworkBackend"
        with override_settings(
            TASKS={"default": {"BACKEND": path, "QUEUES": [], "OPTIONS": {"broker_url": "thread:"}}}
        ):
            with self.captureOnCommitCallbacks() as callbacks:
                tasks.noop.enqueue()
            assert len(callbacks) == 1
            self.assertNotEnqueued(tasks.noop)


class InATransactionTestCase(TaskAssertions, TransactionTestCase):
    def test_first(self) -> None:
        tasks.save.enqueue("one")
        assert self.runJobs() == 1

    def test_second(self) -> None:
        self.assertNotEnqueued(tasks.save)
