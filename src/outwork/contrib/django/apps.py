"""`INSTALLED_APPS = ["outwork.contrib.django"]`."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core.signals import request_started


class OutworkConfig(AppConfig):
    """Tables by `migrate`, the admin, the management commands, the system checks."""

    name = "outwork.contrib.django"
    label = "outwork"
    verbose_name = "Outwork"

    def ready(self) -> None:
        from django.db.models.signals import post_migrate

        from outwork.contrib.django import checks, tables

        checks.register()
        post_migrate.connect(tables.after_migrate, sender=self, dispatch_uid="outwork.contrib.django")
        request_started.connect(start_embedded_workers, dispatch_uid="outwork.contrib.django")


def start_embedded_workers(**named: Any) -> None:
    """A request has come, so this process serves: where tasks run inside it, their worker starts now."""
    from outwork.contrib.django.application import all_applications

    for app in all_applications():
        app.start_worker(serving=True)
