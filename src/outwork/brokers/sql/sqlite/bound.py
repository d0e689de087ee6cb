"""Jobs that are bound to others, and the books, in the SQL of SQLite."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from outwork.brokers.base import Claimed, Report
from outwork.brokers.ledger import Cell, Change, Found
from outwork.brokers.sql.books import after, bond, cell_in, cell_rows, row_of, ties_of
from outwork.brokers.sql.dialect import Head, Look
from outwork.brokers.sql.rows import packed
from outwork.brokers.sql.sqlite.outbox import SQLiteOutbox
from outwork.brokers.turns import Line
from outwork.job import Record, State

_decode_texts = msgspec.json.Decoder(list[str]).decode


class SQLiteBound(SQLiteOutbox):
    """What `SQLiteTransaction` says of them."""

    @abstractmethod
    def _one(self, name: str, *parameters: object) -> Any: ...

    @abstractmethod
    def _fetched(self, claim_id: str, name: str, *parameters: object) -> list[Claimed]:
        """The jobs that a statement yields, as they are handed to a worker."""

    @abstractmethod
    def _texts(self, results: Mapping[str, bytes]) -> str:
        """Results as one JSON object. Raises ValueError."""

    # ---- places -----------------------------------------------------------------------------------------------------

    def insert_tied(self, records: Sequence[Record], rows: Iterable[Sequence[object]]) -> None:
        """Add bound jobs, in their places; `rows` are theirs in `job` but for the ties."""
        self._run_rows("insert_tied", [[*row, ties_of(record)] for record, row in zip(records, rows, strict=True)])
        [(state, solo), *others] = {(record.state, record.solo) for record in records}
        if others or state is State.HELD:
            self._bind(records)
        else:
            self._run("bind_new", state.value, solo, len(records))

    def _bind(self, records: Sequence[Record]) -> None:
        self._run_rows("bind", [row_of(record) for record in records])

    def _unbind(self, records: Sequence[Record]) -> None:
        if records:
            self._run("unbind", packed([record.id for record in records]))

    def rewrite(self, changes: Sequence[Change]) -> None:
        self.move(changes)
        self._run_rows("rewrite", [(after.priority, self._body(after.body), after.id) for _, after in changes])

    @abstractmethod
    def _body(self, body: bytes) -> str | bytes: ...

    # ---- claim and settle -------------------------------------------------------------------------------------------

    def heads(self, look: Look, most: int, solos: int) -> list[Head]:
        name = "heads_of_all" if look.bound else "heads"
        rows = self._execute(self._sql[name], [look.queue, self.now.wall, most, solos])
        return [Head(rank, due, job_id, bool(solo), bool(tied)) for rank, due, job_id, solo, tied in rows]

    def take_bound(self, ids: Sequence[str], claim_id: str, worker: str, lease_until: float) -> list[Claimed]:
        self._run("run_bound", packed(list(ids)), claim_id, worker, lease_until, self.now.wall)
        taken = self._fetched(claim_id, "bodies", packed(list(ids)))
        if len(taken) < len(ids):  # the release before has deleted some, whose places it does not know
            self._run("unbind_deleted", packed(list(ids)))
        return taken

    def running_bound(self, claim_id: str, ids: Collection[str]) -> list[Record]:
        rows = self._execute(self._sql["running_bound"], [packed(list(ids)), claim_id])
        return [bond(*row) for row in rows]

    def succeed_bound(self, claim_id: str, results: Mapping[str, bytes], prune_at: float) -> None:
        values = self._texts(results)
        self._run("succeed_bound", self.now.wall, prune_at, values, claim_id)
        self._run("unbind_keys", values, claim_id)

    def _promote_bound(self, queue: str, limit: int) -> int:
        due = self._one("bound_due", queue, self.now.wall, limit)
        return 0 if due == "[]" else self._run("promote_bound", due)

    def stopping(self, worker: str) -> set[str]:
        return {row[0] for row in self._execute(self._sql["stopping"], [worker])}

    def report(self, reports: Sequence[Report]) -> None:
        for job_id, claim_id, progress in reports:
            self._run("report", self._body(progress), job_id, claim_id)

    def progress(self, ids: Collection[str]) -> dict[str, bytes]:
        rows = self._execute(self._sql["progress"], [packed(list(dict.fromkeys(ids)))])
        return {job_id: said.encode() if isinstance(said, str) else said for job_id, said in rows}

    # ---- the books --------------------------------------------------------------------------------------------------

    def cells(self, names: Collection[str]) -> dict[str, Cell]:
        if not names:
            return {}
        rows = self._execute(self._sql["cells"], [packed(list(names))])
        return {name: cell_in(value) for name, value in rows}

    def look_up(self, ids: Collection[str], names: Collection[str], lines: Collection[Line]) -> Found:
        there = {row[0] for row in self._execute(self._sql["present"], [packed(list(ids))])}
        fronts = {line: self._one("front_of_line", line.queue, -line.priority) for line in lines}
        return Found(there, self.cells(names), {line: due for line, due in fronts.items() if due is not None})

    def write_cells(self, cells: Mapping[str, Cell | None]) -> None:
        self._run_rows("set_cell", cell_rows(cells))
        gone = [name for name, cell in cells.items() if cell is None]
        if gone:
            self._run("unset_cells", packed(gone))

    def due_cells(self, limit: int) -> list[str]:
        return [row[0] for row in self._execute(self._sql["due_cells"], [self.now.wall, limit])]

    def forget_cells(self, limit: int) -> None:
        self._run("forget_cells", self.now.wall, limit)

    def named(self, prefix: str) -> dict[str, Cell]:
        rows = self._execute(self._sql["named"], [prefix, after(prefix)])
        return {name.removeprefix(prefix): cell_in(value) for name, value in rows}

    def held(self, knot: str, limit: int) -> list[Record]:
        return list(self.load(_decode_texts(self._one("held", knot, limit))).values())
