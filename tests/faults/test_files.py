"""What a broker in a file meets: many writers, a full disk, a file that is not there yet."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from outwork import Outwork
from outwork.brokers.base import Filter
from outwork.errors import BrokerFull
from outwork.job import State
from support import chores
from support.disks import SmallDisk, small_disk
from support.ledger import Ledger
from support.waiting import until
from support.workers import Workers

TARGET = "support.chores"
pytestmark = pytest.mark.parametrize("broker_url", ["sqlite"], indirect=True)


def ended(app: Outwork, state: State = State.SUCCESSFUL) -> int:
    return sum(count.jobs for count in app.store.counts() if count.state is state)


def test_ten_writers_and_two_workers_on_one_file(
    app: Outwork, ledger: Ledger, workers: Workers, environ: dict[str, str], broker_url: str
) -> None:
    for _ in range(2):
        workers.start(TARGET)
    command = [sys.executable, "-m", "support.produce", broker_url]
    producers = [
        subprocess.Popen([*command, f"writer{number}", "50"], env=environ, stderr=subprocess.PIPE)
        for number in range(10)
    ]
    for producer in producers:
        said = producer.communicate(timeout=60)[1]
        assert producer.returncode == 0, said.decode()
    until(lambda: ended(app) == 500, "the end of all jobs")
    assert ledger.count("K") == 500
    assert ledger.lost() == set()
    assert set(ledger.keys("S").values()) == {1}


def test_a_worker_waits_for_the_file(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    running = workers.start(TARGET).ready()
    chores.step.enqueue("first").get(timeout=60)
    assert ledger.count("E") == 1
    assert running.stop() == 0


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    with small_disk(40) as disk:
        yield disk


def test_a_full_disk(app: Outwork, ledger: Ledger, workers: Workers, disk: SmallDisk) -> None:
    """Enqueueing is refused, what was accepted is done, and when there is room again all goes on."""
    url = f"sqlite:///{disk.path}/tasks.db"
    app.close()
    app.override({"broker_url": url})
    disk.fill(34_000_000)
    accepted = 0
    while accepted < 10_000:
        try:
            chores.step.enqueue(f"job-{accepted}-" + "x" * 20_000, 0)
        except BrokerFull:
            break
        accepted += 1
    assert 10 < accepted < 10_000
    running = workers.start(TARGET, url=url)
    until(lambda: ledger.count("E") >= 10, "some of what was accepted to be done even so")
    disk.free()
    until(lambda: ended(app) == accepted, "all of it settled", seconds=60)
    chores.step.enqueue("afterwards").get(timeout=60)
    assert app.store.find(Filter(states=(State.FAILED,))).records == []
    assert set(ledger.keys("E").values()) == {1}
    assert running.stop() == 0
