"""The command line as users meet it: real processes, a real file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Outwork = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def outwork(tmp_path: Path) -> Outwork:
    """Run `python -m outwork` in an empty directory, with nothing on its stdin."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OUTWORK_")}

    def run(*words: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "outwork", *words],
            cwd=tmp_path,
            env=clean | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr + done.stdout
        return done

    return run


def test_the_first_minute(outwork: Outwork, tmp_path: Path) -> None:
    outwork("init")
    job_id = outwork("enqueue", "tasks.greet", "Ada", "times=2").stdout.split()[1]
    listed = json.loads(outwork("jobs", "ls", "--json").stdout)["jobs"]
    assert [(job["id"], job["task"], job["state"]) for job in listed] == [(job_id, "tasks.greet", "READY")]
    assert f"broker  sqlite:///{tmp_path}/outwork.db" in outwork("status").stdout
    drained = outwork("worker", "--drain")
    assert job_id in drained.stderr
    shown = json.loads(outwork("jobs", "show", job_id, "--payload", "--json").stdout)
    assert (shown["state"], shown["result"]) == ("SUCCESSFUL", "hello Ada hello Ada ")
    assert "no terminal" in outwork("jobs", "delete", job_id, code=2).stderr
    assert outwork("jobs", "delete", job_id, "--yes").stdout == "1 job deleted\n"


def test_migrations_are_checked_made_and_shown(outwork: Outwork) -> None:
    outwork("init")
    assert "steps to do; run:  outwork migrate" in outwork("migrate", "--check", code=1).stdout
    assert "applied" in outwork("migrate").stdout
    assert "is up to date" in outwork("migrate", "--check").stdout
    assert "is up to date" in outwork("migrate").stdout


def test_a_module_that_fails_shows_its_own_traceback(outwork: Outwork, tmp_path: Path) -> None:
    outwork("init")
    (tmp_path / "tasks.py").write_text("import shop_that_is_missing\n")
    for words in (["worker"], ["tasks"], ["enqueue", "greet"]):
        stderr = outwork(*words, code=2).stderr
        assert 'cannot load "tasks": it fails while it is imported' in stderr
        assert f'File "{tmp_path}/tasks.py", line 1' in stderr
        assert "No module named 'shop_that_is_missing'" in stderr


def test_a_wrong_module_is_two(outwork: Outwork) -> None:
    outwork("init")
    assert "(did you mean tasks?)" in outwork("worker", "taks", code=2).stderr


def test_no_broker_is_two(outwork: Outwork, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("")
    assert "OW132 no broker is configured" in outwork("worker", code=2).stderr


def test_a_file_that_is_no_database_is_left_alone(outwork: Outwork, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("not a database " * 100)
    stderr = outwork("status", "--broker", "sqlite:///notes.txt", code=1).stderr
    assert "is not a SQLite database" in stderr
    assert stderr.count("\n") == 1
    assert notes.read_text() == "not a database " * 100


def test_help_loads_no_driver_and_no_project(outwork: Outwork, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("raise SystemExit('loaded')\n")
    (tmp_path / "outwork.toml").write_text("not toml\n")
    for words in (["--help"], ["worker", "-h"]):
        assert "Usage: python -m outwork" in outwork(*words).stdout
    script = "import sys, outwork.cli; print({'sqlite3', 'rich', 'tomllib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"


def test_text_is_plain_where_nobody_looks(outwork: Outwork) -> None:
    outwork("init")
    assert "\x1b" not in outwork("tasks").stdout
    assert "\x1b" in outwork("tasks", FORCE_COLOR="1").stdout
    assert "\x1b" not in outwork("tasks", FORCE_COLOR="1", NO_COLOR="1").stdout


def test_symbols_fit_the_encoding(outwork: Outwork) -> None:
    outwork("init")
    assert "-> queue default" in outwork("enqueue", "greet", "Ada", PYTHONIOENCODING="ascii", PYTHONUTF8="0").stdout
