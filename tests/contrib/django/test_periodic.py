"""Periodic tasks of Django applications, fired by ordinary workers."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import pytest
from django.core.checks import run_checks
from kiosk_project.running import Project

from support.waiting import until
from support.workers import workers_in

Choose = Callable[..., Any]
PREFIX = "outwork.contrib.django."
REWIND = """
from outwork.contrib.django.application import backend_of
store = backend_of("default").store
[(name, at)] = [(name, at) for name, at in store.schedules().items() if name.startswith("clock.tasks.tick@")]
print(store.tick(name, at, at - 3600.0, []))
"""


@pytest.fixture
def clock(anywhere: Project) -> Project:
    """The project with an application that has schedules, on each kind of database."""
    anywhere.environ["KIOSK_APPS"] = "clock"
    return anywhere


@pytest.fixture
def clock_on_file(project: Project) -> Project:
    project.environ["KIOSK_APPS"] = "clock"
    return project


def choose_in(project: Project, name: str = "DatabaseBackend", **options: Any) -> None:
    project.environ["KIOSK_TASKS"] = json.dumps(
        {"default": {"BACKEND": PREFIX + name, "QUEUES": [], "OPTIONS": options}}
    )


def slots(project: Project) -> Counter[int]:
    """The slots that were fired, and how often."""
    return Counter(int(line.removeprefix("tick ")) for line in project.lines() if line.startswith("tick "))


# ---- by the worker ---------------------------------------------------------------------------------------------------


def test_row_A6_three_workers_fire_each_slot_once(clock: Project) -> None:
    workers = [clock.start().ready() for _ in range(3)]
    until(lambda: len(slots(clock)) >= 4, "four slots")
    for worker in workers:
        assert worker.stop() == 0
    found = slots(clock)
    assert set(found.values()) == {1}
    assert sorted(found) == list(range(min(found), max(found) + 1))


def test_row_A6_an_hour_that_was_missed_is_no_storm(clock_on_file: Project) -> None:
    worker = clock_on_file.start()
    until(lambda: slots(clock_on_file), "the first slot")
    assert worker.stop() == 0
    before = slots(clock_on_file)
    assert clock_on_file.shell(REWIND) == "True\n"
    worker = clock_on_file.start()
    until(lambda: len(slots(clock_on_file)) >= len(before) + 2, "two more")
    assert worker.stop() == 0
    after = slots(clock_on_file)
    assert set(after.values()) == {1}
    assert all(slot > max(before) for slot in after - before)  # of all that were missed, the newest one


def test_row_A6_a_bad_expression_is_an_error_at_import(project: Project) -> None:
    """Said with the line of the project that is to be changed, and with none of Django's or of ours."""
    shop = project.folder / "shop"
    shop.mkdir()
    (shop / "__init__.py").touch()
    (shop / "tasks.py").write_text(
        "from kiosk.api import task\nfrom outwork.contrib.django import options\n\n\n"
        "@options(cron='0 0 31 2 *')\n@task\ndef pay(): ...\n"
    )
    project.environ |= {"KIOSK_APPS": "shop", "PYTHONPATH": f"{project.folder}:{project.environ['PYTHONPATH']}"}
    said = project.run("outwork_worker", code=2, traceback=True)
    assert "the tasks of Django's applications cannot be imported" in said
    assert "cron='0 0 31 2 *' is never due" in said
    assert [line.split('"')[1] for line in said.splitlines() if line.startswith("  File ")] == [str(shop / "tasks.py")]


def test_other_workers_fire_them(clock_on_file: Project) -> None:
    worker = clock_on_file.start("--no-periodic")
    clock_on_file.shell("step.enqueue('a')")
    clock_on_file.wait_for("end a")
    assert worker.stop() == 0
    assert not slots(clock_on_file)
    listed = json.loads(clock_on_file.run("outwork", "periodic", "ls", "--json"))
    assert [(row["name"], row["last"]) for row in listed] == [("clock.tasks.report", None), ("clock.tasks.tick", None)]


