"""Outwork behind Django's own task API: `django.tasks` of Django 6, the `django_tasks` backport on Django 5.2.

    INSTALLED_APPS = [..., "outwork.contrib.django"]
    TASKS = {"default": {"BACKEND": "outwork.contrib.django.DatabaseBackend"}}

Then `manage.py migrate` and `manage.py outwork_worker`. Nothing of Django is imported before a name is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from outwork.contrib.django.application import app_of
    from outwork.contrib.django.backends import (
        DatabaseBackend,
        DummyBackend,
        ImmediateBackend,
        OutworkBackend,
        ProcessPoolBackend,
        RabbitMQBackend,
        RedisBackend,
        ThreadPoolBackend,
    )
    from outwork.contrib.django.compat import task
    from outwork.contrib.django.tasks import OutworkTask, options

_HOMES: Final = {
    "OutworkTask": "outwork.contrib.django.tasks",
    "app_of": "outwork.contrib.django.application",
    "options": "outwork.contrib.django.tasks",
    "task": "outwork.contrib.django.compat",
}

__all__ = [
    "DatabaseBackend",
    "DummyBackend",
    "ImmediateBackend",
    "OutworkBackend",
    "OutworkTask",
    "ProcessPoolBackend",
    "RabbitMQBackend",
    "RedisBackend",
    "ThreadPoolBackend",
    "app_of",
    "options",
    "task",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "outwork.contrib.django.backends")), name)
