"""Hooks stand in child processes, too; the worker tells how one ended that cannot do so itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TASKS = """\
import os
from contextvars import ContextVar
from outwork import Outwork

app = Outwork("sqlite:///tasks.db")
tenant = ContextVar("tenant")
inside = ContextVar("inside", default="nothing")
app.hooks.carry(tenant)


@app.hooks.around_run
def session(context):
    inside.set(f"session of {context.task_name}")
    yield


@app.hooks.on_event
def note(event):
    with open("events.txt", "a") as file:
        print(type(event).__name__, file=file)


@app.task(executor="process")
def work() -> str:
    return f"{tenant.get()}: {inside.get()}"


@app.task(executor="process", retry=None)
def die() -> None:
    os._exit(3)
"""
ENQUEUE = "import tasks; tasks.tenant.set('acme'); print(tasks.{}.enqueue().id)"
LOOK = "import sys, tasks; print(tasks.app.get_result(sys.argv[1]).return_value)"


def test_they_stand_in_child_processes(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    told = tmp_path / "events.txt"

    def python(*words: str, code: int = 0) -> str:
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout.strip()

    job_id = python("-c", ENQUEUE.format("work"))
    python("-m", "outwork", "worker", "tasks", "--drain")
    assert python("-c", LOOK, job_id) == "acme: session of tasks.work"
    assert told.read_text().split() == ["JobEnqueued", "AttemptStarted", "JobSucceeded"]

    told.unlink()
    python("-c", ENQUEUE.format("die"))
    python("-m", "outwork", "worker", "tasks", "--drain", code=1)
    assert told.read_text().split() == ["JobEnqueued", "AttemptStarted", "AttemptFailed", "JobFailed"]
