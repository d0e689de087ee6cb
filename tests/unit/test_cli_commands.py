"""The commands, run in this process by click's runner."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from outwork.app import Outwork
from outwork.brokers.base import Presence, Settlement, Share
from outwork.brokers.memory import MemoryBroker
from outwork.cli import main, worker_command
from outwork.errors import BrokerRefused, BrokerUnavailable, InvalidURL
from outwork.job import Again, Dead, Done, Failure, Release, State

Write = Callable[[str, str], Path]
Run = Callable[..., Result]

SHOP = '''\
from datetime import datetime
from msgspec.structs import replace
from outwork import Outwork
from outwork.brokers.memory import MemoryBroker


class SharedBroker(MemoryBroker):
    """One that says that other processes can see its jobs, so that commands agree to look at them."""

    capabilities = replace(MemoryBroker.capabilities, shared=True)


app = Outwork(broker=SharedBroker("memory:"))


@app.task
def greet(name: str, times: int = 1) -> str:
    """Say hello."""
    return f"hello {name} " * times


@app.task(queue_name="mail", priority=5, retry=None, timeout=30, executor="process", expires=3600)
def send(to: str, at: datetime | None = None) -> None: ...


@app.task(delivery="at_most_once")
def charge() -> None: ...
'''


@pytest.fixture
def run(write: Write) -> Iterator[Run]:
    write("shop.py", SHOP)
    runner = CliRunner()

    def run_one(*words: str, stdin: str | None = None, code: int = 0) -> Result:
        result = runner.invoke(main, words, input=stdin, prog_name="outwork")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    yield run_one
    if "shop" in sys.modules:
        sys.modules["shop"].app.close()


@pytest.fixture
def app(run: Run) -> Outwork:
    run("-A", "shop", "tasks")
    app: Outwork = sys.modules["shop"].app
    return app


def memory(app: Outwork) -> MemoryBroker:
    assert isinstance(app.broker, MemoryBroker)
    return app.broker


def end(app: Outwork, job_id: str, how: Callable[[], Any]) -> None:
    """Claim everything and settle one job."""
    claimed = memory(app).exchange("c" * 32, [], [Share("default", 99), Share("mail", 99)], 99, 99, "w1").claimed
    for one in claimed:
        outcome = how() if one.id == job_id else Again(0.0, (), False)
        memory(app).exchange("d" * 32, [Settlement(one.id, one.claim_id, outcome)], [], 0, 0, "w1")


FAILURE = Failure(
    exception="shop.NoRoute", message="no route", traceback="Traceback: no route\n", attempt=1, worker="w1", at=1.0
)


# ---- help and errors ------------------------------------------------------------------------------------------------

EVERY = [
    [],
    *([name] for name in ("worker", "enqueue", "tasks", "jobs", "status", "prune", "migrate", "init", "config")),
    *(["jobs", name] for name in ("ls", "show", "retry", "cancel", "delete")),
]


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_everywhere(run: Run, words: list[str], flag: str) -> None:
    assert "Usage: outwork" in run(*words, flag).output


@pytest.mark.parametrize("words", [["tasks"], ["status"], ["config"], ["jobs", "ls"], ["jobs", "show"]], ids=" ".join)
def test_every_reading_command_has_json(run: Run, words: list[str]) -> None:
    assert "--json" in run(*words, "-h").output


def test_shows_its_version(run: Run) -> None:
    assert run("--version").output.startswith("outwork 0.")


@pytest.mark.parametrize(
    ("error", "code"),
    [(BrokerUnavailable("gone"), 3), (BrokerRefused("no"), 1), (InvalidURL("bad"), 2)],
    ids=["unreachable", "failed", "usage"],
)
def test_errors_are_one_line_and_a_code(
    run: Run, app: Outwork, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(memory(app), "counts", fail)
    result = run("-A", "shop", "status", code=code)
    assert result.stderr == f"outwork: {error}\n"
    verbose = run("-A", "shop", "status", "-v", code=code)
    assert verbose.stderr.startswith("Traceback (most recent call last):")
    assert verbose.stderr.endswith(f"outwork: {error}\n")


def test_a_wrong_setting_is_two(run: Run, write: Write) -> None:
    write("outwork.toml", "[worker]\nconcurency = 1\n")
    assert (
        'outwork: OW130 outwork.toml:2 [worker] concurency: unknown key (did you mean "concurrency"?)'
        in run("config", code=2).stderr
    )


def test_jobs_nobody_else_can_see_are_explained(run: Run) -> None:
    assert "OW132 no broker is configured" in run("jobs", "ls", code=2).stderr
    assert run("status", code=2).stderr.endswith("or name the application that has one:  -A shop\n")


# ---- worker ---------------------------------------------------------------------------------------------------------


def test_a_worker_without_a_broker_is_refused(run: Run, write: Write) -> None:
    write("tasks.py", "from outwork import task\n\n\n@task\ndef greet() -> None: ...\n")
    stderr = run("worker", code=2).stderr
    assert "OW132 no broker is configured: tasks run immediately in their callers" in stderr
    assert "OUTWORK_BROKER_URL" in stderr
    assert stderr.count("\n") == 1


def test_a_worker_without_its_module_is_refused(run: Run) -> None:
    assert (
        "OW103 cannot load \"shp\": No module named 'shp' (did you mean shop?)" in run("worker", "shp", code=2).stderr
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--concurrency", "0"],
        ["--grace", "soon"],
        ["--log-format", "xml"],
        ["--queues", "a:x", "--broker", "sqlite:///x.db"],
        ["--nonsense"],
    ],
    ids=" ".join,
)
def test_wrong_options_of_a_worker_are_usage(run: Run, words: list[str]) -> None:
    run("worker", "shop", *words, code=2)


def test_the_worker_can_be_mounted_elsewhere(run: Run) -> None:
    group = click.Group("canaille", commands=[worker_command])
    result = CliRunner().invoke(group, ["worker", "shp"])
    assert result.exit_code == 2
    assert result.stderr.startswith("outwork: OW103")


# ---- tasks and enqueue ----------------------------------------------------------------------------------------------


def test_lists_tasks(run: Run, project: Path) -> None:
    lines = run("-A", "shop", "tasks").stdout.splitlines()
    assert lines[0].split() == ["TASK", "QUEUE", "OPTIONS", "SOURCE"]
    assert lines[2].startswith("shop.greet(name: str, times: int = 1) -> str")
    assert f"{project}/shop.py:" in lines[2]
    assert "priority 5, no retries, timeout 30s, expires 1h, in a process" in lines[3]
    assert "at most once" in lines[1]


def test_lists_tasks_as_json(run: Run) -> None:
    charge, greet, send = json.loads(run("tasks", "-A", "shop", "--json").stdout)
    assert (charge["delivery"], greet["signature"]) == ("at_most_once", "(name: str, times: int = 1) -> str")
    assert (send["queue"], send["timeout"], send["max_attempts"]) == ("mail", 30.0, 1)


def test_enqueues_by_type_hints(run: Run, app: Outwork) -> None:
    stdout = run("-A", "shop", "enqueue", "shop.greet", "5", "times=2").stdout
    [record] = memory(app).results
    assert f"✓ {record.id} shop.greet('5', times=2) → queue default" in stdout
    assert "no worker is running yet; start one with:  outwork worker -A shop\n" in stdout
    assert record.state is State.READY
    assert json.loads(run("-A", "shop", "jobs", "show", record.id, "--payload", "--json").stdout)["arguments"] == {
        "name": "5",
        "times": 2,
    }


def test_says_nothing_of_workers_where_they_are_not_seen(run: Run, app: Outwork) -> None:
    broker = memory(app)
    broker.capabilities = replace(broker.capabilities, presence=False)
    assert "no worker" not in run("-A", "shop", "enqueue", "shop.greet", "5").stdout


def test_enqueues_with_options(run: Run, app: Outwork) -> None:
    words = ["enqueue", "-A", "shop", "send", "a@example.org", "-q", "low", "--priority", "-7", "--in", "10m", "--json"]
    shown = json.loads(run(*words).stdout)
    [record] = memory(app).results
    assert (record.queue, record.priority, record.state) == ("low", -7, State.SCHEDULED)
    assert record.due - record.enqueued_at == pytest.approx(600)
    assert (shown["id"], shown["state"]) == (record.id, "SCHEDULED")


def test_enqueues_at_a_time(run: Run, app: Outwork) -> None:
    run("enqueue", "-A", "shop", "charge", "--at", "2060-05-17T09:00")
    soon = datetime.now().astimezone() + timedelta(hours=1)
    run("enqueue", "-A", "shop", "charge", "--at", f"{soon:%H:%M}")
    first, second = memory(app).results
    assert first.due == datetime(2060, 5, 17, 9).timestamp()
    assert second.due == pytest.approx(soon.timestamp(), abs=61)


def test_runs_at_once_without_a_broker(run: Run, write: Write) -> None:
    write("tasks.py", "from outwork import task\n\n\n@task\ndef double(x: int) -> int:\n    return 2 * x\n")
    stdout = run("enqueue", "double", "21").stdout
    assert "tasks.double(21)" in stdout
    assert stdout.endswith("\n42\n")
    assert json.loads(run("enqueue", "double", "21", "--json").stdout)["result"] == 42


def test_a_job_that_fails_at_once_is_one(run: Run, write: Write) -> None:
    write("tasks.py", "from outwork import task\n\n\n@task\ndef fail() -> None:\n    raise KeyError('no route')\n")
    assert "KeyError: 'no route'" in run("enqueue", "fail", code=1).stderr
    shown = json.loads(run("enqueue", "fail", "--json", code=1).stdout)
    assert (shown["state"], shown["errors"][0]["exception_class_path"]) == ("FAILED", "builtins.KeyError")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shop.gret"], "OW102 unknown task 'shop.gret' (did you mean shop.greet?)"),
        (["gret"], "(did you mean shop.greet?)"),
        (["zzz"], "Known here: shop.charge, shop.greet, shop.send"),
        (["greet"], "OW105"),
        (["greet", "Ada", "tmies=2"], "did you mean 'times'?"),
        (["greet", "Ada", "many"], "OW105 times=many is not a value for int"),
        (["greet", "Ada", "--in", "soon"], "'soon' is not a length of time"),
        (["greet", "Ada", "--in", "1h", "--at", "17:30"], "--in and --at contradict each other"),
        (["greet", "Ada", "--at", "noon"], "'noon' is not a time"),
        (["greet", "Ada", "--priority", "101"], "101 is not in the range"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_calls_are_usage_and_enqueue_nothing(run: Run, app: Outwork, words: list[str], said: str) -> None:
    assert said in run("-A", "shop", "enqueue", *words, code=2).stderr
    assert memory(app).results == []


# ---- jobs -----------------------------------------------------------------------------------------------------------


def enqueue(app: Outwork, task: str, *args: Any) -> str:
    return app.tasks[task].enqueue(*args).id


def test_lists_jobs(run: Run, app: Outwork) -> None:
    assert run("jobs", "ls", "-A", "shop").stdout == "no jobs\n"
    one = enqueue(app, "shop.greet", "Ada")
    two = enqueue(app, "shop.send", "a@example.org")
    lines = run("jobs", "ls", "-A", "shop").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ID", two, one]
    assert "Ada" not in "".join(lines)
    only = json.loads(run("jobs", "ls", "-A", "shop", "--queue", "mail", "--json").stdout)
    assert [job["id"] for job in only["jobs"]] == [two]
    assert run("jobs", "ls", "-A", "shop", "--task", "shop.charge").stdout == "no jobs\n"
    assert run("jobs", "ls", "-A", "shop", "--state", "failed", "--state", "RUNNING").stdout == "no jobs\n"


def test_pages_through_jobs(run: Run, app: Outwork) -> None:
    ids = [enqueue(app, "shop.greet", "Ada") for _ in range(3)]
    first = run("jobs", "ls", "-A", "shop", "--limit", "2")
    assert f"there are more: --cursor {ids[1]}" in first.stderr
    page = json.loads(run("jobs", "ls", "-A", "shop", "--cursor", ids[1], "--json").stdout)
    assert [job["id"] for job in page["jobs"]] == [ids[0]]
    assert page["cursor"] is None


def test_shows_a_job(run: Run, app: Outwork) -> None:
    job_id = enqueue(app, "shop.greet", "Ada")
    end(app, job_id, lambda: Dead((FAILURE,)))
    stdout = run("jobs", "show", "-A", "shop", job_id).stdout
    for words in (job_id, "failed", "1 (1 failed, 0 crashed)", "attempt 1", "on w1", "Traceback: no route"):
        assert words in stdout
    assert "Ada" not in stdout
    assert '{"name":"Ada"}' in run("jobs", "show", "-A", "shop", job_id, "--payload").stdout


def test_shows_that_workers_do_not_know_the_task(run: Run, app: Outwork) -> None:
    job_id = enqueue(app, "shop.greet", "Ada")
    assert "given back" not in run("jobs", "show", "-A", "shop", job_id).stdout
    for times in ("once", "2 times"):
        end(app, job_id, lambda: Release(missed=True))
        said = f"{times}, by a worker that does not know the task"
        assert said in run("jobs", "show", "-A", "shop", job_id).stdout
    assert json.loads(run("jobs", "show", "-A", "shop", job_id, "--json").stdout)["misses"] == 2


def test_shows_a_result_as_json(run: Run, app: Outwork) -> None:
    job_id = enqueue(app, "shop.greet", "Ada")
    end(app, job_id, lambda: Done(b'"hello"'))
    shown = json.loads(run("jobs", "show", "-A", "shop", job_id, "--payload", "--json").stdout)
    assert (shown["state"], shown["result"], shown["errors"]) == ("SUCCESSFUL", "hello", [])
    assert "result" not in json.loads(run("jobs", "show", "-A", "shop", job_id, "--json").stdout)


def test_an_unknown_job_is_one(run: Run, app: Outwork) -> None:
    assert "OW141 no job x in memory:" in run("jobs", "show", "-A", "shop", "x", code=1).stderr
    assert "OW141 no job x" in run("jobs", "cancel", "-A", "shop", "x", "--yes", code=1).stderr


def test_retries_by_id_without_asking(run: Run, app: Outwork) -> None:
    job_id = enqueue(app, "shop.greet", "Ada")
    end(app, job_id, lambda: Dead((FAILURE,)))
    assert run("jobs", "retry", "-A", "shop", job_id).stdout == "1 job to be run again\n"
    assert memory(app).get([job_id])[0].state is State.READY  # type: ignore[union-attr]
    assert (
        "0 jobs to be run again, 1 left: not failed or cancelled"
        in run("jobs", "retry", "-A", "shop", job_id, code=1).stdout
    )


def test_cancels_what_fits(run: Run, app: Outwork) -> None:
    one = enqueue(app, "shop.greet", "Ada")
    two = enqueue(app, "shop.send", "a@example.org")
    assert run("jobs", "cancel", "-A", "shop", "--queue", "mail", "--yes").stdout == "1 job cancelled\n"
    states = [record.state for record in memory(app).get([one, two]) if record]
    assert states == [State.READY, State.CANCELLED]


def test_deletes_everything_but_running_jobs(run: Run, app: Outwork) -> None:
    running = enqueue(app, "shop.greet", "Ada")
    memory(app).exchange("c" * 32, [], [Share("default", 1)], 1, 1, "w1")
    enqueue(app, "shop.greet", "Ada")
    enqueue(app, "shop.send", "a@example.org")
    assert run("jobs", "delete", "-A", "shop", "--all", "--yes").stdout == "2 jobs deleted\n"
    assert [record.id for record in memory(app).results] == [running]


def test_a_limit_limits(run: Run, app: Outwork) -> None:
    for _ in range(3):
        enqueue(app, "shop.greet", "Ada")
    assert run("jobs", "delete", "-A", "shop", "--all", "--limit", "2", "--yes").stdout == "2 jobs deleted\n"
    assert len(memory(app).results) == 1


def test_asks_only_on_a_terminal(run: Run, app: Outwork, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = enqueue(app, "shop.greet", "Ada")
    assert "Delete 1 job? There is no terminal" in run("jobs", "delete", "-A", "shop", job_id, code=2).stderr
    monkeypatch.setattr("outwork.cli.common.has_terminal", lambda: True)
    assert "nothing was changed" in run("jobs", "delete", "-A", "shop", job_id, stdin="n\n", code=1).stderr
    assert len(memory(app).results) == 1
    assert "1 job deleted" in run("jobs", "delete", "-A", "shop", job_id, stdin="y\n").stdout
    assert memory(app).results == []


@pytest.mark.parametrize("verb", ["retry", "cancel", "delete"])
def test_which_jobs_must_be_said(run: Run, app: Outwork, verb: str) -> None:
    assert "which jobs?" in run("jobs", verb, "-A", "shop", "--yes", code=2).stderr
    assert "give ids or filters" in run("jobs", verb, "-A", "shop", "x", "--all", "--yes", code=2).stderr


# ---- status ---------------------------------------------------------------------------------------------------------


def presence(app: Outwork, *queues: str) -> Presence:
    return Presence(
        worker="web-1",
        host="h",
        pid=42,
        lock="",
        queues=queues,
        concurrency=20,
        started_at=app.broker.now() - 3700,
        version="0.1.0",
        running=3,
        done=1234,
    )


def test_shows_the_status(run: Run, app: Outwork) -> None:
    assert "no jobs" in run("status", "-A", "shop").stdout
    enqueue(app, "shop.greet", "Ada")
    job_id = enqueue(app, "shop.send", "a@example.org")
    result = run("status", "-A", "shop")
    assert "broker  memory:" in result.stdout
    assert "no worker is running; start one with:  outwork worker -A shop\n" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["QUEUE", *(state for state in State if state is not State.HELD)] in rows
    assert ["mail", "0", "1", "0", "0", "0", "0"] in rows
    memory(app).tend(presence(app, "default"), rescue=False)
    result = run("status", "-A", "shop")
    assert "web-1    42  default  3 of 20  1,234       0  1h 1m  0s ago" in result.stdout
    assert "OW101 queue 'mail' has 1 ready job, and no worker" in result.stderr
    shown = json.loads(run("status", "-A", "shop", "--json").stdout)
    assert shown["queues"]["mail"]["ready"] == 1
    assert shown["workers"][0]["done"] == 1234
    assert job_id not in json.dumps(shown)


# ---- config, init, migrate ------------------------------------------------------------------------------------------


def test_shows_the_configuration(run: Run, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("outwork.toml", "lease = 12\n")
    monkeypatch.setenv("OUTWORK_BROKER_URL", "redis://:hunter2@db/0?password=hunter2")
    for words in (["config"], ["config", "--json"]):
        result = run(*words)
        assert "hunter2" not in result.output
        assert "redis://:***@db/0" in result.stdout
    shown = json.loads(result.stdout)
    assert shown["lease"] == {"value": 12.0, "origin": "outwork.toml:1"}
    assert shown["broker_url"]["origin"] == "environment OUTWORK_BROKER_URL"
    assert shown["worker.concurrency"] == {"value": 20, "origin": "default"}


def test_init_writes_what_can_be_used(run: Run, project: Path) -> None:
    result = run("init")
    assert 'wrote outwork.toml  (broker_url = "sqlite:///outwork.db", beside this file)' in result.stdout
    assert "wrote tasks.py      (one task: tasks.greet)" in result.stdout
    assert "tasks.greet(name: str, times: int = 1) -> str" in run("tasks").stdout
    assert f"sqlite:///{project}/outwork.db" in run("config").stdout


def test_init_overwrites_nothing(run: Run, write: Write) -> None:
    path = write("tasks.py", "mine = True\n")
    result = run("init")
    assert "kept  tasks.py" in result.stdout
    assert path.read_text() == "mine = True\n"
    assert "kept  outwork.toml" in run("init").stdout


def test_migrate_has_nothing_to_do_without_tables(run: Run) -> None:
    assert "nothing to do: memory: has no tables" in run("migrate", "-A", "shop").stdout
    assert "contradict" in run("migrate", "-A", "shop", "--check", "--sql", code=2).stderr


# ---- pause ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_bare_name_is_asked_what_it_is(run: Run, command: str) -> None:
    assert f"outwork {command} --queue mail  or  --task mail" in run(command, "mail", code=2).output


# ---- habits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["worker", "--burst"], "No such option '--burst'. Here it is --drain\n"),
        (["worker", "-Q", "mail"], "No such option '-Q'. Here it is --queues A,B\n"),
        (["worker", "--conccurrency", "4"], "Did you mean"),
        (["purge"], "No such command 'purge'. Here it is jobs delete --queue NAME\n"),
        (["beat"], "not needed: every worker enqueues what is periodic"),
        (["stauts"], "Did you mean 'status'?"),
        (["worker", "mail"], ". If it is a queue, write  --queues mail"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_what_others_call_it_is_said_in_our_words(run: Run, words: list[str], said: str) -> None:
    assert said in run(*words, code=2).output
