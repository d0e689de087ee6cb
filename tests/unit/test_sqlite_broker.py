"""What is particular to the SQLite broker: the file, its locks, its clocks, its schema, and several processes on it."""

from __future__ import annotations

import os
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec import Raw

from outwork.brokers.base import Exchanged, Filter, Settlement, Share
from outwork.brokers.sql.migrate import Standing, Step, steps, todo
from outwork.brokers.sql.sqlite import SQLiteBroker
from outwork.brokers.sql.sqlite.file import mount_type, refuse_network
from outwork.brokers.sql.sqlite.statements import SQL, statements
from outwork.errors import BrokerFull, BrokerRefused, BrokerUnavailable, InvalidURL, OutworkError, SchemaError
from outwork.job import Again, Answer, Dead, Done, Failure, Job, State, Terms
from support.disks import SmallDisk, small_disk

DEADLINE = 60.0
Make = Callable[..., SQLiteBroker]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Broker objects on one file, closed afterwards."""
    made: list[SQLiteBroker] = []

    def make_one(path: Path | None = None, terms: Terms | None = None, busy_timeout: float = 10.0) -> SQLiteBroker:
        broker = SQLiteBroker(path or tmp_path / "jobs.db", terms, busy_timeout=busy_timeout)
        made.append(broker)
        return broker

    yield make_one
    for broker in made:
        broker.close()


def job(name: str, queue: str = "default", size: int = 1) -> Job:
    return Job(v=1, id=name, task="test.task", args=Raw(b'{"x":"%s"}' % (b"x" * size)), queue=queue)


def put(broker: SQLiteBroker, count: int, start: int = 0) -> None:
    assert broker.enqueue([job(f"job-{start + i:06}") for i in range(count)]) == [None] * count


def exchange(
    broker: SQLiteBroker, limit: int = 0, outcomes: list[Settlement] | None = None, claim_id: str | None = None
) -> Exchanged:
    return broker.exchange(
        claim_id or secrets.token_hex(16), outcomes or [], [Share("default", limit)], limit, limit, "worker-1"
    )


def done(answer: Exchanged, result: bytes = b"1") -> list[Settlement]:
    return [Settlement(one.id, one.claim_id, Done(result)) for one in answer.claimed]


def spawn(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-W", "error", "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    return out


# ---- URLs -----------------------------------------------------------------------------------------------------------


def test_three_slashes_and_two_are_relative_to_where_the_object_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    brokers = [SQLiteBroker.from_url(url) for url in ("sqlite:///jobs.db", "sqlite://jobs.db", "sqlite://sub/jobs.db")]
    monkeypatch.chdir("/")
    assert [broker.path for broker in brokers] == [
        str(tmp_path / name) for name in ("jobs.db", "jobs.db", "sub/jobs.db")
    ]
    assert not list(tmp_path.glob("*.db")), "connects at first use"


def test_four_slashes_are_absolute(tmp_path: Path) -> None:
    broker = SQLiteBroker.from_url(f"sqlite:///{tmp_path}/my%20jobs.db")
    assert broker.path == f"{tmp_path}/my jobs.db"
    assert broker.runs_in == "elsewhere"


def test_the_options_are_read() -> None:
    broker = SQLiteBroker.from_url("sqlite:///x.db?lease=3&keep=4&keep_failed=5&embedded=true&table_prefix=a_")
    assert broker.terms == Terms(lease=3, keep=4, keep_failed=5)
    assert broker.runs_in == "embedded"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:///x.db?leese=3", "Did you mean lease?"),
        ("sqlite:///x.db?embedded=perhaps", "true or false"),
        ("sqlite:///x.db?table_prefix=a;b", "letters, digits"),
        ("sqlite:///", "names no file"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "thread:"),
        ("sqlite://me:secret@x.db", "no user"),
        ("sqlite:///tmp/x.db", "sqlite:////tmp/x.db"),
        ("sqlite:///nowhere-at-all/x.db", "mkdir -p"),
    ],
)
def test_a_bad_url_is_refused(url: str, words: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        SQLiteBroker.from_url(url)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


# ---- what cannot work: one clear line --------------------------------------------------------------------------------


def refusal(broker: SQLiteBroker) -> OutworkError:
    with pytest.raises(OutworkError) as caught:
        broker.enqueue([job("a")])
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_missing_directory_is_named(make: Make, tmp_path: Path) -> None:
    error = refusal(make(tmp_path / "gone" / "jobs.db"))
    assert isinstance(error, BrokerRefused)
    assert f"mkdir -p {tmp_path}/gone" in str(error)


def test_a_file_that_is_no_database_is_left_alone(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, and they are longer than a header of a database could ever be" * 10)
    before = path.read_bytes()
    error = refusal(make(path))
    assert isinstance(error, BrokerRefused)
    assert "not a SQLite database" in str(error)
    assert path.read_bytes() == before


def test_a_directory_is_no_database(make: Make, tmp_path: Path) -> None:
    assert "is a directory" in str(refusal(make(tmp_path)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
@pytest.mark.parametrize("which", ["file", "directory"])
def test_what_cannot_be_written_is_named(make: Make, tmp_path: Path, which: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "jobs.db"
    path.touch()
    (path if which == "file" else folder).chmod(0o555)
    try:
        assert "cannot be written by this user" in str(refusal(make(path)))
    finally:
        folder.chmod(0o755)


def test_a_locked_file_is_unavailable_after_the_timeout(make: Make) -> None:
    broker = make(busy_timeout=0.2)
    put(broker, 1)
    other = sqlite3.connect(broker.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BrokerUnavailable, match=r"OW107 .* is locked: another process .* 0\.2 s"):
        exchange(broker, 1)
    other.execute("ROLLBACK")
    other.close()
    assert len(exchange(broker, 1).claimed) == 1


def test_a_newer_schema_is_refused_and_not_harmed(make: Make) -> None:
    broker = make()
    put(broker, 1)
    connection = sqlite3.connect(broker.path)
    connection.execute("UPDATE outwork_meta SET value = '99' WHERE name IN ('version', 'oldest')")
    connection.commit()
    with pytest.raises(SchemaError, match=r"version 99.*Upgrade outwork"):
        put(make(), 1, 1)
    assert connection.execute("SELECT count(*) FROM outwork_job").fetchone() == (1,)
    connection.close()


def test_a_network_file_system_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(BrokerRefused, match=r"network file system \(NFS\).*local disk.*postgresql://"):
        refuse_network(str(tmp_path / "jobs.db"), lambda directory: 0x6969)
    refuse_network(str(tmp_path / "jobs.db"), lambda directory: 0xEF53)


def test_the_mount_of_a_directory_is_found(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text("/dev/a / ext4 rw 0 0\nhost:/x /mnt/my\\040share fuse.sshfs rw 0 0\n")
    assert mount_type("/mnt/my share/deep", str(table)) == "fuse.sshfs"
    assert mount_type("/mnt/my shares", str(table)) == "ext4"
    assert mount_type("/", str(tmp_path / "gone")) == ""


def test_a_file_replaced_under_the_broker_is_opened_anew(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outwork.brokers.sql.sqlite.file.LOOK_AGAIN", 0.0)
    broker = make()
    put(broker, 3)
    for path in tmp_path.glob("jobs.db*"):
        path.unlink()
    put(broker, 1)
    assert sum(count.jobs for count in broker.counts()) == 1


def test_a_closed_broker_says_so(make: Make) -> None:
    broker = make()
    put(broker, 1)
    broker.close()
    broker.close()
    assert broker.wait(["default"], 10) is False
    with pytest.raises(BrokerUnavailable, match="closed"):
        put(broker, 1)


# ---- the schema -----------------------------------------------------------------------------------------------------


def test_the_schema_is_made_at_first_use_and_can_be_asked_for(make: Make, tmp_path: Path) -> None:
    broker = make()
    assert broker.pending() == ["0001 initial", "0002 outbox", "0003 bound"]
    assert "CREATE TABLE outwork_job" in broker.sql()
    assert not (tmp_path / "jobs.db").exists(), "asking changes nothing"
    assert broker.migrate() == ["0001 initial", "0002 outbox", "0003 bound"]
    assert broker.migrate() == []
    assert broker.pending() == []
    assert broker.sql() == ""
    assert len(broker.identity()) == 32
    assert broker.identity() == make().identity()


def test_the_sql_can_be_run_by_hand(make: Make, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "jobs.db")
    connection.executescript(make().sql())
    connection.close()
    assert make().pending() == []
    put(make(), 1)


def test_steps_lead_to_a_version() -> None:
    known = [Step(1, "one", ""), Step(2, "two", ""), Step(3, "three", "")]
    assert [step.number for step in todo(known, Standing(1, 1), "here")] == [2, 3]
    assert [step.number for step in todo(known, Standing(1, 1), "here", 2)] == [2]
    for version, to in ((4, None), (2, 1), (0, 4)):
        with pytest.raises(SchemaError):
            todo(known, Standing(version, version), "here", to)
    assert todo(known, Standing(5, 3), "here") == [], "a newer release with which this one can go on"
    for oldest, to in ((4, None), (3, 3)):
        with pytest.raises(SchemaError):
            todo(known, Standing(5, oldest), "here", to)


def test_a_step_is_read_as_statements() -> None:
    (first, *_) = steps("sqlite", "p_")
    assert all(statement.startswith(("CREATE ", "INSERT ")) for statement in first.statements)
    assert not any(";" in statement for statement in first.statements)


def test_another_prefix_is_another_broker_in_the_same_file(tmp_path: Path) -> None:
    first = SQLiteBroker(tmp_path / "jobs.db")
    second = SQLiteBroker(tmp_path / "jobs.db", table_prefix="other_")
    put(first, 2)
    assert second.counts() == []
    assert first.identity() != second.identity()
    first.close()
    second.close()


# ---- clocks, claims, bodies ------------------------------------------------------------------------------------------


def test_a_lease_of_another_boot_is_void(make: Make) -> None:
    broker = make()
    put(broker, 2)
    exchange(broker, 2)
    assert make().tend(None, rescue=True).rescued == 0
    connection = sqlite3.connect(broker.path)
    connection.execute("UPDATE outwork_meta SET value = 'an earlier one' WHERE name = 'boot'")
    connection.commit()
    connection.close()
    assert make().tend(None, rescue=True).rescued == 2


def test_results_that_are_no_json_text_are_kept_as_they_are(make: Make) -> None:
    broker = make()
    put(broker, 4)
    claimed = exchange(broker, 4).claimed
    results = [b"\xff\xfe", b"a\0b", b'"\\u0000"', '"ä€😀"'.encode()]
    settled = [Settlement(one.id, one.claim_id, Done(result)) for one, result in zip(claimed, results, strict=True)]
    assert set(exchange(broker, 0, settled).answers) == {Answer.DONE}
    assert [record and record.result for record in broker.get([one.id for one in claimed])] == results


def test_an_error_text_that_cannot_be_encoded_does_not_hold_up_the_others(make: Make) -> None:
    broker = make()
    put(broker, 3)
    first, second, third = exchange(broker, 3).claimed
    bad = Failure(exception="x.Y", message="file \udcff", traceback="", attempt=1, worker="w", at=0.0)
    settled = [
        Settlement(first.id, first.claim_id, Dead((bad,))),
        Settlement(second.id, second.claim_id, Again(0.0, (bad,))),
        Settlement(third.id, third.claim_id, Done(b"1")),
    ]
    assert exchange(broker, 0, settled).answers == [Answer.DONE] * 3
    records = broker.get([first.id, second.id, third.id])
    assert [record and record.state for record in records] == [State.FAILED, State.READY, State.SUCCESSFUL]
    assert [record.errors[0].message for record in records[:2] if record] == ["file ?", "file ?"]


def test_the_same_job_twice_in_a_batch_is_settled_once(make: Make) -> None:
    broker = make()
    put(broker, 2)
    first, second = exchange(broker, 2).claimed
    settled = [
        Settlement(first.id, first.claim_id, Again(0.0)),
        Settlement(first.id, first.claim_id, Done(b"1")),
        Settlement(second.id, second.claim_id, Done(b"2")),
    ]
    assert exchange(broker, 0, settled).answers == [Answer.DONE, Answer.ALREADY, Answer.DONE]


def test_bodies_that_nobody_can_read_are_handed_over_untouched(make: Make) -> None:
    broker = make()
    put(broker, 4)
    bodies = [b"\xff\xfe garbage", b"1,2", b'],"', b"{}"]
    connection = sqlite3.connect(broker.path)
    for number, body in enumerate(bodies):
        connection.execute("UPDATE outwork_job SET body = ? WHERE id = ?", [body, f"job-{number:06}"])
    connection.commit()
    connection.close()
    assert [one.body for one in exchange(broker, 4).claimed] == bodies


RARE = {"adopt", "queues", "counts", "workers", "lost", "cancelling", "claimed", "forget_silent", "record", "uncommon"}
"""Statements that go through small tables, are asked by people or once, or are no whole statements."""


@pytest.mark.parametrize("name", sorted(SQL.keys() - RARE))
def test_no_statement_walks_over_jobs_or_sorts_them(make: Make, name: str) -> None:
    broker = make()
    put(broker, 1)
    sql = statements("outwork_")[name]
    numbers = [int(number) for number in re.findall(r"\?(\d+)", sql)]
    connection = sqlite3.connect(broker.path)
    rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * (max(numbers) if numbers else sql.count("?")))
    plan = [str(row[3]) for row in rows]
    connection.close()
    scans = [line for line in plan if re.match(r"SCAN (outwork|[jers]\b)", line) and "COVERING INDEX" not in line]
    assert not scans, plan  # a covering index in order is walked as far as LIMIT 1
    if name not in ("mix", "to_send"):  # they put short lists in order
        assert not [line for line in plan if "TEMP B-TREE FOR ORDER" in line], plan


# ---- waking up ------------------------------------------------------------------------------------------------------

ENQUEUE_LATER = """
import sys
from msgspec import Raw
from outwork.brokers.sql.sqlite import SQLiteBroker
from outwork.job import Job
broker = SQLiteBroker(sys.argv[1])
broker.counts()
print("ready", flush=True)
sys.stdin.readline()
broker.enqueue([Job(v=1, id="theirs", task="t", args=Raw(b"{}"))])
broker.close()
"""


@pytest.mark.parametrize("blind", [False, True])
def test_a_wait_ends_when_another_process_enqueues(make: Make, monkeypatch: pytest.MonkeyPatch, blind: bool) -> None:
    if blind:

        def no_inotify(path: str) -> None:
            raise OSError("no inotify here")

        monkeypatch.setattr("outwork.brokers.sql.sqlite.bell.FileWatch", no_inotify)
    broker = make()
    assert broker.wait(["default"], 0) is False
    with subprocess.Popen(
        [sys.executable, "-c", ENQUEUE_LATER, broker.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin
        assert other.stdout
        other.stdout.readline()
        print("go", file=other.stdin, flush=True)
        assert broker.wait(["default"], DEADLINE) is True
        assert broker.wait(["another"], 0) is False


def test_a_wait_sleeps_without_using_the_processor(make: Make) -> None:
    broker = make()
    broker.wait(["default"], 0)
    before = time.thread_time()
    assert broker.wait(["default"], 1.0) is False
    assert time.thread_time() - before < 0.05


def test_results_are_waited_for_across_processes(make: Make) -> None:
    broker, other = make(), make()
    put(broker, 2)
    answer = exchange(other, 1)
    ended: list[set[str]] = []
    waiter = threading.Thread(target=lambda: ended.append(broker.wait_result(["job-000000", "job-000001"], DEADLINE)))
    waiter.start()
    exchange(other, 0, done(answer))
    waiter.join(DEADLINE)
    assert ended == [{"job-000000"}]


# ---- several processes ----------------------------------------------------------------------------------------------

WORK_HARD = """
import secrets, sys
from msgspec import Raw
from outwork.brokers.base import Settlement, Share
from outwork.brokers.sql.sqlite import SQLiteBroker
from outwork.job import Done, Job
broker = SQLiteBroker(sys.argv[1])
settled = 0
outcomes = []
for number in range(500):
    broker.enqueue([Job(v=1, id=f"{sys.argv[2]}-{number}", task="t", args=Raw(b"{}"))])
    answer = broker.exchange(secrets.token_hex(16), outcomes, [Share("default", 1)], 1, 1, sys.argv[2])
    assert set(answer.answers) <= {"done"}
    settled += len(outcomes)
    outcomes = [Settlement(one.id, one.claim_id, Done(b"1")) for one in answer.claimed]
