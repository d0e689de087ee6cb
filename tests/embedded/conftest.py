"""A SQLite file, a ledger, and web servers whose workers are embedded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedded.books import Books
from support.ledger import VARIABLE, Ledger
from support.sites import Sites, sites_in
from support.waiting import until

TESTS = Path(__file__).parents[1]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The file for which gated tasks wait."""
    return tmp_path / "gate"


@pytest.fixture
def environ(tmp_path: Path, ledger: Ledger, gate: Path) -> dict[str, str]:
    """The environment of a server: a SQLite file whose jobs run inside it, tests importable."""
    foreign = ("OUTWORK_", "FLASK_", "DJANGO_", "WERKZEUG_", "GUNICORN_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return clean | {
        "PYTHONPATH": f"{TESTS}:{tmp_path}",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "OUTWORK_BROKER_URL": f"sqlite:///{tmp_path}/tasks.db?embedded=true&lease=6",
        "GATE": str(gate),
        VARIABLE: str(ledger.path),
    }


@pytest.fixture
def sites(tmp_path: Path, environ: dict[str, str]) -> Iterator[Sites]:
    """Starts servers; none outlives the test."""
    with sites_in(tmp_path, environ) as started:
        yield started


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    books = Books(tmp_path / "tasks.db")
    yield books
    books.broker.close()


@pytest.fixture
def starts(ledger: Ledger) -> Callable[..., int]:
    """Wait until so many starts of a key are in the ledger; the pid of the last."""

    def wait(key: str, times: int = 1) -> int:
        until(lambda: ledger.count("S", key) >= times, f"{times} starts of {key}")
        return [entry.pid for entry in ledger.entries() if (entry.event, entry.key) == ("S", key)][-1]

    return wait
