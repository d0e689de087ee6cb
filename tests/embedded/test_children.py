"""The child processes of an embedded worker: a child that dies, or is killed, fails its own attempt and no other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest

from outwork import Outwork, TaskFailed, TaskResult
from outwork.worker.embedded import child_options, targets_of
from support import chores, offspring
from support.ledger import VARIABLE, Ledger
from support.waiting import until
from support.workers import alive, children_of

TESTS = Path(__file__).parents[1]


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "ledger"))
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def app(ledger: Ledger) -> Iterator[Outwork]:
    """The application of the chores; its worker starts with the first enqueue."""
    chores.app.override({"broker_url": "process:?children=2"})
    yield chores.app
    chores.app.close()
    chores.app.override({"broker_url": ""})


@pytest.fixture
def memory(ledger: Ledger) -> Iterator[None]:
    """The application of the offspring: one child, of limited memory."""
    offspring.app.override({"broker_url": "process:?children=1", "worker.child_memory": "400M"})
    yield
    offspring.app.close()


def failed(result: TaskResult[Any]) -> str:
    """Why a job failed, once it has."""
    with pytest.raises(TaskFailed):
        result.get(timeout=60)
    result.refresh()
    return f"{result.errors[-1].exception_class_path}: {result.errors[-1].message}"


def test_a_child_that_dies(app: Outwork, ledger: Ledger) -> None:
    neighbour = chores.heavy.enqueue("neighbour", 1.0)
    until(lambda: ledger.count("S") == 1, "the neighbour at work")
    assert "ended with exit code 9" in failed(chores.fatal_to_its_child.enqueue("exit", "exit"))
    assert "was killed by signal 9" in failed(chores.fatal_to_its_child.enqueue("kill", "kill"))
    neighbour.get(timeout=60)
    assert ledger.count("S", "neighbour") == 1


def test_a_child_that_ignores_sigterm(app: Outwork, ledger: Ledger) -> None:
    result = chores.stubborn.enqueue("stubborn")
    until(lambda: ledger.count("S") == 1, "its start")
    [child] = [entry.pid for entry in ledger.entries()]
    os.kill(child, SIGTERM)
    assert "TimeLimitExceeded" in failed(result)
    assert not alive(child)
    chores.heavy.enqueue("next", 0.0).get(timeout=60)


def test_a_child_that_ignores_sigterm_does_not_outlive_its_worker(
    memory: None, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("outwork.worker.embedded.DRAIN_SECONDS", 0.5)
    for key in ("deaf", "waits"):
        offspring.deaf.enqueue(key)
    until(lambda: ledger.count("S") == 1, "its start")
    [child] = [entry.pid for entry in ledger.entries()]
    offspring.app.stop_worker()
    assert "2 jobs of process:?children=1 end with this process" in caplog.text
    assert not alive(child)
    assert child not in children_of(os.getpid())


def test_a_child_that_wants_too_much_memory(memory: None) -> None:
    assert "MemoryError" in failed(offspring.eat.enqueue(1 << 30))
    assert offspring.eat.enqueue(1 << 20).get(timeout=60) == 1 << 20


def test_children_load_what_the_worker_has() -> None:
    assert targets_of(chores.app) == ("support.chores:app",)
    assert child_options(chores.app).command_line == {}


def test_children_are_told_their_limit(memory: None) -> None:
    assert child_options(offspring.app).command_line == {"worker.child_memory": 400 << 20}
