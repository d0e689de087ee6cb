"""The comparison with the peers: its ledger, its contestants, its arithmetic, and a contestant that needs no peer."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Final

import pytest

from benchmarks.peers import contestant, measure, processes, produce
from benchmarks.peers.__main__ import calibrate, idleness, speeds
from benchmarks.peers.contestant import Contestant, contestants, declared, homes
from benchmarks.peers.course import Ledger
from benchmarks.peers.measure import Failed, Sizes, Speed, percentile
from benchmarks.peers.processes import Worker, until
from benchmarks.peers.spaces import Spaces
from benchmarks.results import load, recording

DEADLINE: Final = 60.0
ALL: Final = contestants()
PLACES: Final = {"python": "python", "bin": "bin", "produce": "produce.py", "name": "name", "url": "url"}
TINY: Final = Sizes(
    seconds=0.2, fill=1.0, drain=60.0, most=300, first=40, stamps=3, slow=1500, killed=15, recovery=50.0
)


def python(code: str, environ: dict[str, str]) -> None:
    """Run code that imports the course, as a contestant does."""
    where = {**os.environ, "PYTHONPATH": str(contestant.HERE), **environ}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=where, check=True, timeout=DEADLINE)


# ---- the ledger ------------------------------------------------------------------------------------------------------


def test_every_thread_of_every_process_is_counted_however_it_ends(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    assert ledger.progress().count == 0
    code = """
        import os, signal, threading, course

        def many(count):
            for number in range(count):
                assert course.noop(number, "hello") == number

        many(10)  # the slot of this thread, which its forked children have to leave alone
        threads = [threading.Thread(target=many, args=(100,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for _ in range(3):
            if os.fork() == 0:
                many(5)
                os.kill(os.getpid(), signal.SIGKILL)
            assert os.wait()[1] == signal.SIGKILL
        many(1)
    """
    python(code, {"BENCH_LEDGER": str(ledger.folder)})
    progress = ledger.progress()
    assert progress.count == 10 + 4 * 100 + 3 * 5 + 1
    assert 0 < progress.first < progress.last
    assert progress.seconds == (progress.last - progress.first) / 1e9


def test_processes_that_begin_at_once_take_slots_of_their_own(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    code = """
        import os, course

        gate = os.pipe()
        for _ in range(8):
            if os.fork() == 0:
                os.close(gate[1])
                os.read(gate[0], 1)  # until the parent lets go of the other end
                for number in range(50):
                    course.noop(number, "hello")
                os._exit(0)
        os.close(gate[1])
        for _ in range(8):
            assert os.wait()[1] == 0
    """
    python(code, {"BENCH_LEDGER": str(ledger.folder)})
    assert ledger.progress().count == 8 * 50


def test_slow_jobs_leave_their_numbers_at_the_start_and_at_the_end(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    code = """
        import asyncio, os, signal, threading, course

        course.slow(7)
        asyncio.run(course.aslow(8))
        threading.Timer(0.005, os.kill, (os.getpid(), signal.SIGTERM)).start()
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        course.slow(9)
    """
    python(code, {"BENCH_LEDGER": str(ledger.folder)})
    assert ledger.slow("starts") == [7, 8, 9]
    assert ledger.slow("ends") == [7, 8]


# ---- what contestants declare ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", ALL.values(), ids=ALL)
def test_a_contestant_declares_what_the_harness_needs(one: Contestant) -> None:
    source = (contestant.FOLDER / f"{one.name}.py").read_text()
    compile(source, one.name, "exec")
    assert one.settings.endswith(".")
    assert one.name.startswith("postgres_" if one.broker == "postgresql" else f"{one.broker}_")
    assert [word.format(**PLACES) for word in one.worker]
    assert (one.peer == "Outwork") == (not one.requirements)
    assert "Producer" in source


def test_outwork_runs_on_every_broker_that_a_peer_runs_on() -> None:
    ours = {one.broker for one in ALL.values() if one.peer == "Outwork"}
    assert ours == {one.broker for one in ALL.values()}


def test_what_a_contestant_lacks_is_said() -> None:
    complete = (contestant.FOLDER / "redis_outwork.py").read_text()
    assert declared("x", complete).peer == "Outwork"
    with pytest.raises(ValueError, match="x does not declare ACKS"):
        declared("x", complete.replace("ACKS = ", "ACK = "))
    with pytest.raises(ValueError, match="declares BROKER 'kafka'"):
        declared("x", complete.replace('BROKER = "redis"', 'BROKER = "kafka"'))


def test_contestants_of_one_peer_share_an_environment_with_all_they_require() -> None:
    hueys = [one for one in ALL.values() if one.peer == "Huey"]
    assert len(hueys) > 1
    found = homes(hueys[:1])
    assert list(found) == ["Huey"]
    assert set(found["Huey"].requirements) == {word for one in hueys for word in one.requirements}


# ---- arithmetic ------------------------------------------------------------------------------------------------------


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(value) for value in range(200, 0, -1)]
    assert percentile(values, 50) == 100.0
    assert percentile(values, 99) == 198.0
    assert percentile(values, 100) == 200.0
    assert percentile([3.0], 50) == percentile([3.0], 99) == 3.0


def test_as_many_jobs_are_drained_as_time_and_filling_allow() -> None:
    sizes = Sizes(seconds=4.0, fill=8.0, most=200_000)
    assert sizes.many(Speed(drain=1000.0, enqueue=5000.0, fill=5000.0)) == 4000
    assert sizes.many(Speed(drain=50_000.0, enqueue=100.0, fill=100.0)) == 800
    assert sizes.many(Speed(drain=90_000.0, enqueue=9000.0, fill=90_000.0)) == 200_000
    assert sizes.many(Speed(drain=0.1, enqueue=1.0, fill=1.0)) == 50
    assert sizes.ones(Speed(drain=1.0, enqueue=5000.0, fill=1.0)) == 10_000


# ---- processes -------------------------------------------------------------------------------------------------------

BUSY: Final = """
import os, sys, time
children = []
for leaves in (False, True):
    if (pid := os.fork()) == 0:
        if leaves:
            os.setsid()
        while True:
            time.sleep(60)
    children.append(pid)
if (pid := os.fork()) == 0:
    while time.process_time() < 0.3:
        pass
    os._exit(0)
os.waitpid(pid, 0)
print(*children, flush=True)
time.sleep(60)
"""


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[tuple[Worker, list[int]]]:
    """A worker with a child in its session, one that left it, and one that has worked and ended."""
    worker = Worker([sys.executable, "-c", BUSY], os.environ, tmp_path / "log")
    try:
        assert until(lambda: worker.text().endswith("\n"), DEADLINE), worker.text()
        yield worker, [int(word) for word in worker.text().split()]
    finally:
        worker.kill()


def test_a_worker_is_measured_with_all_its_processes(busy: tuple[Worker, list[int]]) -> None:
    worker, children = busy
    assert set(processes.family(worker.pid)) == {worker.pid, *children}
    assert 0.28 <= processes.cpu([worker.pid]) < 10.0, "its child that has ended counts"
    assert processes.cpu([]) == 0.0
    assert processes.memory(worker.pid) > 1.0


def test_a_worker_is_killed_with_all_its_processes(busy: tuple[Worker, list[int]]) -> None:
    worker, children = busy
    worker.kill()
    assert worker.ended
    assert not set(processes.everybody()) & {worker.pid, *children}
    assert worker._process.returncode == -SIGKILL
    worker.kill()


# ---- one contestant through all of it --------------------------------------------------------------------------------


@pytest.fixture
def spaces() -> Iterator[Spaces]:
    with Spaces() as made:
        yield made


def test_outwork_on_sqlite_is_measured(spaces: Spaces, tmp_path: Path) -> None:
    one = ALL["sqlite_outwork"]
    home = homes([one])["Outwork"]
    assert home.versions().keys() == {"outwork"}
    with recording("peers", folder=tmp_path) as run:
        with measure.course(one, home, spaces) as its:
            speed = calibrate(its, TINY)
        assert min(speed.drain, speed.enqueue, speed.fill) > 0.0
        with measure.course(one, home, spaces) as its:
            waiting = TINY.ones(speed) + TINY.many(speed)  # by the speed so far, which `speeds` replaces
            speeds(its, TINY, speed, run)
            assert its.ledger.progress().count >= waiting
        with measure.course(one, home, spaces) as its:
            idleness(its, TINY, run)
    found = load("peers", tmp_path).runs[0].measurements
    assert {one.subject for one in found} == {"sqlite_outwork"}
    processor = {"CPU", "CPU of the producer", "CPU of the worker", "CPU of the server"}
    quantities = {one.quantity for one in found}
    assert quantities & processor in (processor, set()), "none of it if all jobs were done before anybody could look"
    assert quantities - processor == {
        "enqueue",
        "bulk enqueue",
        "drain",
        "latency from the call, p50",
        "latency from the call, p99",
        "latency from the return, p50",
        "latency from the return, p99",
        "memory of the idle worker",
    }
    assert all(one.median > 0.0 for one in found if one.quantity in ("enqueue", "bulk enqueue", "drain"))


def test_the_jobs_of_a_killed_worker_are_counted(spaces: Spaces) -> None:
    one = ALL["sqlite_outwork"]
    told: list[float] = []
    with measure.course(one, homes([one])["Outwork"], spaces) as its:
        killed = its.recover(TINY, its.interrupt(TINY), told.append)
        done = Counter(its.ledger.slow("ends"))
    assert set(done) == set(range(TINY.slow))
    assert killed.lost == 0
    assert killed.twice == sum(1 for times in done.values() if times > 1)
    assert killed.seconds is not None
    assert 0.0 < killed.seconds < TINY.recovery
    assert told


def test_a_contestant_that_does_not_get_there_fails_with_what_it_said(spaces: Spaces) -> None:
    one = ALL["sqlite_outwork"]
    home = homes([one])["Outwork"]
    with (
        pytest.raises(Failed, match="ModuleNotFoundError: No module named 'nobody'"),
        measure.course(declared("nobody", (contestant.FOLDER / "sqlite_outwork.py").read_text()), home, spaces),
    ):
        raise AssertionError("a contestant without a module was set up")
    with measure.course(one, home, spaces) as its:
        its.enqueue("enqueue", 2)
        its.one = declared("nobody", (contestant.FOLDER / "sqlite_outwork.py").read_text())
        with pytest.raises(Failed, match=r"(?s)no job was run:.*nobody"):
            its.drain(2, 1.0)


def test_a_job_that_is_run_twice_is_not_taken_for_the_next_one() -> None:
    assert produce.first_since(5.0, b"4.75\n5.25\n5.5\n") == 5.25
    assert produce.first_since(5.0, b"4.75\n") is None
