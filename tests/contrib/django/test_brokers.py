"""The other backends run tasks, too: threads, child processes, Redis, RabbitMQ."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kiosk import tasks
from kiosk.api import TaskResultStatus, task_finished, task_started
from kiosk_project.running import Project

from support.waiting import until

Choose = Callable[..., Any]
PREFIX = "outwork.contrib.django."


def finished(result: Any) -> Any:
    def look() -> bool:
        result.refresh()
        return bool(result.is_finished)

    until(look, "the end of the task")
    return result


@pytest.mark.usefixtures("database")
def test_row_A1_threads(choose: Choose) -> None:
    backend = choose("ThreadPoolBackend")
    told: list[tuple[str, str]] = []

    def hear(signal: Any, task_result: Any, **named: Any) -> None:
        told.append((task_result.task.name, task_result.status))

    for signal in (task_started, task_finished):
        signal.connect(hear)
    try:
        assert finished(tasks.add.enqueue(1, 2)).return_value == 3
        failed = finished(tasks.fail.enqueue())
        assert finished(tasks.aecho.enqueue("x")).return_value == "x"
    finally:
        for signal in (task_started, task_finished):
            signal.disconnect(hear)
        backend.close()
    assert failed.status == TaskResultStatus.FAILED
    assert failed.errors[0].exception_class is ValueError
    assert told[:2] == [("add", "RUNNING"), ("add", "SUCCESSFUL")]
    assert ("fail", "FAILED") in told


def run_in_web_process(project: Project, name: str, code: str) -> str:
    project.environ["KIOSK_TASKS"] = json.dumps(
        {"default": {"BACKEND": f"outwork.contrib.django.{name}", "QUEUES": []}}
    )
    return project.shell(code)


WAIT = "while not r.is_finished: time.sleep(0.02); r.refresh()\nprint(r.status, r.return_value)"


@pytest.mark.parametrize(
    ("name", "said"),
    [("ImmediateBackend", "SUCCESSFUL 1"), ("DummyBackend", "READY 0"), ("DatabaseBackend", "READY 0")],
)
def test_row_A1_the_setting_chooses(project: Project, name: str, said: str) -> None:
    """The same code in the caller, nowhere, and in a worker."""
    project.environ["KIOSK_TASKS"] = json.dumps({"default": {"BACKEND": PREFIX + name, "QUEUES": []}})
    assert project.shell("r = step.enqueue('a'); print(r.status, r.attempts, r.id)").startswith(said)
    assert len(project.lines()) == (2 if name == "ImmediateBackend" else 0)
    if name == "DatabaseBackend":
        assert "1 done" in project.run("outwork_worker", "--batch")
        assert project.starts() == {"a": 1}
    else:
        assert project.states() == {}


def test_row_A1_child_processes(project: Project) -> None:
    code = f"r = pid.enqueue()\n{WAIT}\nprint(r.return_value != os.getpid())"
    said = run_in_web_process(project, "ProcessPoolBackend", code)
    assert said.startswith("SUCCESSFUL ")
    assert said.endswith("True\n")


def test_row_A1_redis(project: Project, tmp_path: Path) -> None:
    from support.redis_server import RedisServer

    server = RedisServer(tmp_path / "redis")
    try:
        url = server.url()
        backend = {"BACKEND": "outwork.contrib.django.RedisBackend", "QUEUES": [], "OPTIONS": {"broker_url": url}}
        project.environ["KIOSK_TASKS"] = json.dumps({"default": backend})
        job_id = project.shell("print(echo.enqueue(1, key=2).id)").strip()
        assert "1 done" in project.run("outwork_worker", "--batch")
        said = project.shell(f"r = echo.get_result('{job_id}'); print(r.status, r.return_value, r.args, r.kwargs)")
        assert said == "SUCCESSFUL [[1], {'key': 2}] [1] {'key': 2}\n"
        assert "1 job forgotten" in project.run("outwork_prune", "--min-age-days", "0")
    finally:
        server.stop()


def test_a_missing_server_is_said_at_once(project: Project) -> None:
    backend = {"BACKEND": "outwork.contrib.django.RedisBackend", "OPTIONS": {"broker_url": "redis://127.0.0.1:1/0"}}
    project.environ["KIOSK_TASKS"] = json.dumps({"default": {"QUEUES": [], **backend}})
    said = project.shell("try: add.enqueue(1)\nexcept ConnectionError as error: print(error)")
    assert "127.0.0.1:1" in said
    assert "127.0.0.1:1" in project.run("outwork_prune", code=3)


def test_row_A1_rabbitmq(project: Project, tmp_path: Path) -> None:
    from support.rabbitmq_server import own_url

    options = {"broker_url": own_url(queue_type="classic")}  # which has priorities on any version
    backend = {"BACKEND": "outwork.contrib.django.RabbitMQBackend", "QUEUES": [], "OPTIONS": options}
    project.environ["KIOSK_TASKS"] = json.dumps({"default": backend})
    project.shell("r = step.enqueue('a')\ntry: r.refresh()\nexcept NotImplementedError: print('no results')")
    worker = project.start()
    project.wait_for("end a")
    assert worker.stop() == 0
    options["store_url"] = f"sqlite:///{tmp_path}/store.db"
    project.environ["KIOSK_TASKS"] = json.dumps({"default": backend})
    worker = project.start()
    said = project.shell(f"import time\nr = step.enqueue('b')\n{WAIT}")
    assert said == "SUCCESSFUL b\n"
    assert worker.stop() == 0