def test_a_worker_that_does_not_know_the_tasks_gives_them_back(project: Project) -> None:
    """Both worlds see one queue; what the one cannot run is left to the other."""
    project.shell("step.enqueue('a')")
    (project.folder / "elsewhere.py").write_text("from outwork import task\n\n\n@task\ndef another(): ...\n")
    url = f"sqlite:///{project.database.settings['NAME']}"
    with workers_in(project.folder, url, project.environ) as workers:
        plain = workers.start("elsewhere")
        until(lambda: project.states() == {"SCHEDULED": 1}, "the job is given back")
        assert plain.stop() == 0
        assert "start a worker that has it" in plain.text()
    with closing(sqlite3.connect(project.database.settings["NAME"])) as connection:
        [(waits,)] = connection.execute("SELECT s.due - j.enqueued_at FROM outwork_scheduled s, outwork_job j")
    assert waits > 29
    project.shell(
        "from outwork.contrib.django.application import backend_of\n"
        "from outwork.contrib.django.testing import enqueued\n"
        "backend_of('default').joined.hasten([enqueued()[0].id])"
    )
    assert "1 done" in project.run("outwork_worker", "--batch")
    assert project.starts() == {"a": 1}


# ---- by the operator -------------------------------------------------------------------------------------------------


def test_the_schedules_of_the_operator(clock_on_file: Project) -> None:
    weekend = {"task": "clock.tasks.report", "cron": "0 6 * * SAT", "args": {"days": 2}, "queue": "slow"}
    choose_in(clock_on_file, periodic={"clock.tasks.tick": {"enabled": False}, "weekend": weekend})
    run = clock_on_file.run
    listed = {row["name"]: row for row in json.loads(run("outwork", "periodic", "ls", "--json"))}
    assert {name: row["state"] for name, row in listed.items()} == {
        "clock.tasks.report": "active",
        "clock.tasks.tick": "disabled",
        "weekend": "active",
    }
    assert listed["clock.tasks.report"]["description"] == "every day at 07:00, Europe/Paris"
    said = clock_on_file.shell(
        "from django.core.management import call_command\n"
        "for word in ('next', 'run', 'pause', 'resume'): call_command('outwork', 'periodic', word, 'weekend')"
    )
    for part in ("06:00:00+00:00  weekend", "clock.tasks.report for ", "weekend is paused", "weekend goes on"):
        assert part in said
    assert "1 done" in run("outwork_worker", "--batch", "--queue-name", "slow")
    said = clock_on_file.shell(
        "from outwork.contrib.django.testing import enqueued\n[r] = enqueued(); print(r.kwargs, r.return_value)"
    )
    assert said == "{'days': 2} 2\n"


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("DatabaseBackend", {"periodic": {"clock.tasks.tikc": {"every": 5}}}, "clock.tasks.tick"),
        ("DatabaseBackend", {"periodic": {"clock.tasks.report": {"args": {"dyas": 1}}}}, "did you mean 'days'"),
        (
            "RabbitMQBackend",
            {"broker_url": "amqp://127.0.0.1:1/?queue_type=classic"},
            "or start the worker with --no-periodic",
        ),
    ],
)
def test_schedules_that_no_worker_can_keep(
    clock_on_file: Project, name: str, options: Mapping[str, Any], why: str
) -> None:
    choose_in(clock_on_file, name, **options)
    said = clock_on_file.run("outwork_worker", "--skip-checks", code=2)
    assert why in said


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"nightly": {"task": "clock.tasks.report", "crom": "@daily"}}, 'did you mean "cron"'),
        ({"nightly": {"task": "clock.tasks.report", "cron": "@nightly"}}, "has 1 fields"),
        ({"nightly": "@daily"}, "a table is needed"),
        ("nightly", "tables are needed"),
    ],
)
@pytest.mark.usefixtures("database")
def test_tables_that_are_none(choose: Choose, given: Any, why: str) -> None:
    choose("DatabaseBackend", periodic=given)
    [message] = [one for one in run_checks() if one.id == "outwork.E002"]
    assert why in message.msg
    assert "nightly" in message.msg or given == "nightly"
