"""What becomes of limits and unique keys when workers are killed: `kill -9` of whole workers, real processes.

Compositions have `test_composition.py`, RabbitMQ beside a store `test_pairs.py`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw

from outwork import Outwork
from outwork.brokers.base import Filter
from outwork.ids import new_job_id
from outwork.job import WIRE_VERSION, Job, State
from outwork.ties import Gate, Ties
from support import chores
from support.drafts import kill_within_the_window
from support.ledger import Ledger
from support.waiting import until
from support.workers import Workers

TARGET = "support.chores"


def step(key: str, ties: Ties, *, seconds: float = 0.02) -> Job:
    """A job that writes its start and end."""
    return Job(
        v=WIRE_VERSION,
        id=new_job_id(),
        task=chores.step.name,
        args=Raw(msgspec.json.encode({"key": key, "seconds": seconds})),
        ties=ties,
    )


def put(app: Outwork, jobs: list[Job], capability: str) -> None:
    if not getattr(app.broker.capabilities, capability):
        pytest.skip(capability)
    assert app.broker.enqueue(jobs) == [None] * len(jobs)


def states(app: Outwork) -> Counter[State]:
    return Counter(record.state for record in app.store.find(Filter(), limit=10_000).records)


def test_a_place_at_a_limit_comes_back_when_its_worker_is_killed(
    app: Outwork, ledger: Ledger, workers: Workers
) -> None:
    ties = Ties(gates=(Gate("c:narrow", most=1),))
    put(app, [step(f"job-{n}", ties, seconds=0.3) for n in range(5)], "gates")
    worker = workers.start(TARGET)
    until(lambda: ledger.count("S") >= 2 and states(app)[State.HELD] > 0, "one that runs, and others behind it")
    [killed] = worker.worker_pids()
    worker.known(app.broker).kill_all()
    workers.start(TARGET)
    workers.start(TARGET)
    until(lambda: states(app) == {State.SUCCESSFUL: 5}, "the end of all", seconds=60)
    inside: set[str] = set()
    for entry in ledger.entries():
        if entry.pid != killed:
            (inside.add if entry.event == "S" else inside.discard)(entry.key)
            assert len(inside) <= 1, "more were let in than may be"


def test_the_last_call_of_a_debounce_window_is_run_when_all_are_killed_within_it(
    app: Outwork, ledger: Ledger, workers: Workers, environ: dict[str, str], tmp_path: Path
) -> None:
    kill_within_the_window(app, ledger, lambda: workers.start(TARGET), environ, tmp_path)
