"""`outwork periodic`, run in this process by click's runner."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from outwork import Outwork, codec
from outwork.brokers.base import Filter
from outwork.cli import main
from outwork.worker.timetable import Timetable

Write = Callable[[str, str], Path]
Run = Callable[..., Result]

START = 1_800_000_000.0  # 2027-01-15 08:00 UTC
SHOP = """\
from datetime import timedelta
from msgspec.structs import replace
from outwork import Outwork
from outwork.brokers.memory import MemoryBroker


class SharedBroker(MemoryBroker):
    capabilities = replace(MemoryBroker.capabilities, shared=True)


app = Outwork(broker=SharedBroker("memory:"), config="outwork.toml")


@app.task(cron="0 7 * * *", timezone="Europe/Paris")
def report() -> None: ...


@app.task(every=timedelta(minutes=5), queue_name="feeds")
def poll() -> None: ...
"""
TABLES = '[periodic.weekly]\ntask = "shop.report"\ncron = "@weekly"\nenabled = false\n'


@pytest.fixture
def run(write: Write) -> Iterator[Run]:
    write("shop.py", SHOP)
    write("outwork.toml", TABLES)
    runner = CliRunner()

    def run_one(*words: str, code: int = 0) -> Result:
        result = runner.invoke(main, ["-A", "shop", "periodic", *words], prog_name="outwork")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    yield run_one
    if "shop" in sys.modules:
        sys.modules["shop"].app.close()


@pytest.fixture
def app(run: Run) -> Outwork:
    run("ls")
    app: Outwork = sys.modules["shop"].app
    app.broker.clock_offset += START - app.broker.now()
    return app


def said(run: Run, *words: str) -> Any:
    return json.loads(run(*words, "--json").output)


def test_the_schedules(run: Run, app: Outwork) -> None:
    poll, report, weekly = said(run, "ls")
    assert poll == {
        "name": "shop.poll",
        "description": "every 5 minutes",
        "task": "shop.poll",
        "queue": "feeds",
        "cron": None,
        "timezone": None,
        "every": 300.0,
        "misfire": "once",
        "state": "active",
        "last": None,
        "next": "2027-01-15 08:05:00+00:00",
        "origin": poll["origin"],
    }
    assert poll["origin"].startswith(str(Path("shop.py").absolute()))
    assert (report["description"], report["next"]) == ("every day at 07:00, Europe/Paris", "2027-01-16 07:00:00+01:00")
    assert (weekly["state"], weekly["next"], weekly["origin"]) == ("disabled", None, "outwork.toml:1 [periodic.weekly]")


def test_the_last_slot_is_one_that_was(run: Run, app: Outwork) -> None:
    table = Timetable(app, "w")
    app.broker.clock_offset += 7
    table.look()
    assert [row["last"] for row in said(run, "ls")] == [None, None, None]
    app.broker.clock_offset += 300
    table.look()
    assert [row["last"] for row in said(run, "ls")] == ["2027-01-15 08:05:00+00:00", None, None]


def test_as_a_table(run: Run, app: Outwork) -> None:
    lines = run("ls").output.splitlines()
    assert [word for word in lines[0].split() if word] == ["NAME", "WHEN", "TASK", "STATE", "LAST", "NEXT"]
    assert lines[2].split("  ")[0] == "shop.report"
    assert "every day at 07:00, Europe/Paris" in lines[2]


def test_the_slots_to_come(run: Run, app: Outwork) -> None:
    assert [(row["slot"], row["name"]) for row in said(run, "next", "poll", "report", "-n", "3")] == [
        ("2027-01-15 08:05:00+00:00", "shop.poll"),
        ("2027-01-15 08:10:00+00:00", "shop.poll"),
        ("2027-01-15 08:15:00+00:00", "shop.poll"),
    ]
    assert {row["name"] for row in said(run, "next", "-n", "400")} == {"shop.poll", "shop.report"}
    assert said(run, "next", "weekly", "-n", "1") == [
        {"slot": "2027-01-17 00:00:00+00:00", "name": "weekly", "task": "shop.report"}
    ]
    assert run("next", "poll", "-n", "1").output.splitlines()[1] == "2027-01-15 08:05:00+00:00  shop.poll"


def test_run_one_now(run: Run, app: Outwork) -> None:
    answer = said(run, "run", "report")
    assert (answer["name"], answer["slot"], answer["enqueued"]) == ("shop.report", "2027-01-15 07:00:00+01:00", True)
    assert "for 2027-01-15 09:00:00+01:00" in run("run", "report", "--slot", "2027-01-15T08:00+00:00").output
    slots = {codec.decode_job(one.body).slot for one in app.store.find(Filter(task="shop.report")).records}
    assert slots == {START - 7200, START}
    assert said(run, "ls")[1]["last"] is None
    assert "write 2030-05-17T07:00+02:00" in run("run", "report", "--slot", "2027-01-15T08:00", code=2).output


def test_pause_and_resume(run: Run, app: Outwork) -> None:
    assert "outwork periodic resume shop.poll" in run("pause", "poll").output
    assert [row["state"] for row in said(run, "ls")] == ["paused", "active", "disabled"]
    assert run("resume", "shop.poll").output == "shop.poll goes on: 2027-01-15 08:05:00+00:00\n"
    assert [row["state"] for row in said(run, "ls")] == ["active", "active", "disabled"]


def test_a_name_that_is_not_there(run: Run, app: Outwork) -> None:
    assert "no schedule is named 'repport' (did you mean" not in run("run", "zzz", code=2).output
    assert "did you mean shop.report?" in run("pause", "shop.repport", code=2).output


def test_a_broker_that_cannot(run: Run, write: Write) -> None:
    Path("outwork.toml").unlink()
    write("other.py", "from outwork import task\n\n\n@task(every=60)\ndef tick() -> None: ...\n")
    result = CliRunner().invoke(main, ["-A", "other", "--broker", "amqp://localhost", "periodic", "ls"])
    assert result.exit_code == 1, result.output
    assert "OUTWORK_STORE_URL" in result.output
