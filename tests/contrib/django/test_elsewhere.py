"""The tests that need a database, on PostgreSQL and MariaDB; all of them on another Django."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kiosk_project import servers

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def run(python: str, environ: dict[str, str], *words: str) -> None:
    """Run tests of this folder in a process of their own."""
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", *words],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


WITH_A_WORKER = "(row_A4_a_batch or row_A7_a_signal or row_A5_sigkill) and sqlite"
"""Of test_worker.py: tests that start the command as a process, to its end, to a signal and to a kill."""
ON_SERVERS = ("test_options.py", "test_database.py", "test_unsent.py", "test_cases.py", "test_commands.py")


def run_on_a_server(kind: str, python: str, environ: dict[str, str]) -> None:
    """Run the tests that need a database on this one."""
    make = {"postgresql": servers.postgresql, "mariadb": servers.mariadb}[kind]
    databases = {"default": make("kiosk").settings, "other": make("kiosk_other").settings}
    words = [*(str(HERE / name) for name in ON_SERVERS), "-k", "not where_the_task_is_declared"]  # asks no database
    run(python, environ | {"KIOSK_SMALL": "1", "KIOSK_DATABASES": json.dumps(databases)}, *words)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_on_a_server(kind: str, session_environ: dict[str, str]) -> None:
    run_on_a_server(kind, sys.executable, session_environ)


def newer_python() -> str | None:
    """An interpreter that Django 6 takes."""
    names = [shutil.which(name) for name in ("python3.14", "python3.13", "python3.12")]
    homes = sorted(Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python"), reverse=True)
    for path in [*map(str, homes), *filter(None, names)]:
        asked = [path, "-c", "import sys; print(sys.version_info >= (3, 12))"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode == 0 and done.stdout.strip() == "True":
            return path
    return None


@pytest.fixture(scope="session")
def python_with_django_6(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with Django 6: `OUTWORK_TEST_DJANGO_PYTHON`, or a new environment. Where one cannot be made the
    test is skipped, but `CI=true` takes no excuse save that there is no Python for it."""
    if ready := os.environ.get("OUTWORK_TEST_DJANGO_PYTHON"):
        return ready
    found = newer_python()
    if found is None:
        pytest.skip("Django 6 needs Python 3.12 or newer, and there is none")
    home = tmp_path_factory.mktemp("django6")
    python = str(home / "bin" / "python")
    drivers = ["redis", "psycopg[binary]", "PyMySQL"]
    packages = ["-e", str(ROOT), "django>=6", "pytest", "pytest-timeout", "aiosmtpd", *drivers]
    for command in ([found, "-m", "venv", str(home)], [python, "-m", "pip", "install", "-q", *packages]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        if done.returncode != 0:
            why = f"Django 6 cannot be installed here: {done.stderr.strip().splitlines()[-1:]}"
            (pytest.fail if os.environ.get("CI", "").lower() == "true" else pytest.skip)(why)
    return python


@pytest.mark.timeout(600)
def test_row_A2_on_django_6(python_with_django_6: str, session_environ: dict[str, str]) -> None:
    import django

    if django.VERSION >= (6,):
        pytest.skip("it is Django 6 that runs these tests")
    environ = session_environ | {"PYTHONWARNINGS": "default"}
    del environ["KIOSK_TASKS"]
    run(python_with_django_6, environ, *[str(HERE / name) for name in ("test_api.py", *ON_SERVERS)])
    run(python_with_django_6, environ, str(HERE / "test_worker.py"), "-k", WITH_A_WORKER)
    for kind in ("postgresql", "mariadb"):
        run_on_a_server(kind, python_with_django_6, environ)
