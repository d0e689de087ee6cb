"""What our management commands share."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError, SystemCheckError

from outwork.contrib.django.compat import InvalidTaskBackend, task_backends
from outwork.errors import BrokerUnavailable, OutworkError, SettingsError

if TYPE_CHECKING:
    from outwork.contrib.django.backends import OutworkBackend


@contextmanager
def complaining() -> Iterator[None]:
    """Our errors as CommandError: one line, and the exit codes of `outwork` (2: usage or configuration, 3: broker
    away)."""
    try:
        yield
    except BrokerUnavailable as error:
        raise CommandError(str(error), returncode=3) from error
    except SettingsError as error:
        raise CommandError(str(error), returncode=2) from error
    except OutworkError as error:
        raise CommandError(str(error), returncode=1) from error


class CheckedCommand(BaseCommand):
    """One that ends with 2 where the system checks refuse the settings, as it does where it refuses them itself."""

    def execute(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute(*args, **options)
        except SystemCheckError as error:
            error.returncode = 2
            raise
        except InvalidTaskBackend as error:
            raise CommandError(str(error), returncode=2) from error


def add_backend_option(parser: ArgumentParser) -> None:
    parser.add_argument("--backend", default="default", metavar="ALIAS", help="The alias in TASKS.  [default]")


def backend_named(alias: str) -> OutworkBackend:
    """Raises CommandError for an alias that is not there, is misspelt or is another package's."""
    from outwork.contrib.django.application import backend_of

    if alias not in task_backends.settings:
        known = ", ".join(sorted(task_backends.settings)) or "none"
        raise CommandError(f"TASKS has no backend {alias!r}. It has: {known}", returncode=2)
    try:
        return backend_of(alias)
    except (InvalidTaskBackend, TypeError) as error:
        raise CommandError(f"TASKS[{alias!r}]: {error}", returncode=2) from error


def names(words: list[str] | None) -> list[str]:
    """`--queue-name a,b --queue-name c` as a list; `*` is no restriction."""
    listed = [name.strip() for word in words or () for name in word.split(",") if name.strip()]
    return [] if "*" in listed else list(dict.fromkeys(listed))


def check_tables(backend: OutworkBackend) -> None:
    """Raises CommandError where the tables are missing or not up to date."""
    from outwork.contrib.django.backends import DatabaseBackend

    if isinstance(backend, DatabaseBackend) and (missing := backend.joined.pending()):
        raise CommandError(
            f"the database {backend.database!r} lacks tables of Outwork ({', '.join(missing)}). Create them:  "
            f"manage.py migrate --database {backend.database}",
            returncode=2,
        )


def settings_module() -> str:
    """Raises CommandError where other processes could not know the settings."""
    named = os.environ.get("DJANGO_SETTINGS_MODULE")
    if not named:
        raise CommandError(
            "the worker's processes find Django's settings by DJANGO_SETTINGS_MODULE, which is not set", returncode=2
        )
    return named


def end(code: int) -> Any:
    """End the command with an exit code."""
    if code:
        raise SystemExit(code)
