"""The outbox across processes: a kill between the commit and the send, and brokers that come back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kiosk_project import servers
from kiosk_project.running import Database, Project

from support.waiting import until

ORDER = (
    "from django.db import transaction\nwith transaction.atomic(): Order.objects.create(name='x'); step.enqueue('a')"
)
ROLL_BACK = (
    "from django.db import transaction\nfrom outwork.contrib.django.models import Unsent\n"
    "with transaction.atomic():\n"
    "    Order.objects.create(name='x'); step.enqueue('a'); print(Unsent.objects.count(), flush=True)\n"
    "    raise SystemExit(7)"
)
DIE = (
    "from kiosk.api import task_backends\nimport signal\n"
    "def die(jobs): print('committed', flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    "task_backends['default'].app.broker.enqueue = die\n"
)


@pytest.fixture
def project(tmp_path: Path, environ: dict[str, str]) -> Iterator[Project]:
    """The project, whose database does not exist yet."""
    project = Project(tmp_path, environ, Database.file(tmp_path))
    yield project
    project.clean_up()


def choose_backend(project: Project, name: str, url: str) -> None:
    backend = {"BACKEND": f"outwork.contrib.django.{name}", "QUEUES": [], "OPTIONS": {"broker_url": url}}
    project.environ["KIOSK_TASKS"] = json.dumps({"default": backend})


def one_is_due(project: Project) -> None:
    """There is one row in the outbox, and from now on its thirty seconds are over."""
    assert len(project.database.query("UPDATE outwork_unsent SET send_at = 0 RETURNING id")) == 1


def left(project: Project) -> int:
    [(count,)] = project.database.query("SELECT count(*) FROM outwork_unsent")
    return int(count)


def test_row_A3_sqlite_and_redis(project: Project, tmp_path: Path) -> None:
    from support.redis_server import RedisServer

    server = RedisServer(tmp_path / "redis")
    try:
        choose_backend(project, "RedisBackend", server.url())
        project.run("migrate", "-v0")
        assert project.shell(DIE + ORDER, code=-9) == "committed\n"
        assert project.database.query("SELECT name FROM kiosk_order") == [("x",)]
        one_is_due(project)
        server.stop()
        project.shell(ORDER.replace("'a'", "'b'"))
        assert left(project) == 2
        server.start()
        assert "1 done" in project.run("outwork_worker", "--batch")
        assert left(project) == 1
        one_is_due(project)
        assert "1 done" in project.run("outwork_worker", "--batch")
        assert (left(project), project.starts()) == (0, {"a": 1, "b": 1})
    finally:
        server.stop()


def test_row_A3_a_rollback_leaves_nothing_behind_in_redis(project: Project, tmp_path: Path) -> None:
    """Neither in the outbox nor on the server; a commit afterwards is heard of by both."""
    from support.redis_server import RedisServer

    server = RedisServer(tmp_path / "redis")
    try:
        choose_backend(project, "RedisBackend", server.url())
        project.run("migrate", "-v0")
        assert project.shell(ROLL_BACK, code=7) == "1\n"
        assert (left(project), server.ask("DBSIZE")) == (0, 0)
        assert project.database.query("SELECT name FROM kiosk_order") == []
        project.shell(ORDER.replace("'a'", "'b'"))
        assert left(project) == 0
        assert server.ask("DBSIZE") > 0
        assert "1 done" in project.run("outwork_worker", "--batch")
        assert project.starts() == {"b": 1}
    finally:
        server.stop()


def test_row_A3_postgresql_and_rabbitmq(tmp_path: Path, environ: dict[str, str]) -> None:
    from support.rabbitmq_server import own_url

    project = Project(tmp_path, environ, servers.postgresql("kiosk_unsent"))
    try:
        choose_backend(project, "RabbitMQBackend", own_url(queue_type="classic"))
        project.run("migrate", "-v0")
        assert project.shell(DIE + ORDER, code=-9) == "committed\n"
        one_is_due(project)
        worker = project.start()
        project.wait_for("end a")
        until(lambda: left(project) == 0, "an empty outbox")
        assert worker.stop() == 0
        assert project.starts() == {"a": 1}
    finally:
        project.clean_up()
