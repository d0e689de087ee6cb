"""Cells and ties as they stand in the tables: JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby, islice
from typing import NamedTuple

import msgspec

from outwork.brokers.ledger import Cell
from outwork.job import Job, Record, State, spent
from outwork.ties import Ties

_encode = msgspec.json.Encoder().encode
_cell = msgspec.json.Decoder(Cell).decode
_ties = lru_cache(maxsize=256)(msgspec.json.Decoder(Ties).decode)
"""The members of a group have the same ones."""


class Row(NamedTuple):
    """A row of our table `bound`."""

    id: str
    queue: str
    task: str
    place: str
    knot: str | None
    solo: bool
    rank: int
    due: float
    expires_at: float | None
    claim_id: str | None
    worker: str | None
    lease_until: float | None
    started_at: float | None
    cancel_requested: bool


def row_of(record: Record) -> Row:
    """A bound job in its place."""
    running = record.state is State.RUNNING
    return Row(
        id=record.id,
        queue=record.queue,
        task=record.task,
        place=record.state.value,
        knot=record.knot,
        solo=record.solo,
        rank=-record.priority,
        due=record.due,
        expires_at=record.expires_at,
        claim_id=record.claim_id if running else None,
        worker=record.worker if running else None,
        lease_until=record.lease_until if running else None,
        started_at=record.started_at if running else None,
        cancel_requested=running and record.cancel_requested,
    )


def bond(job_id: str, task: str, queue: str, ties: str | None) -> Record:
    """No more of a running job's record than what binds it."""
    return Record(
        id=job_id,
        task=task,
        queue=queue,
        priority=0,
        body=b"",
        state=State.RUNNING,
        due=0.0,
        enqueued_at=0.0,
        ties=ties_in(ties, State.RUNNING),
    )


def success(job_id: str, task: str, result: bytes) -> Record:
    """No more of the record of a job that ended well than what others want of it."""
    return Record(
        id=job_id,
        task=task,
        queue="",
        priority=0,
        body=b"",
        state=State.SUCCESSFUL,
        due=0.0,
        enqueued_at=0.0,
        result=result,
    )


def ties_of(record: Record) -> str | None:
    """Its ties, to be stored."""
    return written(record.ties)


def by_place(jobs: Sequence[tuple[Job, bytes]], most: int) -> Iterator[tuple[bool, tuple[tuple[Job, bytes], ...]]]:
    """New jobs in their order, up to `most` at once that stand before gates (True), or are free."""
    for gated, run in groupby(jobs, key=lambda given: given[0].ties is not None and bool(given[0].ties.gates)):
        while some := tuple(islice(run, most)):
            yield gated, some


def is_keyed(jobs: Sequence[tuple[Job, bytes]]) -> bool:
    """Whether unique keys, each of them once, and gates are all that binds these jobs at their enqueue."""
    keys: set[str] = set()
    for job, _ in jobs:
        ties = job.ties
        if ties is None or ties.fair is not None or ties.awaits or ties.after or ties.reports:
            return False
        if ties.unique is not None:
            if ties.unique.key in keys:
                return False
            keys.add(ties.unique.key)
    return True


def written(ties: Ties | None) -> str | None:
    """Ties, to be stored."""
    return None if ties is None else _encode(ties).decode()


def ties_in(stored: str | None, state: State) -> Ties | None:
    """Those stored of a job in this state: jobs that ended well leave theirs as they were."""
    ties = None if stored is None else _ties(stored)
    return spent(ties) if state.finished else ties


def cell_in(stored: str) -> Cell:
    """A cell that was stored."""
    return _cell(stored)


def cell_rows(cells: Mapping[str, Cell | None]) -> list[tuple[str, str, float | None, float | None]]:
    """Cells to be stored, by their names."""
    return [
        (name, _encode(cell).decode(), cell.at, cell.until) for name, cell in sorted(cells.items()) if cell is not None
    ]


def after(prefix: str) -> str:
    """What comes after all names that begin so."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
