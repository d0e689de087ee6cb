"""What becomes of the jobs when workers are killed, frozen, told to stop, or poisoned. Real processes throughout."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter

import pytest

from outwork import Outwork
from outwork.brokers.base import Filter
from outwork.job import Record, State
from support import chores
from support.chores import Death
from support.disks import small_disk
from support.ledger import Ledger
from support.waiting import until
from support.workers import Workers, alive, send, workers_in
from support.workers import state as state_of

TARGET = "support.chores"


def records(app: Outwork, *states: State) -> list[Record]:
    """All jobs in these states (none given: in any)."""
    return app.store.find(Filter(states=states or None), limit=10_000).records


def all_ended(app: Outwork, count: int) -> bool:
    return len(records(app, State.SUCCESSFUL, State.FAILED, State.CANCELLED)) == count


def states(app: Outwork) -> Counter[State]:
    return Counter(record.state for record in records(app))


# ---- death -----------------------------------------------------------------------------------------------------------


def test_nothing_is_lost_when_whole_workers_are_killed(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    """500 jobs; three times a worker is killed by `kill -9` at a random moment, then a default one goes on. (A fourth
    death may bury a job that was in hand each time.)"""
    results = app.enqueue_many(chores.step.bind(f"job-{number}") for number in range(500))
    names = {result.id: f"job-{number}" for number, result in enumerate(results)}
    in_flight: Counter[str] = Counter()
    for _ in range(3):
        running = workers.start(TARGET)
        target = ledger.count("E") + random.randint(1, 100)
        until(lambda target=target: ledger.count("E") >= target, "the end of some jobs")  # type: ignore[misc]
        running.kill_all()
        in_flight.update(names[record.id] for record in records(app, State.RUNNING))
    began = time.monotonic()
    workers.start(TARGET)
    until(lambda: all_ended(app, 500), "the end of all jobs", seconds=60)
    assert time.monotonic() - began < 60
    assert states(app) == {State.SUCCESSFUL: 500}
    assert set(ledger.keys("E")) == set(names.values())
    starts = ledger.keys("S")
    assert {key: n for key, n in starts.items() if n > 1 + in_flight[key]} == {}


def test_one_process_killed_is_replaced_and_the_others_go_on(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    running = workers.start(TARGET, "--processes", "2", "--concurrency", "4").ready(2)
    victim, survivor = running.worker_pids()
    app.enqueue_many(chores.step.bind(f"job-{number}") for number in range(200))
    until(lambda: {victim, survivor} <= {entry.pid for entry in ledger.entries()}, "both at work")
    send(victim, signal.SIGKILL)
    until(lambda: all_ended(app, 200), "the end of all jobs")
    running.wait_for_line("was killed by signal 9; another one starts")
    running.ready(3)
    assert states(app) == {State.SUCCESSFUL: 200}
    assert survivor in running.worker_pids()
    assert victim not in running.worker_pids()
    assert len(running.worker_pids()) == 2
    entries = ledger.entries()
    again = {key for key, starts in ledger.keys("S").items() if starts > 1}
    assert again <= {entry.key for entry in entries if entry.pid == victim}, "a job of the other process ran again"
    assert running.stop() == 0


@pytest.mark.parametrize("how", ["exit", "segv"])
def test_a_job_that_kills_its_worker_is_stopped(app: Outwork, ledger: Ledger, workers: Workers, how: Death) -> None:
    """Four starts, then FAILED; those who happened to be beside it are done."""
    poisoned = chores.poison.using(priority=1).enqueue("poison", how)
    app.enqueue_many(chores.step.bind(f"innocent-{number}") for number in range(50))
    workers.start(TARGET, "--concurrency", "4")
    until(lambda: all_ended(app, 51), "the end of all jobs", seconds=60)
    poisoned.refresh()
    assert ledger.count("S", "poison") == 4
    assert poisoned.state is State.FAILED
    assert poisoned.errors[-1].message == "its worker died 4 times"
    assert poisoned.attempts == 4
    assert states(app) == {State.SUCCESSFUL: 50, State.FAILED: 1}


def test_a_drain_meets_poison(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    chores.poison.enqueue("poison", "exit")
    code, log = workers.run(TARGET, "--drain", seconds=60)
    assert ledger.count("S", "poison") == 4
    assert states(app) == {State.FAILED: 1}
    assert code == 1, log


def test_the_own_disk_of_a_worker_is_full(
    app: Outwork, ledger: Ledger, broker_url: str, environ: dict[str, str]
) -> None:
    """It cannot write its log nor any file, from its start to its end, and does its work."""
    with small_disk(1) as disk, workers_in(disk.path, broker_url, environ | {"TMPDIR": str(disk.path)}) as workers:
        disk.fill()
        running = workers.start(TARGET)
        app.enqueue_many(chores.step.bind(f"job-{number}") for number in range(20))
        app.enqueue_many(chores.heavy.bind(f"child-{number}") for number in range(4))
        failing = [chores.failing.enqueue(f"failing-{number}") for number in range(4)]
        until(lambda: all_ended(app, 28), "the end of all jobs", seconds=60)
        assert states(app) == {State.SUCCESSFUL: 24, State.FAILED: 4}
        for result in failing:
            result.refresh()
            assert result.errors[-1].message == "as asked"
        assert running.stop() == 0
        assert set(ledger.keys("E").values()) == {1}
        assert running.text() == ""


def test_at_most_once_is_not_started_again(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    job = chores.once.enqueue("once", 60)
    running = workers.start(TARGET)
    until(lambda: ledger.count("S", "once"), "its start")
    running.kill_all()
    workers.start(TARGET)
    until(lambda: all_ended(app, 1), "its end")
    job.refresh()
    assert job.state is State.FAILED
    assert "worker died" in job.errors[-1].message
    assert ledger.count("S", "once") == 1


def test_a_supervisor_that_is_killed_leaves_nothing_running(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    """Its processes notice, let their jobs end, and go."""
    running = workers.start(TARGET, "--processes", "2").ready(2)
    chores.step.enqueue("slow", 1.0)
    chores.heavy.enqueue("child", 1.0)
    until(lambda: ledger.count("S") == 2, "the start of both")
    below = running.descendants()
    assert len(below) >= 3
    send(running.pid, signal.SIGKILL)
    until(lambda: not any(map(alive, below)), "the end of all processes")
    assert states(app) == {State.SUCCESSFUL: 2}


def test_children_do_not_outlive_their_worker(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    running = workers.start(TARGET).ready()
    chores.heavy.enqueue("long", 600)
    until(lambda: ledger.count("S", "long"), "its start")
    [worker] = running.worker_pids()
    [child] = {entry.pid for entry in ledger.entries()}
    assert child != worker
    send(worker, signal.SIGKILL)
    until(lambda: not alive(child), "the end of the child")
    until(lambda: ledger.count("S", "long") == 2, "the second start")


# ---- children --------------------------------------------------------------------------------------------------------


def test_a_child_that_dies_fails_its_attempt_only(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    running = workers.start(TARGET, "--children", "2").ready()
    [worker] = running.worker_pids()
    deaths: tuple[Death, ...] = ("exit", "segv", "kill")
    doomed = {how: chores.fatal_to_its_child.enqueue(f"doomed-{how}", how) for how in deaths}
    endless = chores.stubborn.enqueue("stubborn")
    app.enqueue_many(chores.step.bind(f"innocent-{number}") for number in range(20))
    app.enqueue_many(chores.heavy.bind(f"neighbour-{number}") for number in range(5))
    until(lambda: all_ended(app, 29), "the end of all jobs")
    assert states(app) == {State.SUCCESSFUL: 25, State.FAILED: 4}
    ends: dict[Death, str] = {"exit": "exit code 9", "segv": "killed by signal 11", "kill": "killed by signal 9"}
    for how, said in ends.items():
        doomed[how].refresh()
        assert said in doomed[how].errors[-1].message
        assert doomed[how].errors[-1].exception_class_path == "outwork.errors.ChildDied"
    endless.refresh()
    assert endless.errors[-1].exception_class_path == "outwork.errors.TimeLimitExceeded"
    assert max(ledger.keys("S").values()) == 1
    assert running.worker_pids() == [worker]
    until(lambda: len(running.descendants()) <= 3, "the end of the killed children")
    assert running.stop() == 0


# ---- leases ----------------------------------------------------------------------------------------------------------


def test_a_frozen_worker_is_fenced(app: Outwork, ledger: Ledger, workers: Workers, broker_url: str) -> None:
    """It wakes after its leases ran out: what it had begun is not taken, what it had prefetched is not begun."""
    url = f"{broker_url}?lease=3"
    healthy = workers.start(TARGET, "--queues", "other,default", "--concurrency", "4", url=url)
    sleeper = workers.start(TARGET, "--concurrency", "4", url=url)
    healthy.ready()
    sleeper.ready()
    jobs = app.enqueue_many(chores.step.bind(f"job-{number}", 0.05) for number in range(200))
    [frozen] = sleeper.worker_pids()
    until(lambda: ledger_of(ledger, frozen) >= 10, "the sleeper at work")
    sleeper.signal_all(signal.SIGSTOP)
    until(lambda: state_of(frozen) == "T", "the sleeper to stand still")
    settled_then = {record.id for record in records(app) if record.state is State.SUCCESSFUL}
    unsettled = {f"job-{number}" for number, job in enumerate(jobs) if job.id not in settled_then}
    begun = {entry.key for entry in ledger.entries() if entry.event == "S" and entry.pid == frozen}
    until(lambda: all_ended(app, 200), "the end of all jobs, done by the other")
    settled = {record.id: record for record in records(app)}
    woken_at = time.monotonic()
    sleeper.signal_all(signal.SIGCONT)
    sleeper.wait_for_line("its lease was lost")
    assert sleeper.stop() == 0
    assert [e for e in ledger.entries() if e.event == "S" and e.pid == frozen and e.at > woken_at] == []
    assert {record.id: record for record in records(app)} == settled
    assert set(Counter(record.state for record in settled.values())) == {State.SUCCESSFUL}
    assert set(ledger.twice()) <= begun & unsettled
    assert all(record.failures == 0 for record in settled.values())


def ledger_of(ledger: Ledger, pid: int) -> int:
    return sum(1 for entry in ledger.entries() if entry.pid == pid)


def test_long_tasks_are_started_once(app: Outwork, ledger: Ledger, workers: Workers, broker_url: str) -> None:
    """Four leases long, of every kind, with async tasks that block their event loop beside them; two workers."""
    url = f"{broker_url}?lease=1"
    for _ in range(2):
        workers.start(TARGET, url=url).ready()
    chores.step.enqueue("thread", 4)
    chores.coroutine.enqueue("coroutine", 4)
    chores.heavy.enqueue("child", 4)
    chores.once.enqueue("once", 4)
    app.enqueue_many(chores.rude.bind(f"rude-{number}", 0.1) for number in range(40))
    until(lambda: all_ended(app, 44), "the end of all jobs")
    assert set(ledger.keys("S").values()) == {1}
    assert {record.attempts for record in records(app)} == {1}


# ---- being told to stop ----------------------------------------------------------------------------------------------


def test_a_signal_lets_running_jobs_end(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    running = workers.start(TARGET, "--concurrency", "4").ready()
    app.enqueue_many(chores.step.bind(f"job-{number}", 1.0) for number in range(12))
    until(lambda: ledger.count("S") == 4, "the first four at work")
    assert running.stop() == 0
    assert ledger.count("S") == ledger.count("E") == 4
    waiting = records(app, State.READY)
    assert len(waiting) == 8
    assert {(record.attempts, record.crashes, record.misses) for record in waiting} == {(0, 0, 0)}
    assert "stopped cleanly (4 done, 0 failed" in running.text()
    assert app.broker.workers() == []


def test_a_second_signal_gives_back_at_once(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    running = workers.start(TARGET, "--grace", "600").ready()
    for kind in (chores.step, chores.coroutine, chores.heavy, chores.once):
        kind.enqueue(kind.fn.__name__, 600)
    until(lambda: ledger.count("S") == 4, "all at work")
    below = running.descendants()
    running.signal(signal.SIGTERM)
    running.wait_for_line("stopping: ")
    assert running.stop() == 0
    until(lambda: not any(map(alive, below)), "the end of all processes")
    assert states(app) == {State.READY: 3, State.FAILED: 1}
    assert {(record.attempts, record.crashes) for record in records(app, State.READY)} == {(0, 0)}
    assert ledger.count("E") == 0


def test_the_grace_period_ends(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    running = workers.start(TARGET, "--grace", "1").ready()
    app.enqueue_many(chores.step.bind(key, seconds) for key, seconds in (("short", 0.5), ("long", 60.0)))
    until(lambda: ledger.count("S") == 2, "both at work")
    assert running.stop() == 0
    assert states(app) == {State.SUCCESSFUL: 1, State.READY: 1}
    assert records(app, State.READY)[0].attempts == 0


def test_a_worker_that_loads_nothing_yet_can_be_stopped(app: Outwork, workers: Workers) -> None:
    running = workers.start(TARGET)
    until(running.worker_pids, "its process")
    assert running.stop() in (0, -signal.SIGTERM)


# ---- the command line ------------------------------------------------------------------------------------------------


def test_drain_says_how_it_went(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    chores.step.enqueue("good")
    chores.step.using(run_after=3600).enqueue("later")
    code, log = workers.run(TARGET, "--drain")
    assert code == 0, log
    assert "1 scheduled for later" in log
    chores.failing.enqueue("bad")
    code, log = workers.run(TARGET, "--drain")
    assert code == 1, log
    assert "as asked" in log
    assert states(app) == {State.SUCCESSFUL: 1, State.FAILED: 1, State.SCHEDULED: 1}


def test_priority_and_queues(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    for key, priority in (("low", -100), ("middle", 0), ("high", 100)):
        chores.step.using(priority=priority).enqueue(key, 0)
    chores.step.using(queue_name="elsewhere").enqueue("elsewhere", 0)
    app.enqueue_many(chores.from_b.bind(f"b-{number}", 0.1) for number in range(6))
    code, log = workers.run(TARGET, "--drain", "--concurrency", "1", "--queues", "default")
    assert code == 0, log
    assert [entry.key for entry in ledger.entries() if entry.event == "S"] == ["high", "middle", "low"]
    code, log = workers.run(TARGET, "--drain", "--queues", "b:2,default")
    assert code == 0, log
    assert states(app) == {State.SUCCESSFUL: 9, State.READY: 1}
    at_once = most = 0
    for entry in ledger.entries():
        if entry.key.startswith("b-"):
            at_once += 1 if entry.event == "S" else -1
            most = max(most, at_once)
    assert most == 2


def test_two_workers_share_without_doing_anything_twice(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    for _ in range(2):
        workers.start(TARGET, "--concurrency", "2").ready()
    for number in range(60):
        chores.tells_its_attempt.enqueue(f"job-{number}")
    app.enqueue_many(chores.step.bind(f"step-{number}") for number in range(100))
    until(lambda: all_ended(app, 160), "the end of all jobs")
    assert set(ledger.keys("S").values()) == {1}
    assert len({entry.pid for entry in ledger.entries()}) == 2
