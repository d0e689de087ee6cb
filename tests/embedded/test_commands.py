"""Outwork's own commands, on a broker whose jobs run in those who enqueue them: no worker but the one asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from signal import SIGTERM

from embedded.books import Books
from outwork.job import State
from support.ledger import Ledger
from support.sites import Sites
from support.waiting import until

CHAIN = """
from embedded.shop import step
from outwork import task
from support import ledger

@task
def first(key: str) -> None:
    ledger.write("S", key)
    step.enqueue("second")
    ledger.write("E", key)
"""


def test_an_enqueue_leaves_the_job_to_others(sites: Sites, books: Books, ledger: Ledger) -> None:
    site = sites.start("-m", "outwork", "-A", "embedded.shop", "enqueue", "embedded.shop.step", "key=x")
    assert site.wait() == 0, site.text()
    assert len(books.records(State.READY)) == 1
    assert books.workers() == set()
    assert ledger.entries() == []


def test_a_worker_has_no_other_inside(
    sites: Sites, books: Books, ledger: Ledger, tmp_path: Path, starts: Callable[..., int]
) -> None:
    (tmp_path / "chain.py").write_text(CHAIN)
    site = sites.start("-m", "outwork", "worker", "chain")
    assert sites.start("-m", "outwork", "-A", "chain", "enqueue", "chain.first", "key=first").wait() == 0
    starts("second")
    until(lambda: len(books.records(State.SUCCESSFUL)) == 2, "the end of both jobs")
    assert len(books.broker.workers()) == 1
    assert site.stop(SIGTERM) == 0
    assert books.workers() == set()
