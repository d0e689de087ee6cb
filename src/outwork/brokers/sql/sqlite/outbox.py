"""The outbox in the SQL of SQLite."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence

from outwork.brokers.base import SENDABLE, Pace, Ticket
from outwork.brokers.sql.dialect import Transaction, pace_of, written
from outwork.brokers.sql.rows import packed
from outwork.job import Record


class SQLiteOutbox(Transaction):
    """What `SQLiteTransaction` says of the outbox."""

    _sql: Mapping[str, str]

    @abstractmethod
    def _execute(self, sql: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor: ...

    @abstractmethod
    def _run(self, name: str, *parameters: object) -> int: ...

    @abstractmethod
    def _run_rows(self, name: str, rows: Sequence[Sequence[object]]) -> None: ...

    def kept_pace(self) -> Pace | None:
        return pace_of(self._execute(self._sql["kept_pace"]).fetchone())

    def keep_outbox(self, pace: Pace) -> None:
        if self._run("keep_outbox", written(pace)):
            self._run("adopt", self.now.wall, pace.horizon)
        else:
            self._run("pace", written(pace))

    def mark(self, rows: Sequence[tuple[str, float]]) -> None:
        self._run_rows("mark", rows)

    def mark_those(self, records: Sequence[Record]) -> None:
        """Of these new jobs those that do not wait for anything else are to be sent."""
        if self.pace is not None:
            waiting = [record for record in records if record.state in SENDABLE]
            self.mark([(record.id, self.pace.send_at(self.now.wall, record.due)) for record in waiting])

    def unmark(self, ids: Collection[str]) -> None:
        self._run("unmark", packed(list(ids)))

    def put_off(self, ids: Collection[str], send_at: float) -> None:
        self._run("put_off", send_at, packed(list(ids)))

    def to_send(self, limit: int) -> tuple[list[Ticket], list[str]]:
        wall = self.now.wall
        rows = self._execute(self._sql["to_send"], [wall, limit]).fetchall()
        there = [
            Ticket(job_id, queue, priority, max(0.0, due - wall), bool(solo))
            for job_id, queue, priority, due, solo in rows
            if queue is not None
        ]
        return there, [row[0] for row in rows if row[1] is None]

    def ready_among(self, ids: Collection[str]) -> set[str]:
        return {row[0] for row in self._execute(self._sql["ready_among"], [packed(list(ids)), self.now.wall])}

    def seat(self, ids: Collection[str]) -> None:
        self._run("unscheduled", packed(list(ids)))
        self._run("ready_these", packed(list(ids)))
