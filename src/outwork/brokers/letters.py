"""Dead letters: what a broker that is no store can still show of jobs that ended badly, and do about them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

from outwork.brokers.base import Filter, Page
from outwork.errors import Unsupported
from outwork.job import Record, State


@runtime_checkable
class KeepsDeadLetters(Protocol):
    """A broker that keeps jobs which ended badly, though it keeps no records of others."""

    def dead_letters(self, ids: Collection[str] | None = None) -> list[Record]:
        """These FAILED jobs, or (None) all of them, as far as a bounded look goes: the oldest ones. They stay."""
        ...

    def revive(self, ids: Collection[str]) -> set[str]:
        """Run these again from the start; those that were there."""
        ...

    def forget_dead(self, ids: Collection[str]) -> set[str]:
        """Forget these for good; those that were there."""
        ...


class Desk(Protocol):
    """What the command line asks about jobs: a `Store` has it, and so have `DeadLetters`."""

    def get(self, ids: Sequence[str]) -> list[Record | None]: ...
    def find(self, which: Filter, limit: int = 50, cursor: str | None = None) -> Page: ...
    def cancel(self, ids: Sequence[str]) -> list[State | None]: ...
    def retry(self, ids: Sequence[str]) -> list[State | None]: ...
    def delete(self, ids: Sequence[str]) -> list[State | None]: ...


class DeadLetters:
    """The dead letters of a broker, asked as a store is. For one command: it looks once, and pages what it saw."""

    def __init__(self, broker: KeepsDeadLetters, url: str) -> None:
        self._broker = broker
        self._url = url
        self._seen: list[Record] | None = None

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        found = {record.id: record for record in self._broker.dead_letters(ids)}
        return [found.get(job_id) for job_id in ids]

    def find(self, which: Filter, limit: int = 50, cursor: str | None = None) -> Page:
        if self._seen is None:
            self._seen = sorted(self._broker.dead_letters(), key=lambda record: record.id, reverse=True)
        fitting = [one for one in self._seen if fits(one, which) and (cursor is None or one.id < cursor)]
        page = fitting[:limit]
        return Page(page, page[-1].id if len(fitting) > limit else None)

    def cancel(self, ids: Sequence[str]) -> list[State | None]:
        raise Unsupported(
            f"{self._url} keeps no records of jobs that wait or run: they cannot be cancelled. Set OUTWORK_STORE_URL "
            "to a database for them"
        )

    def retry(self, ids: Sequence[str]) -> list[State | None]:
        done = self._broker.revive(ids)
        return [State.READY if job_id in done else None for job_id in ids]

    def delete(self, ids: Sequence[str]) -> list[State | None]:
        done = self._broker.forget_dead(ids)
        return [State.FAILED if job_id in done else None for job_id in ids]


def fits(record: Record, which: Filter) -> bool:
    """Whether a record is meant."""
    return (
        (which.states is None or record.state in which.states)
        and which.queue in (None, record.queue)
        and which.task in (None, record.task)
        and (which.ids is None or record.id in which.ids)
        and which.attempted in (None, record.attempts > 0)
    )
