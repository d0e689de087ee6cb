"""Under gunicorn, with a preload master and several processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL

import pytest

from embedded.books import Books
from outwork.job import State
from support.ledger import Ledger
from support.sites import Site, Sites, exists, threads_of
from support.waiting import until


def gunicorn(sites: Sites, *words: str, **environ: str) -> Site:
    bind = ("--bind", "127.0.0.1:PORT", "--no-control-socket")
    return sites.start("-m", "gunicorn", *bind, *words, "embedded.shop:wsgi_app", **environ)


@pytest.mark.parametrize("processes", ["2", "4"])
def test_jobs_run_once(processes: str, sites: Sites, books: Books, ledger: Ledger, starts: Callable[..., int]) -> None:
    books.schedule_for_yesterday("yesterday")
    site = gunicorn(sites, "-w", processes, "--preload", AT_IMPORT="import").listening()
    assert books.workers() == set()  # the master has enqueued, and started nothing
    assert ledger.entries() == []
    site.get()
    starts("yesterday")
    starts("import")
    for number in range(10):
        site.get(f"/enqueue?key=request-{number}")
    site.get("/enqueue?key=many&n=30")
    until(lambda: ledger.count("E") >= 42, "the end of all jobs")
    assert set(ledger.keys("S").values()) == {1}
    until(lambda: len(books.records(State.SUCCESSFUL)) == 42, "the settling of all jobs")
    assert books.workers() <= set(site.below())
    assert {entry.pid for entry in ledger.entries()} <= books.workers()
    assert threads_of(site.pid) == 1
    assert site.stop() == 0
    assert books.workers() == set()


def test_what_does_not_end_is_given_back(
    sites: Sites, books: Books, ledger: Ledger, gate: Path, starts: Callable[..., int]
) -> None:
    site = gunicorn(sites, "-w", "2", "--preload")
    site.get("/enqueue?task=gated&key=long&n=3")
    until(lambda: ledger.count("S") == 3, "three that do not end")
    assert site.stop() == 0
    assert len(books.given_back()) == 3
    assert books.workers() == set()
    gate.touch()
    gunicorn(sites, "-w", "2", "--preload").get()
    until(lambda: ledger.count("E") == 3, "their end after a restart, without any enqueue")


def test_another_process_takes_the_jobs_of_one_that_was_killed(
    sites: Sites, books: Books, ledger: Ledger, gate: Path, starts: Callable[..., int]
) -> None:
    site = gunicorn(sites, "-w", "2", "--preload")
    until(lambda: site.get() and len(books.workers()) == 2, "a worker in each process")
    site.get("/enqueue?task=gated&key=long")
    first = starts("long")
    os.kill(first, SIGKILL)
    second = starts("long", 2)
    assert second != first
    gate.touch()
    until(lambda: ledger.count("E", "long") == 1, "its end")
    until(lambda: books.records(State.SUCCESSFUL), "its result")
    [record] = books.records()
    assert (record.crashes, record.failures) == (1, 0)
    assert site.stop() == 0


def test_what_is_drained_may_use_executors(
    sites: Sites, books: Books, ledger: Ledger, starts: Callable[..., int]
) -> None:
    site = gunicorn(sites, "-w", "1")
    site.get("/enqueue?task=uses_an_executor&key=x")
    starts("x")
    assert site.stop() == 0
    assert ledger.count("E", "x") == 1
    assert [record.failures for record in books.records(State.SUCCESSFUL)] == [0]


def test_threads_in_memory(sites: Sites, ledger: Ledger, gate: Path) -> None:
    """25 tasks, 10 at once, and the request is answered before the first of them ends."""
    site = gunicorn(sites, "-w", "1", OUTWORK_BROKER_URL="thread:?concurrency=10")
    site.get("/enqueue?task=gated&key=job&n=25")
    until(lambda: ledger.count("S") == 10, "ten at work")
    site.get()
    assert (ledger.count("S"), ledger.count("E")) == (10, 0)
    gate.touch()
    until(lambda: ledger.count("E") == 25, "the end of all jobs")
    at_once = most = 0
    for entry in ledger.entries():
        at_once += 1 if entry.event == "S" else -1
        most = max(most, at_once)
    assert most == 10
    assert set(ledger.keys("S").values()) == {1}
    assert site.stop() == 0


def test_processes_in_memory(sites: Sites, ledger: Ledger, gate: Path) -> None:
    """Two at once, each in a process of its own; nobody outlives the server, however it ends."""
    site = gunicorn(sites, "-w", "1", OUTWORK_BROKER_URL="process:?children=2")
    site.get("/enqueue?task=gated&key=job&n=4")
    until(lambda: ledger.count("S") == 2, "two at work")
    [server] = [pid for pid in site.below() if pid not in {entry.pid for entry in ledger.entries()}]
    children = {entry.pid for entry in ledger.entries()}
    assert len(children) == 2
    gate.touch()
    until(lambda: ledger.count("E") == 4, "the end of all jobs")
    assert {entry.pid for entry in ledger.entries()} == children
    gate.unlink()
    site.get("/enqueue?task=gated&key=orphan&n=2")
    until(lambda: ledger.count("S") == 6, "two more at work")
    os.kill(server, SIGKILL)
    until(lambda: not any(map(exists, children)), "the end of the orphans")
    assert ledger.count("E") == 4
    assert site.stop() == 0


def test_waiting_jobs_in_memory_run_while_the_server_ends(
    sites: Sites, ledger: Ledger, starts: Callable[..., int]
) -> None:
    site = gunicorn(sites, "-w", "1", OUTWORK_BROKER_URL="thread:?concurrency=2")
    site.get("/enqueue?key=job&n=10&seconds=0.1")
    starts("job-0")
    assert site.stop() == 0
    assert ledger.count("E") == 10
    assert "end with this process" not in site.text()
