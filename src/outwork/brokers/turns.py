"""Fair keys: those who share a line take turns in it. A job's place in the line is found when it is enqueued, and is
from then on its due time: to claim and to settle it costs no more than any other.

    A1 A2 A3 A4 A5        A's five jobs, each a TURN behind the one before
    A1 B1 A2 B2 A3 ...    B's two come: the first level with the front of the line, right behind it
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from outwork.job import Record, State
from outwork.ties import Ties


class Line(NamedTuple):
    """The jobs that wait in a queue with the same priority: they are claimed by their due times."""

    queue: str
    priority: int


def line_of(record: Record) -> Line:
    return Line(record.queue, record.priority)


def fair_cell(line: Line, key: str) -> str:
    """The cell of a fair key in a line."""
    return f"fair:{line.queue}:{line.priority}:{key}"


def takes_turns(record: Record) -> bool:
    """Whether a new job gets its place by its fair key. One that is scheduled stands by its time, as everywhere."""
    return record.state is State.READY and record.ties is not None and record.ties.fair is not None


def without_key(record: Record) -> Record:
    """The job that has its place: nothing binds it to those in its line any more."""
    if record.ties is None or record.ties.fair is None:
        return record
    rest = replace(record.ties, fair=None)
    return replace(record, ties=None if rest == Ties() else rest)
