"""The project of this folder, in this process; skipped where Django (or, on 5.2, its backport) is not installed."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kiosk_project.running import Project

HERE = Path(__file__).parent
PREFIX = "outwork.contrib.django."
TABLES = (
    *(
        f"outwork_{name}"
        for name in ("ready", "scheduled", "running", "ended", "job", "worker", "bound", "cell", "unsent")
    ),
    "kiosk_order",
)
collect_ignore_glob: list[str] = []


def _missing() -> str | None:
    try:
        import django
    except ImportError:
        return "Django is not installed"
    if django.VERSION < (6,):
        try:
            import django_tasks  # noqa: F401
        except ImportError:
            return "Django before 6.0 needs its backport: pip install django-tasks"
    return None


MISSING = _missing()
if MISSING:
    collect_ignore_glob.append("test_*.py")
    if os.environ.get("CI", "").lower() == "true":
        raise RuntimeError(MISSING)
else:
    sys.path.append(str(HERE))
    _folder = tempfile.mkdtemp(prefix="outwork-django-")
    atexit.register(shutil.rmtree, _folder, ignore_errors=True)
    os.environ["KIOSK_FOLDER"] = _folder
    os.environ["KIOSK_PRAGMAS"] = "PRAGMA synchronous=OFF"
    os.environ["DJANGO_SETTINGS_MODULE"] = "kiosk_project.settings"
    import django

    django.setup()
    for name in [name for name in os.environ if name.startswith(("DJANGO_", "KIOSK_"))]:
        del os.environ[name]  # other tests start processes, too


@pytest.fixture(scope="session")
def tables() -> None:
    """The project's tables, in the files of this run."""
    from django.core.management import call_command

    for alias in ("default", "other"):
        call_command("migrate", database=alias, verbosity=0)


@pytest.fixture
def database(tables: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Empty tables, and the outer world of Django's tests."""
    from django.core import mail
    from django.db import connections
    from django.test.utils import setup_test_environment, teardown_test_environment

    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "kiosk_project.settings")
    setup_test_environment()
    assert mail.outbox == []
    yield
    for alias in ("default", "other"):
        with connections[alias].cursor() as cursor:
            for table in TABLES:
                cursor.execute(f"DELETE FROM {table}")
    teardown_test_environment()
    connections.close_all()


@pytest.fixture
def choose(database: None) -> Iterator[Callable[..., Any]]:
    """Choose the backend of this test by its class' name (or path); the backend object is returned."""
    from django.test import override_settings
    from kiosk.api import task_backends

    chosen: list[Any] = []

    def use(
        backend: str, queues: list[str] | None = None, others: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        path = backend if "." in backend else PREFIX + backend
        tasks = {"default": {"BACKEND": path, "QUEUES": queues or [], "OPTIONS": options}, **(others or {})}
        override = override_settings(TASKS=tasks)
        override.enable()
        chosen.append(override)
        return task_backends["default"]

    yield use
    for override in reversed(chosen):
        override.disable()


@pytest.fixture(scope="session")
def session_environ() -> dict[str, str]:
    """The environment of another process with this project."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OUTWORK_", "KIOSK_"))}
    return clean | {
        "DJANGO_SETTINGS_MODULE": "kiosk_project.settings",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
        "PYTHONWARNINGS": "error",
        "KIOSK_TASKS": json.dumps({"default": {"BACKEND": PREFIX + "DatabaseBackend", "QUEUES": []}}),
    }


@pytest.fixture
def environ(session_environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The same, its files in a folder of its own."""
    return session_environ | {"KIOSK_FOLDER": str(tmp_path)}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, session_environ: dict[str, str]) -> Path:
    """A migrated file, to be copied."""
    from kiosk_project.running import Database, Project

    folder = tmp_path_factory.mktemp("template")
    database = Database.file(folder)
    Project(folder, session_environ | {"KIOSK_FOLDER": str(folder)}, database).run("migrate", "-v0")
    return Path(database.settings["NAME"])


@pytest.fixture
def project(tmp_path: Path, environ: dict[str, str], template: Path) -> Iterator[Project]:
    """The project on a SQLite file."""
    from kiosk_project.running import Database, Project

    project = Project(tmp_path, environ, Database.file(tmp_path, template))
    yield project
    project.clean_up()


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def anywhere(
    request: pytest.FixtureRequest, tmp_path: Path, environ: dict[str, str], template: Path
) -> Iterator[Project]:
    """The project on each kind of database."""
    from kiosk_project.running import Database, Project

    if request.param == "sqlite":
        project = Project(tmp_path, environ, Database.file(tmp_path, template))
    else:
        from kiosk_project import servers

        make = servers.postgresql if request.param == "postgresql" else servers.mariadb
        project = Project(tmp_path, environ, make("kiosk_worker"))
        project.run("migrate", "-v0")
    yield project
    project.clean_up()
