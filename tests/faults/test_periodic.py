"""Periodic tasks with many workers: killed at the slot, with a clock that jumps, on brokers that cannot keep them."""

from __future__ import annotations

import os
import random
import signal
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from outwork.brokers import open_broker
from support.ledger import Ledger
from support.rounds import OFFSET
from support.waiting import until
from support.workers import Workers, send, workers_in

TARGET = "support.rounds"
PROCESSES = 8


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """What it says is how many seconds the broker's clock is wrong, for every worker."""
    path = tmp_path / "offset"
    path.write_text("0")
    return path


@pytest.fixture
def workers(tmp_path: Path, broker_url: str, environ: dict[str, str], clock: Path) -> Iterator[Workers]:
    broker = open_broker(broker_url)
    broker.close()
    if not broker.capabilities.periodic:
        pytest.skip("it keeps no schedules")
    with workers_in(tmp_path, broker_url, environ | {OFFSET: str(clock)}) as started:
        yield started


def jobs_by_slot(ledger: Ledger) -> dict[int, set[str]]:
    """The jobs that were started for each slot; one that was killed is started again under its id."""
    found: defaultdict[int, set[str]] = defaultdict(set)
    for entry in ledger.entries():
        found[int(entry.key)].add(entry.note)
    return found


def all_since_the_first(ledger: Ledger, count: int) -> bool:
    """Whether there is a job for each slot, and for so many of them."""
    found = jobs_by_slot(ledger)
    return len(found) >= count and set(found) == set(range(min(found), max(found) + 1))


def put(clock: Path, seconds: float) -> None:
    """Change the clock at once: a reader never sees half a number."""
    new = clock.with_suffix(".new")
    new.write_text(str(seconds))
    os.replace(new, clock)


def test_eight_processes_fire_a_slot_once(ledger: Ledger, workers: Workers, clock: Path) -> None:
    """Killed at the slot, five of them, one after the other; then the clock jumps forth, back, and forth again."""
    running = workers.start(TARGET, "--processes", str(PROCESSES))
    running.wait_for_line("slots · worker ", times=PROCESSES, seconds=90)
    for _ in range(5):
        seen = len(jobs_by_slot(ledger))
        until(lambda seen=seen: len(jobs_by_slot(ledger)) > seen, "the next slot", pause=0.001)  # type: ignore[misc]
        send(random.choice(running.worker_pids()), signal.SIGKILL)
    for offset in (10, 8, 14):
        put(clock, offset)
        newest = max(jobs_by_slot(ledger))
        until(lambda newest=newest: max(jobs_by_slot(ledger)) > newest, "a slot after the change")  # type: ignore[misc]
    until(lambda: all_since_the_first(ledger, 18), "every slot up to the last", seconds=60)
    assert {slot: jobs for slot, jobs in jobs_by_slot(ledger).items() if len(jobs) != 1} == {}


def test_what_all_workers_missed_is_made_up_for(ledger: Ledger, workers: Workers, clock: Path) -> None:
    running = workers.start(TARGET).ready()
    until(lambda: ledger.count("S"), "the first slot")
    running.kill_all()
    put(clock, 30)
    workers.start(TARGET)
    until(lambda: all_since_the_first(ledger, 30), "the slots that were missed")
    found = jobs_by_slot(ledger)
    assert {slot: jobs for slot, jobs in found.items() if len(jobs) != 1} == {}


@pytest.mark.parametrize("broker_url", ["sqlite"], indirect=True)
def test_rabbitmq_without_a_store_is_refused_at_the_start(workers: Workers) -> None:
    code, log = workers.run(TARGET, url="amqp://127.0.0.1:1")
    assert code == 2
    assert "Set OUTWORK_STORE_URL to a database" in log
    assert "Traceback" not in log