while outcomes:
    answer = broker.exchange(secrets.token_hex(16), outcomes, [Share("default", 9)], 9, 9, sys.argv[2])
    settled += len(outcomes)
    outcomes = [Settlement(one.id, one.claim_id, Done(b"1")) for one in answer.claimed]
print(settled)
broker.close()
"""


def test_eight_processes_enqueue_claim_and_settle_on_one_file_without_an_error(make: Make, tmp_path: Path) -> None:
    processes = [spawn(WORK_HARD, str(tmp_path / "jobs.db"), f"worker-{number}") for number in range(8)]
    assert sum(int(said(process)) for process in processes) == 4000
    assert [(count.state, count.jobs) for count in make().counts()] == [(State.SUCCESSFUL, 4000)]


ENQUEUE_AND_CLAIM_FOR_EVER = """
import itertools, secrets, sys
from msgspec import Raw
from outwork.brokers.base import Settlement, Share
from outwork.brokers.sql.sqlite import SQLiteBroker
from outwork.job import Done, Job
broker = SQLiteBroker(sys.argv[1])
outcomes = []
for number in itertools.count():
    jobs = [Job(v=1, id=f"{sys.argv[2]}-{number}-{i}", task="t", args=Raw(b"{}")) for i in range(5)]
    broker.enqueue(jobs)
    print(*(job.id for job in jobs), flush=True)
    answer = broker.exchange(secrets.token_hex(16), outcomes, [Share("default", 4)], 4, 4, sys.argv[2])
    outcomes = [Settlement(one.id, one.claim_id, Done(b"1")) for one in answer.claimed]
