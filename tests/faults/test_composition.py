"""What waits for others is never lost and never called twice, whoever is killed at whatever moment. Real processes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from outwork import Outwork, TaskFailed, chain, group
from outwork.brokers.base import Filter
from outwork.job import Record, State
from support import chores
from support.ledger import Event, Ledger
from support.waiting import until
from support.workers import Workers

TARGET = "support.chores"
PATIENCE = 90.0


@pytest.fixture(autouse=True)
def _can(app: Outwork) -> None:
    if not app.broker.capabilities.composition:
        pytest.skip(f"{app.broker.url}: composition")


def records(app: Outwork, *states: State) -> list[Record]:
    """All jobs in these states (none given: in any)."""
    return app.store.find(Filter(states=states or None), limit=10_000).records


def test_chains_go_on_when_whole_workers_are_killed(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    """Six chains of four; twice a worker is killed at a random moment, then a default one goes on. (What was killed
    twice is run one at a time, a second apart.)"""
    results = {}
    for number in range(6):
        keys = [f"{number}-{step}" for step in range(4)]
        steps = [chores.follow.bind(key=key) for key in keys[1:]]
        results[">".join(keys)] = chain(chores.step.bind(keys[0]), *steps).enqueue()
    in_flight = 0
    for _ in range(2):
        running = workers.start(TARGET)
        target = ledger.count("E") + random.randint(1, 8)
        until(lambda target=target: ledger.count("E") >= target, "the end of some jobs")  # type: ignore[misc]
        running.known(app.broker).kill_all()
        in_flight += len(records(app, State.RUNNING))
    workers.start(TARGET)
    for path, result in results.items():
        assert result.get(PATIENCE) == path
    assert Counter(record.state for record in records(app)) == {State.SUCCESSFUL: 24}
    starts = ledger.keys("S")
    assert len(starts) == 24
    assert sum(starts.values()) <= 24 + in_flight


def test_a_group_whose_worker_is_killed_at_its_last_member_calls_back_once(
    app: Outwork, ledger: Ledger, workers: Workers
) -> None:
    """Three groups: killed while the last member runs, at the moment when it ends, and while the callback runs."""
    running = workers.start(TARGET)
    moments: list[tuple[Event, str]] = [("S", "last"), ("E", "last"), ("S", "callback")]
    for number, (event, key) in enumerate(moments):
        running.known(app.broker)
        keys = [f"{number}-{name}" for name in (*map(str, range(19)), "last")]
        members = [chores.step.bind(name, 0.3 if "last" in name else 0.0) for name in keys]
        callback = chores.gather.bind(key=f"{number}-callback", seconds=0.3)
        result = group(members).then(callback).enqueue()
        until(lambda line=(event, f"{number}-{key}"): ledger.count(*line), f"{event} {key}")  # type: ignore[misc]
        running.kill_all()
        running = workers.start(TARGET)
        assert result.get(PATIENCE) == keys
    assert Counter(record.task for record in records(app)) == {chores.step.name: 60, chores.gather.name: 3}
    starts, ends = ledger.keys("S"), ledger.keys("E")
    assert [ends[f"{number}-callback"] for number in range(3)] == [1, 1, 1]
    assert starts["0-callback"] == 1
    assert max(starts.values()) <= 2


def test_each_kind_of_task_takes_what_came_before(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    both = group([chores.step.bind("a"), chain(chores.step.bind("b"), chores.follow_on_the_loop.bind(key="c"))])
    result = chain(both, chores.follow_in_a_child.bind(key="d"), chores.follow.bind(key="e")).enqueue()
    running = workers.start(TARGET)
    assert result.get(PATIENCE) == "a+b>c>d>e"
    assert running.stop() == 0


def test_ten_thousand_members(app: Outwork, workers: Workers) -> None:
    result = group(chores.echo.bind(number) for number in range(10_000)).then(chores.add_up).enqueue()
    workers.start(TARGET)
    assert result.get(PATIENCE) == sum(range(10_000))


PRODUCER = """
import os, signal
from outwork import group
from support import chores

chores.app.override({"broker_url": BROKER})
broker = chores.app.broker
enqueue, batches = broker.enqueue, []

def enqueue_once(jobs):
    if batches:
        os.kill(os.getpid(), signal.SIGKILL)
    batches.append(len(jobs))
    return enqueue(jobs)

broker.enqueue = enqueue_once
group(chores.echo.bind(number) for number in range(2500)).then(chores.add_up).enqueue()
"""


def test_a_group_whose_producer_is_killed_half_way_fails_after_its_time(
    app: Outwork, broker_url: str, environ: dict[str, str], tmp_path: Path, workers: Workers
) -> None:
    program = PRODUCER.replace("BROKER", repr(broker_url))
    done = subprocess.run([sys.executable, "-c", program], env=environ, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    workers.start(TARGET)
    until(lambda: len(records(app, State.SUCCESSFUL)) == 999, "the end of the members that came", seconds=PATIENCE)
    [callback] = records(app, State.HELD)
    app.broker.clock_offset = 601
    app.broker.tend(None, rescue=False)
    app.broker.clock_offset = 0
    with pytest.raises(TaskFailed, match=r"1501 of the 2500 jobs before it failed, .* it was never enqueued"):
        app.get_result(callback.id).get(PATIENCE)
