"""What becomes of jobs that are bound to others when workers are killed: `kill -9` of whole workers, real processes."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from msgspec import Raw

from outwork import Outwork
from outwork.brokers.base import Filter
from outwork.ids import new_job_id
from outwork.job import WIRE_VERSION, Job, State
from outwork.ties import Gate, Ties
from support import chores
from support.ledger import Ledger
from support.waiting import until
from support.workers import Workers

TARGET = "support.chores"


def step(key: str, ties: Ties, *, seconds: float = 0.02, job_id: str = "") -> Job:
    """A job that writes its start and end."""
    return Job(
        v=WIRE_VERSION,
        id=job_id or new_job_id(),
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


def running(app: Outwork) -> list[str]:
    return [record.id for record in app.store.find(Filter(states=(State.RUNNING,)), limit=10_000).records]


def test_a_chain_whose_workers_are_killed_loses_no_link_and_starts_none_too_early(
    app: Outwork, ledger: Ledger, workers: Workers
) -> None:
    ids = [new_job_id() for _ in range(15)]
    links = [
        step(
            f"link-{place:02}",
            Ties(awaits=int(place > 0), reports=(ids[place + 1],) if place + 1 < len(ids) else ()),
            seconds=0.1,
            job_id=ids[place],
        )
        for place in range(len(ids))
    ]
    put(app, links[::-1], "composition")
    in_flight: Counter[str] = Counter()
    for killed_at in (3, 8, 13):
        worker = workers.start(TARGET)
        until(lambda enough=killed_at: ledger.count("E") >= enough, "some links")  # type: ignore[misc]
        worker.kill_all()
        in_flight.update(f"link-{ids.index(job_id):02}" for job_id in running(app))
    workers.start(TARGET)
    until(lambda: states(app) == {State.SUCCESSFUL: len(ids)}, "the end of the chain", seconds=60)
    starts = ledger.keys("S")
    assert {key: times for key, times in starts.items() if times > 1 + in_flight[key]} == {}
    ended: set[str] = set()
    for entry in ledger.entries():
        place = int(entry.key[-2:])
        assert entry.event == "E" or place == 0 or f"link-{place - 1:02}" in ended, f"{entry.key} was too early"
        if entry.event == "E":
            ended.add(entry.key)


@pytest.mark.parametrize("before_the_end", [1, 0])
def test_a_group_whose_worker_is_killed_at_its_last_member_is_followed_once(
    app: Outwork, ledger: Ledger, workers: Workers, before_the_end: int
) -> None:
    members = 30
    last = step("last", Ties(awaits=members))
    put(app, [last, *(step(f"m-{n}", Ties(reports=(last.id,))) for n in range(members))], "composition")
    worker = workers.start(TARGET, "--concurrency", "4")
    until(lambda: ledger.count("E") >= members - before_the_end, "the last member")
    worker.kill_all()
    in_flight = last.id in running(app)
    workers.start(TARGET)
    until(lambda: states(app) == {State.SUCCESSFUL: members + 1}, "the end of all", seconds=60)
    assert 1 <= ledger.count("S", "last") <= 1 + in_flight
    entries = ledger.entries()
    first = next(place for place, entry in enumerate(entries) if entry.key == "last")
    ended_before = {entry.key for entry in entries[:first] if entry.event == "E"}
    assert len(ended_before) == members, "it followed before all had ended"


def test_a_place_at_a_limit_comes_back_when_its_worker_is_killed(
    app: Outwork, ledger: Ledger, workers: Workers
) -> None:
    ties = Ties(gates=(Gate("c:narrow", most=1),))
    put(app, [step(f"job-{n}", ties, seconds=0.3) for n in range(5)], "gates")
    worker = workers.start(TARGET)
    until(lambda: ledger.count("S") >= 2 and states(app)[State.HELD] > 0, "one that runs, and others behind it")
    [killed] = worker.worker_pids()
    worker.kill_all()
    workers.start(TARGET)
    workers.start(TARGET)
    until(lambda: states(app) == {State.SUCCESSFUL: 5}, "the end of all", seconds=60)
    inside: set[str] = set()
    for entry in ledger.entries():
        if entry.pid != killed:
            (inside.add if entry.event == "S" else inside.discard)(entry.key)
            assert len(inside) <= 1, "more were let in than may be"
