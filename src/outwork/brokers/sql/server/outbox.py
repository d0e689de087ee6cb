"""The outbox in the SQL of databases behind a server."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from outwork.brokers.base import SENDABLE, Pace, Ticket
from outwork.brokers.sql.dialect import Transaction, pace_of, written
from outwork.job import Record

Said: TypeAlias = tuple[str, Sequence[object]]
"""A statement and its parameters."""


class Answer(NamedTuple):
    """How many rows a statement changed or yields, and those that it yields."""

    changed: int
    rows: Sequence[tuple[Any, ...]]


class ServerOutbox(Transaction):
    """What `ServerTransaction` says of the outbox."""

    _sql: Mapping[str, str]

    @abstractmethod
    def _rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]: ...

    @abstractmethod
    def _run(self, sql: str, parameters: Sequence[object] = ()) -> int: ...

    @abstractmethod
    def _together(self, statements: Sequence[Said]) -> list[Answer]:
        """In one message, where the driver can do that; it stops at the first that fails."""

    @abstractmethod
    def _soon(self, name: str, rows: Sequence[Sequence[object]]) -> None:
        """Run a statement for each of these rows: with what is said next, or with the commit."""

    @abstractmethod
    def _soon_ids(self, name: str, ids: Collection[str], *before: object) -> None:
        """The same for all of these ids."""

    @abstractmethod
    def _many(self, name: str, rows: Sequence[Sequence[object]]) -> None: ...

    @abstractmethod
    def _run_ids(self, name: str, ids: Collection[str], *before: object) -> int: ...

    @abstractmethod
    def _rows_ids(self, name: str, ids: Collection[str], *before: object) -> list[tuple[Any, ...]]: ...

    @abstractmethod
    def _expect(self, wanted: int, found: int) -> None: ...

    def kept_pace(self) -> Pace | None:
        rows = self._rows(self._sql["kept_pace"])
        return pace_of(rows[0] if rows else None)

    def keep_outbox(self, pace: Pace) -> None:
        if self._run(self._sql["keep_outbox"], [written(pace)]):
            self._run(self._sql["adopt"], [self.now.wall, pace.horizon])
        else:
            self._run(self._sql["pace"], [written(pace)])

    def mark(self, rows: Sequence[tuple[str, float]]) -> None:
        self._soon("mark", rows)

    def mark_those(self, records: Sequence[Record]) -> None:
        """Of these new jobs those that do not wait for anything else are to be sent."""
        waiting = [record for record in records if record.state in SENDABLE]
        if self.pace is not None and waiting:
            self.mark([(record.id, self.pace.send_at(self.now.wall, record.due)) for record in waiting])

    def unmark(self, ids: Collection[str]) -> None:
        self._run_ids("unmark", ids)

    def put_off(self, ids: Collection[str], send_at: float) -> None:
        self._run_ids("put_off", ids, send_at)

    def to_send(self, limit: int) -> tuple[list[Ticket], list[str]]:
        wall = self.now.wall
        rows = self._rows(self._sql["to_send"], [wall, limit])
        there = [
            Ticket(job_id, queue, priority, max(0.0, due - wall), bool(solo))
            for job_id, queue, priority, due, solo in rows
            if queue is not None
        ]
        return there, [row[0] for row in rows if row[1] is None]

    def ready_among(self, ids: Collection[str]) -> set[str]:
        return {row[0] for row in self._rows_ids("ready_among", ids, self.now.wall)}

    def seat(self, ids: Collection[str]) -> None:
        self._expect(len(ids), self._run_ids("unscheduled", ids))
        self._run_ids("make_ready", ids)
