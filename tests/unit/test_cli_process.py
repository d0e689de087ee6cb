"""The command line as users meet it: real processes, a real file."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
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


@pytest.mark.parametrize("jobs", [2, 300])
def test_a_drain_on_a_terminal_says_each_of_a_few_jobs_and_shows_a_bar_for_many(
    outwork: Outwork, tmp_path: Path, jobs: int
) -> None:
    outwork("init")
    fill = f"import outwork, tasks; outwork.enqueue_many(tasks.greet.bind(str(n)) for n in range({jobs}))"
    subprocess.run([sys.executable, "-c", fill], cwd=tmp_path, check=True, timeout=60)
    terminal, end = pty.openpty()
    with subprocess.Popen([sys.executable, "-m", "outwork", "worker", "--drain"], cwd=tmp_path, stderr=end) as worker:
        os.close(end)
        said = b""
        with suppress(OSError):  # the other end is closed
            while part := os.read(terminal, 65_536):
                said += part
        assert worker.wait(60) == 0
    os.close(terminal)
    few = jobs <= 100
    assert said.decode().count("✓ tasks.greet") == (jobs if few else 0), said
    assert (f"{jobs}/{jobs}" in said.decode()) is not few, said
    assert f"stopped cleanly ({jobs} done, 0 failed, nothing left)" in said.decode()


def test_a_worker_without_tasks_says_so(outwork: Outwork, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("def sell() -> None: ...\n")
    said = outwork("worker", "shop", "--broker", "sqlite:///tasks.db", "--drain").stderr
    assert "WARNING no task is declared in what was imported" in said
    assert "name their module:  outwork worker shop.tasks" in said


def test_a_drain_that_is_stopped_does_not_say_that_nothing_is_left(outwork: Outwork, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        "import os, signal, time\nfrom outwork import task\n@task\ndef stop() -> None:\n"
        "    os.kill(int(os.environ['SUPERVISOR']), signal.SIGTERM)\n    time.sleep(60)\n"
    )
    outwork("enqueue", "stop", "--broker", "sqlite:///tasks.db")
    shell = (
        "SUPERVISOR=$$ exec " + sys.executable + " -m outwork worker --drain --grace 0.1 --broker sqlite:///tasks.db"
    )
    done = subprocess.run(
        ["bash", "-c", shell], cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert "stopping: a job may take up to" in done.stderr
    assert "(0 done, 0 failed, 1 given back)" in done.stderr, done.stderr


def test_a_status_without_a_worker_for_another_librarys_queues(outwork: Outwork, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        "import dramatiq\nfrom outwork.contrib.dramatiq import OutworkBroker\n"
        "dramatiq.set_broker(OutworkBroker(url='sqlite:///tasks.db'))\n"
        "@dramatiq.actor\ndef sell() -> None: ...\n"
    )
    subprocess.run([sys.executable, "-c", "import tasks; tasks.sell.send()"], cwd=tmp_path, check=True, timeout=60)
    assert "served by another library's worker" in outwork("--broker", "sqlite:///tasks.db", "status").stdout


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