"""


def test_nothing_is_lost_when_processes_are_killed_in_the_middle(make: Make, tmp_path: Path) -> None:
    accepted: set[str] = set()
    for turn in range(6):
        process = spawn(ENQUEUE_AND_CLAIM_FOR_EVER, str(tmp_path / "jobs.db"), f"worker-{turn}")
        assert process.stdout
        for _ in range(3 + turn):
            accepted.update(process.stdout.readline().split())
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate(timeout=DEADLINE)
        accepted.update(word for line in out.splitlines(keepends=True) if line.endswith("\n") for word in line.split())
    broker = make()
    dead = [f"worker-{turn}" for turn in range(6)]
    while broker.tend(None, rescue=False, dead=dead).more:
        pass
    while answer := exchange(broker, 100).claimed:
        exchange(broker, 0, [Settlement(one.id, one.claim_id, Done(b"1")) for one in answer])
    records = broker.find(Filter(), limit=100_000).records
    assert accepted <= {record.id for record in records}
    assert {record.state for record in records} == {State.SUCCESSFUL}
    check = sqlite3.connect(broker.path)
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()


MIGRATE = """
import sys
from outwork.brokers.sql.sqlite import SQLiteBroker
broker = SQLiteBroker(sys.argv[1])
print(broker.identity())
broker.close()
"""


def test_many_processes_may_start_at_once_on_a_new_file(tmp_path: Path) -> None:
    processes = [spawn(MIGRATE, str(tmp_path / "jobs.db")) for _ in range(6)]
    assert len({said(process) for process in processes}) == 1


FORK = """
import os, sys, threading
from msgspec import Raw
from outwork.brokers.sql.sqlite import SQLiteBroker
from outwork.job import Job

