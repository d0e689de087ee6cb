"""`manage.py outwork_worker` as processes: signals, kills, several at once, on each database."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from signal import SIGINT, SIGTERM

from kiosk_project.running import Database, Project

from support.waiting import until

# ---- running ---------------------------------------------------------------------------------------------------------


def test_row_A4_a_batch(anywhere: Project) -> None:
    ids = anywhere.shell(
        "print(echo.enqueue((1, 2), key=None).id)\n"
        "mail.enqueue('ada'); save.enqueue('one'); asave.enqueue('two'); flaky.enqueue(1)"
    )
    said = anywhere.run("outwork_worker", "--batch", "--worker-id", "till.7")
    assert "5 done, 0 failed, nothing left" in said
    assert "Task id=" not in said
    looked = anywhere.shell(
        "print(sorted(o.name for o in Order.objects.all()))\n"
        f"r = echo.get_result('{ids.strip()}'); print(r.status, r.return_value, r.attempts, r.worker_ids)\n"
        "fail.enqueue()"
    )
    orders, result = looked.splitlines()
    assert orders == "['one', 'two']"
    orders, result = looked.splitlines()
    assert orders == "['one', 'two']"
    assert re.fullmatch(r"SUCCESSFUL \[\[\[1, 2\]\], \{'key': None\}\] 1 \['till\.7-\d+-\w+'\]", result), result
    assert "ValueError: as asked" in anywhere.run("outwork_worker", "--batch", code=1)
    assert anywhere.states() == {"SUCCESSFUL": 5, "FAILED": 1}


def test_the_command_line_of_outwork(project: Project) -> None:
    said = project.run("outwork", "enqueue", "kiosk.tasks.add", "1", "y=2")
    assert "start one with:  python manage.py outwork_worker\n" in said
    assert "Show the queues" in project.run("outwork")
    assert "1 done" in project.run("outwork", "worker", "--drain")
    assert "kiosk.tasks.add" in project.run("outwork", "jobs", "ls")
    assert "1 job would be forgotten" in project.run("outwork_prune", "--min-age-days", "0", "--dry-run")


def test_row_A4_queues(project: Project) -> None:
    project.shell("mail.enqueue('ada'); add.enqueue(1); add.using(queue_name='slow').enqueue(2)")
    assert "1 done" in project.run("outwork_worker", "--batch", "--queue-name", "mail")
    assert "1 done" in project.run("outwork_worker", "--batch", "--exclude-queues", "slow")
    assert "1 done" in project.run("outwork_worker", "--batch", "--queue-name", "*", "--interval", "1")


def test_row_A4_code_that_changes_is_seen_while_debugging(project: Project) -> None:
    shop = project.folder / "shop"
    shop.mkdir()
    (shop / "__init__.py").touch()
    code = "from kiosk.api import task\nfrom kiosk.tasks import write\n\n\n@task\ndef sell(): write('sold', 'apples')\n"
    (shop / "tasks.py").write_text(code)
    path = f"{project.folder}:{project.environ['PYTHONPATH']}"
    project.environ |= {"KIOSK_APPS": "shop", "KIOSK_DEBUG": "1", "PYTHONPATH": path}
    worker = project.start().ready()
    sell = "from shop.tasks import sell; sell.enqueue()"
    project.shell(sell)
    project.wait_for("sold apples")
    (shop / "tasks.py").write_text(code.replace("apples", "pears"))
    worker.ready(2)
    worker.wait_for_line("stopped cleanly")
    project.shell(sell)
    project.wait_for("sold pears")
    assert worker.stop() == 0


def test_row_A7_a_signal_lets_running_tasks_end(anywhere: Project) -> None:
    anywhere.shell("step.enqueue('a', 1.0); step.using(queue_name='low').enqueue('b', 1.0)")
    workers = [anywhere.start("--queue-name", queue) for queue in ("default", "low")]
    for worker, key, number in zip(workers, "ab", (SIGTERM, SIGINT), strict=True):
        anywhere.wait_for(f"start {key}")
        worker.signal(number)
    for worker, key in zip(workers, "ab", strict=True):
        assert worker.wait() == 0
        assert f"end {key}" in anywhere.lines()
        assert "stopped cleanly (1 done, 0 failed)" in worker.text()
    assert anywhere.states() == {"SUCCESSFUL": 2}


def test_row_A4_a_process_is_replaced_after_so_many_tasks(project: Project) -> None:
    project.shell("step.enqueue('a')")
    worker = project.start("--max-tasks", "1")
    worker.wait_for_line("is replaced: ")
    worker.ready(processes=2)
    project.shell("step.enqueue('b')")
    project.wait_for("end b")
    assert worker.stop() == 0
    assert project.starts() == {"a": 1, "b": 1}


def test_row_A7_a_second_signal_gives_them_back(anywhere: Project) -> None:
    anywhere.shell("step.enqueue('a', 30.0)")
    worker = anywhere.start()
    anywhere.wait_for("start a")
    worker.signal(SIGTERM)
    worker.wait_for_line("stopping")
    worker.signal(SIGTERM)
    assert worker.wait(20) == 0, "it is sooner than the grace period"
    assert anywhere.states() == {"READY": 1}


def test_row_A5_sigkill_leaves_nothing_running(anywhere: Project) -> None:
    anywhere.shell("step.enqueue('a', 2.0)")
    first = anywhere.start()
    anywhere.wait_for("start a")
    until(lambda: anywhere.database.query("SELECT 1 FROM outwork_worker"), "its presence")
    first.kill_all()
    assert anywhere.states() == {"RUNNING": 1}
    second = anywhere.start()
    anywhere.wait_for("end a")
    assert second.stop() == 0
    assert anywhere.states() == {"SUCCESSFUL": 1}
    assert anywhere.starts() == {"a": 2}


def test_three_workers_run_each_task_once(anywhere: Project) -> None:
    workers = [anywhere.start("--concurrency", "4") for _ in range(3)]
    anywhere.shell("for n in range(150): step.enqueue(str(n), 0.005)")
    until(lambda: len(anywhere.lines()) >= 300, "the end of all tasks", seconds=60)
    for worker in workers:
        worker.signal(SIGTERM)
    for worker in workers:
        assert worker.wait() == 0
    assert anywhere.starts() == {str(number): 1 for number in range(150)}
    assert anywhere.states() == {"SUCCESSFUL": 150}


def test_row_A8_the_worker_forgets_jobs_that_ended_two_weeks_ago(project: Project) -> None:
    project.shell("add.enqueue(1); fail.enqueue()")
    project.run("outwork_worker", "--batch", code=1)
    project.shell(
        "from django.db import connection\n"
        "connection.cursor().execute('UPDATE outwork_ended SET prune_at = prune_at - 14 * 86400')"
    )
    waiting = project.shell("print(add.using(queue_name='slow').enqueue(2).id)").strip()
    worker = project.start("--queue-name", "default")
    until(lambda: project.states() == {"READY": 1}, "the end of all others")
    assert worker.stop() == 0
    assert project.database.query("SELECT id FROM outwork_job") == [(waiting,)]


def test_connections_are_not_left_open(project: Project) -> None:
    project.shell("for _ in range(3): look_at_connection.enqueue()")
    project.run("outwork_worker", "--batch", "--threads", "1")
    said = project.shell(
        "from outwork.contrib.django.testing import enqueued\nprint([r.return_value[0] for r in enqueued()])"
    )
    assert said == "[False, False, False]\n"


# ---- what supervises it ----------------------------------------------------------------------------------------------


def test_row_A7_systemd_is_told(project: Project) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(project.folder / "notify"))
        systemd.settimeout(60)
        project.environ["NOTIFY_SOCKET"] = str(project.folder / "notify")
        worker = project.start("--log-format", "json")

        def hear(word: bytes) -> None:
            while not systemd.recv(4096).startswith(word):
                pass

        hear(b"READY=1")
        worker.signal(SIGTERM)
        hear(b"STOPPING=1")
        assert worker.wait() == 0
    assert "stopped cleanly" in json.loads(worker.text().splitlines()[-1])["message"]


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_a_worker_that_nobody_can_start(project: Project) -> None:
    project.environ["KIOSK_TASKS"] = json.dumps(
        {"default": {"BACKEND": "outwork.contrib.django.ThreadPoolBackend", "QUEUES": []}}
    )
    said = project.run("outwork_worker", code=2)
    assert said.startswith("CommandError: TASKS['default'] is ThreadPoolBackend (thread:): tasks run inside the web")
    assert "has no backend 'other'" in project.run("outwork", "--backend", "other", "status", code=2)


def test_a_worker_without_tables(tmp_path: Path, environ: dict[str, str]) -> None:
    project = Project(tmp_path, environ, Database.file(tmp_path))
    assert "manage.py migrate" in project.run("outwork_worker", code=2)


def test_a_database_that_is_away(tmp_path: Path, environ: dict[str, str]) -> None:
    away = {"ENGINE": "django.db.backends.postgresql", "NAME": "x", "USER": "x", "HOST": "127.0.0.1", "PORT": 1}
    project = Project(tmp_path, environ, Database(away))
    try:
        said = project.run("outwork_worker", "--batch", code=3)
        assert said.startswith("CommandError: OW107 the database 'default': ")
        assert "Traceback" not in said
        worker = project.start()
        worker.wait_for_line("Trying again")
        assert worker.stop() == 0
    finally:
        project.clean_up()
