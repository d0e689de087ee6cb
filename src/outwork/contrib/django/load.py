"""What a worker process loads: `outwork.contrib.django.load:alias_ALIAS` is the application of that alias in `TASKS`.

It sets Django up (`DJANGO_SETTINGS_MODULE`), imports the `tasks` module of every installed application, and answers
with the application. In a process where that was done before, the application is an attribute here: that is how a
worker inside the web process finds out what its child processes have to load.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import outwork
from outwork.errors import CannotLoad
from outwork.loading import own_frames

if TYPE_CHECKING:
    from outwork.contrib.django.application import Application


PREFIX: Final = "alias_"


def target_of(alias: str) -> str:
    """What `outwork -A` takes. Raises ValueError for an alias that cannot be written there."""
    if not alias or set(alias) & set(".: ,"):
        raise ValueError(
            f"the alias {alias!r} has a dot, a colon, a comma or a space in it: a worker cannot be told of it"
        )
    return f"{__name__}:{PREFIX}{alias}"


def __getattr__(name: str) -> Callable[[], Application]:
    alias = name.removeprefix(PREFIX)
    if alias == name:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def load() -> Application:
        import django
        from django.apps import apps

        if not apps.ready:
            django.setup()
            _quieten()
        return loaded(alias)

    return load


def _quieten() -> None:
    """The worker says itself how each task went: Django's lines about it only where the project asks for them."""
    for name in ("django.tasks", "django_tasks"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET and not logger.handlers:
            logger.setLevel(logging.WARNING)


def loaded(alias: str) -> Application:
    """The application of an alias, with all tasks that Django's applications declare in their `tasks` modules.

    Raises CannotLoad where one of them cannot be imported.
    """
    import django
    from django.utils.module_loading import autodiscover_modules

    from outwork.contrib.django.application import backend_of
    from outwork.contrib.django.compat import Task

    try:
        autodiscover_modules("tasks")
    except Exception as error:
        packages = [os.path.dirname(str(module.__file__)) for module in (outwork, django, sys.modules[Task.__module__])]
        said = own_frames(error, "<string>", str(dataclasses.__file__), *packages)
        raise CannotLoad(f"the tasks of Django's applications cannot be imported:\n{said}") from error
    return backend_of(alias).app


def hand_down(environ: dict[str, str] | Any = os.environ) -> None:
    """Let processes that this one starts import what it can: `manage.py` need not be in the current directory."""
    roots = (sys.prefix, sys.base_prefix, sys.exec_prefix)
    own = [os.path.abspath(path or os.curdir) for path in sys.path if not path.startswith(roots)]
    inherited = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*own, *inherited]))