def put(name):
    assert broker.enqueue([Job(v=1, id=name, task="t", args=Raw(b"{}"))]) == [None]

broker = SQLiteBroker(sys.argv[1])
put("before")
listener = threading.Thread(target=broker.wait, args=(["another"], 60))
listener.start()
stop = threading.Event()
def busily():
    number = 0
    while not stop.is_set():
        put(f"thread-{number}")
        number += 1
noise = threading.Thread(target=busily)
noise.start()
children = []
for child in range(10):
    pid = os.fork()
    if pid == 0:
        for number in range(20):
            put(f"child-{child}-{number}")
        assert broker.wait(["default"], 10) is True
        broker.close()
        os._exit(0)
    children.append(pid)
    put(f"parent-{child}")
for pid in children:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
stop.set()
noise.join()
put("after")
broker.interrupt()
listener.join(60)
assert not listener.is_alive()
ids = {record.id for record in broker.find(__import__("outwork.brokers.base").brokers.base.Filter(), 10**6).records}
print(sum(name.startswith(("child", "parent", "before", "after")) for name in ids))
broker.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_children_of_a_fork_open_their_own_connections(make: Make, tmp_path: Path) -> None:
    assert int(said(spawn(FORK, str(tmp_path / "jobs.db")))) == 10 * 20 + 10 + 2
    check = sqlite3.connect(tmp_path / "jobs.db")
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()


