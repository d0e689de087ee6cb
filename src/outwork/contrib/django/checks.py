"""System checks: what is wrong with the settings of a backend, before anything is enqueued."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core import checks, mail
from django.db import connections

from outwork.contrib.django.compat import NATIVE, InvalidTaskBackend, task_backends
from outwork.errors import OutworkError

if TYPE_CHECKING:
    from outwork.contrib.django.backends import OutworkBackend


def register() -> None:
    checks.register(check_surroundings)
    if not NATIVE and not apps.is_installed("django_tasks"):
        checks.register(check_backends)  # otherwise the task API does it
    checks.register(check_databases, checks.Tags.database)


def check_backend(backend: OutworkBackend) -> Iterator[Any]:
    """What the settings of one alias say. Touches no database and connects to nothing."""
    from outwork.contrib.django.backends import OPTIONS, DatabaseBackend

    where = f"TASKS[{backend.alias!r}]"
    for name in sorted(backend.options.keys() - OPTIONS):
        close = get_close_matches(name, OPTIONS, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known options: {', '.join(sorted(OPTIONS))}."
        yield checks.Error(f"{where}: unknown option {name!r}.", hint=hint, id="outwork.E001")
    try:
        backend.probe().close()
    except OutworkError as error:
        said = str(error)
        yield checks.Error(said if where in said else f"{where}: {said}", id="outwork.E002")
        return
    if isinstance(backend, DatabaseBackend):
        yield from _check_database_backend(backend, where)
    if backend.runs_in == "embedded" and hasattr(mail, "outbox"):
        yield checks.Warning(
            f"{where}: in tests the tasks of this backend run on other threads, which do not see the "
            "test's transaction.",
            hint="Use outwork.contrib.django.ImmediateBackend or DummyBackend in the settings of your tests.",
            id="outwork.W001",
        )


def _check_database_backend(backend: Any, where: str) -> Iterator[Any]:
    from outwork.contrib.django.database import VENDORS

    if not apps.is_installed("outwork.contrib.django"):
        yield checks.Error(
            f"{where}: DatabaseBackend needs its tables.",
            hint="Add 'outwork.contrib.django' to INSTALLED_APPS and run:  manage.py migrate",
            id="outwork.E003",
        )
        return
    alias = backend.database
    if alias not in connections:
        yield checks.Error(
            f"{where}: OPTIONS['database'] names {alias!r}, which is not in DATABASES.", id="outwork.E004"
        )
    elif connections[alias].vendor not in VENDORS:
        yield checks.Error(
            f"{where}: there is no broker for {connections[alias].display_name} (the database {alias!r}).",
            hint=f"Use one of {', '.join(VENDORS)}, or OutworkBackend with a broker_url.",
            id="outwork.E005",
        )


def check_backends(app_configs: Sequence[Any] | None = None, **named: Any) -> Iterable[Any]:
    for alias in task_backends:
        try:
            backend = task_backends[alias]
        except InvalidTaskBackend as error:
            yield checks.Error(f"TASKS[{alias!r}]: {error}", id="outwork.E006")
        else:
            yield from backend.check()


def _backends() -> Iterator[Any]:
    """Those that can be made; of the others another check says why not."""
    for alias in task_backends:
        with suppress(InvalidTaskBackend):
            yield task_backends[alias]


def check_surroundings(app_configs: Sequence[Any] | None = None, **named: Any) -> Iterable[Any]:
    if NATIVE and apps.is_installed("django_tasks"):
        yield checks.Warning(
            "django_tasks is installed beside Django's own tasks: a task made with its decorator is not one of "
            "django.tasks, and Outwork's backends refuse it.",
            hint="Write `from django.tasks import task`, and remove django_tasks from INSTALLED_APPS.",
            id="outwork.W002",
        )


def check_databases(databases: Sequence[str] | None = None, **named: Any) -> Iterable[Any]:
    """What a look into the databases shows (`manage.py check --database default`)."""
    from outwork.contrib.django.backends import DatabaseBackend

    backends = list(_backends())
    yield from _check_outboxes(backends, {*(databases or ())})
    used = {backend.database for backend in backends if isinstance(backend, DatabaseBackend)}
    for alias in sorted(used & {*(databases or ())}):
        connection = connections[alias]
        if connection.vendor != "sqlite" or connection.is_in_memory_db():
            continue
        with connection.cursor() as cursor:
            mode = cursor.execute("PRAGMA journal_mode").fetchone()[0]
        if mode.lower() != "wal":
            yield checks.Warning(
                f"the SQLite database {alias!r} is in journal mode {mode!r}: while a task writes, nobody can read, and "
                "the other way round.",
                hint="Once:  sqlite3 FILE 'PRAGMA journal_mode=WAL'  or, in DATABASES: "
                "OPTIONS={'init_command': 'PRAGMA journal_mode=WAL', 'transaction_mode': 'IMMEDIATE'}",
                id="outwork.W003",
            )


def _check_outboxes(backends: Sequence[Any], databases: set[str]) -> Iterator[Any]:
    from outwork.contrib.django.backends import OutworkBackend

    for backend in backends:
        try:
            outbox = backend.app.outbox if isinstance(backend, OutworkBackend) else None
        except OutworkError:
            continue  # its settings are wrong, as another check says
        if outbox is not None and outbox.using in databases and outbox.is_missing():
            yield checks.Warning(
                f"TASKS[{backend.alias!r}]: the database {outbox.using!r} lacks the table outwork_unsent, so a job "
                "is lost if its process dies between the commit and the send.",
                hint=f"manage.py migrate --database {outbox.using}",
                id="outwork.W004",
            )
