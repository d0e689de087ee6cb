"""`thread:` and `process:` where a process of ours stands still, ends, is starved or has much to keep: what can be
asked of a broker in memory. Whatever ends its process ends the jobs, too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest

from embedded.test_gunicorn import gunicorn
from outwork import Outwork
from support import chores, load
from support.ledger import VARIABLE, Ledger
from support.sites import Sites
from support.waiting import until
from support.workers import send

TESTS = Path(__file__).parents[1]
LEASE = 2.0
SLOTS = 2
URLS = [f"thread:?concurrency={SLOTS}&lease={LEASE:g}", f"process:?children={SLOTS}&lease={LEASE:g}"]
both = pytest.mark.parametrize("url", URLS, ids=["thread", "process"])


@pytest.fixture
def inside(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The applications of this process, whose children find the ledger."""
    monkeypatch.setenv(VARIABLE, str(ledger.path))
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    yield
    for app in (chores.app, load.app):
        app.close()
        app.override({"broker_url": ""})


def on(app: Outwork, url: str) -> None:
    app.close()
    app.override({"broker_url": url})


@both
def test_a_process_that_stood_still_for_three_leases(url: str, sites: Sites, ledger: Ledger) -> None:
    site = gunicorn(sites, "-w", "1", OUTWORK_BROKER_URL=url)
    site.get("/enqueue?key=job&n=20&seconds=0.2")
    until(lambda: ledger.count("E") >= 4, "some work")
    pids = [site.pid, *site.below()]
    for pid in pids:
        send(pid, SIGSTOP)
    time.sleep(3 * LEASE)
    for pid in pids:
        send(pid, SIGCONT)
    until(lambda: len(ledger.keys("E")) == 20, "the end of all jobs", seconds=60)
    assert site.stop() == 0
    assert ledger.count("E") <= 20 + SLOTS


def test_waiting_jobs_run_in_children_while_the_server_ends(sites: Sites, ledger: Ledger) -> None:
    site = gunicorn(sites, "-w", "1", OUTWORK_BROKER_URL=URLS[1])
    site.get("/enqueue?key=job&n=10&seconds=0.1")
    until(lambda: ledger.count("S") >= 1, "some work")
    assert site.stop() == 0
    assert ledger.keys("E") == {f"job-{number}": 1 for number in range(10)}
    assert "end with this process" not in site.text()


def test_a_child_that_holds_its_interpreter_for_two_leases(inside: None, ledger: Ledger) -> None:
    on(load.app, URLS[1])
    load.greedy.enqueue("greedy", 2 * LEASE)
    until(lambda: ledger.count("S", "greedy") == 1, "its start")
    others = [load.work.enqueue(f"job-{number}", 0.05, False) for number in range(10)]
    for other in others:
        other.get(timeout=60)
    assert ledger.count("E", "greedy") == 0
    until(lambda: ledger.count("E", "greedy") == 1, "its end", seconds=60)
    assert ledger.count("S", "greedy") == 1


@both
def test_much_that_waits_holds_nothing_back(url: str, inside: None, ledger: Ledger) -> None:
    on(chores.app, url)
    later, elsewhere = chores.step.using(run_after=86_400), chores.step.using(run_after=86_400, queue_name="elsewhere")
    for call in (later, elsewhere):
        chores.app.enqueue_many(call.bind("never") for _ in range(100_000))
    for number in range(20):
        chores.step.enqueue(f"job-{number}").get(timeout=60)
    assert ledger.keys("S") == {f"job-{number}": 1 for number in range(20)}