# ---- the disk is full -----------------------------------------------------------------------------------------------


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    with small_disk(8) as disk:
        yield disk


def fill_up(broker: SQLiteBroker) -> None:
    for number in range(10_000):
        broker.enqueue([job(f"large-{number:05}", "another", 20_000)])


def test_a_full_disk_refuses_jobs_lets_the_others_finish_and_heals(disk: SmallDisk, make: Make) -> None:
    broker = make(disk.path / "jobs.db")
    put(broker, 200)
    running = exchange(broker, 100)
    with pytest.raises(BrokerFull, match=r"is full.*Free some space"):
        fill_up(broker)
    assert len(broker.find(Filter(queue="another"), 1000).records) > 50
    assert set(exchange(broker, 0, done(running)).answers) == {Answer.DONE}, "the reserve is there for this"

    running = exchange(broker, 100)
    disk.fill()
    with suppress(BrokerFull):  # not one byte is left: as many are settled as fit
        exchange(broker, 0, done(running))
    disk.free()
    assert set(exchange(broker, 0, done(running)).answers) <= {Answer.DONE, Answer.ALREADY}
    states = {record.state for record in broker.get([one.id for one in running.claimed]) if record}
    assert states == {State.SUCCESSFUL}

    large = [record.id for record in broker.find(Filter(queue="another"), 1000).records]
    assert set(broker.delete(large)) == {State.READY}
    assert broker.enqueue([job("afterwards")]) == [None]
