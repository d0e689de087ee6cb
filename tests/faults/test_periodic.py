"""Periodic tasks with many workers: killed at the slot, with a clock that jumps, on brokers that cannot keep them.
RabbitMQ beside a store has `test_pairs.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outwork.brokers import open_broker
from support.ledger import Ledger
from support.rounds import LOCAL, OFFSET
from support.slots import all_since_the_first, fire_with_eight_processes, jobs_by_slot, put
from support.waiting import until
from support.workers import Workers, workers_in

TARGET = "support.rounds"


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
    # A server's clock decides; without one all processes look at the same clock of their host.
    wrong = {} if broker_url.startswith("sqlite") else {LOCAL: "wrong"}
    with workers_in(tmp_path, broker_url, environ | wrong | {OFFSET: str(clock)}) as started:
        yield started


def test_eight_processes_fire_a_slot_once(ledger: Ledger, workers: Workers, clock: Path) -> None:
    fire_with_eight_processes(ledger, lambda *words: workers.start(TARGET, *words), clock)


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
