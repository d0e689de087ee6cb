"""The replay of ledgers through the state machine accepts what faults do to jobs, and nothing else."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from faults.scorecard.replay import Illegal, replay
from outwork.job import Record, State
from support.ledger import Entry, Event

JOB = "job-1"


def a_record(claim: str, *, crashes: int = 0, failures: int = 0, state: State = State.SUCCESSFUL) -> Record:
    given = Record(id="1", task="t", queue="default", priority=0, body=b"", state=state, due=0.0, enqueued_at=0.0)
    return replace(given, claim_id=claim, crashes=crashes, failures=failures)


def a_ledger(*lines: str) -> list[Entry]:
    """Lines like `S a 1 0 0`: the event, the claim, the attempt, the crashes and the failures before it."""
    split = [line.split(" ", 1) for line in lines]
    return [Entry(event, JOB, float(at), 1, note) for at, (event, note) in enumerate(split)]


LEGAL: dict[str, tuple[list[Entry], Record]] = {
    "done": (a_ledger("S a 1 0 0", "E a 1 0 0"), a_record("a")),
    "its worker died": (a_ledger("S a 1 0 0", "S b 2 1 0", "E b 2 1 0"), a_record("b", crashes=1)),
    "its end was not told": (
        a_ledger("S a 1 0 0", "E a 1 0 0", "S b 2 1 0", "E b 2 1 0"),
        a_record("b", crashes=1),
    ),
    "it failed once": (a_ledger("S a 1 0 0", "F a 1 0 0", "S b 2 0 1", "E b 2 0 1"), a_record("b", failures=1)),
    "its failure was not told": (
        a_ledger("S a 1 0 0", "F a 1 0 0", "S b 2 1 0", "F b 2 1 0", "S c 3 1 1", "E c 3 1 1"),
        a_record("c", crashes=1, failures=1),
    ),
    "given back": (a_ledger("S a 1 0 0", "S b 1 0 0", "E b 1 0 0"), a_record("b")),
    "a frozen worker wakes": (
        a_ledger("S a 1 0 0", "S b 2 1 0", "E a 1 0 0", "E b 2 1 0"),
        a_record("b", crashes=1),
    ),
    "a worker that lost it starts it late": (
        a_ledger("S b 2 1 0", "E b 2 1 0", "S a 1 0 0", "E a 1 0 0"),
        a_record("b", crashes=1),
    ),
    "two workers died before it started": (a_ledger("S a 3 2 0", "E a 3 2 0"), a_record("a", crashes=2)),
    "buried": (
        a_ledger("S a 1 0 0", "S b 2 1 0", "S c 3 2 0", "S d 4 3 0"),
        replace(a_record("", crashes=4, state=State.FAILED), claim_id=None),
    ),
}
ILLEGAL: dict[str, tuple[list[Entry], Record]] = {
    "it never ended": (a_ledger("S a 1 0 0"), a_record("a")),
    "a stale end was taken": (a_ledger("S a 1 0 0", "S b 2 1 0", "E a 1 0 0"), a_record("a", crashes=1)),
    "a crash was not counted": (a_ledger("S a 1 0 0", "S b 2 1 0", "E b 2 1 0"), a_record("b")),
    "an attempt was not counted": (a_ledger("S a 1 0 0", "S b 1 1 0", "E b 1 1 0"), a_record("b", crashes=1)),
    "it was buried too late": (
        a_ledger("S a 1 0 0", "S b 2 1 0", "S c 3 2 0", "S d 4 3 0", "S e 5 4 0", "E e 5 4 0"),
        a_record("e", crashes=4),
    ),
}


@pytest.mark.parametrize("name", LEGAL)
def test_what_faults_do_is_explained(name: str) -> None:
    entries, record = LEGAL[name]
    assert replay(entries, JOB, record) >= 3


@pytest.mark.parametrize("name", ILLEGAL)
def test_what_no_move_explains_is_found(name: str) -> None:
    entries, record = ILLEGAL[name]
    with pytest.raises(Illegal):
        replay(entries, JOB, record)


def test_a_started_job_that_had_ended_is_found() -> None:
    kinds: tuple[Event, ...] = ("S", "E", "S")
    entries = [Entry(kind, JOB, float(at), 1, "a 1 0 0") for at, kind in enumerate(kinds)]
    with pytest.raises(Illegal, match="started after it had ended"):
        replay(entries, JOB, a_record("a"))
