"""Jobs that are bound to others, and the books, on databases behind a server.

A cell that is there is locked when it is read, in the order of the names. One that is not cannot be: whoever makes it
first wins, and the other, whose INSERT finds it, begins again (`Fault.AGAIN`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from outwork.brokers.base import Claim, Claimed, Report
from outwork.brokers.ledger import Cell, Change, Found, concerns
from outwork.brokers.sql.books import after, bond, cell_in, cell_rows, row_of, ties_of
from outwork.brokers.sql.dialect import Head, Look
from outwork.brokers.sql.server.outbox import Said, ServerOutbox
from outwork.brokers.turns import Line
from outwork.job import Record, State

AT_ONCE: Final = 1000
"""Ids in one statement."""


class ServerBound(ServerOutbox):
    """What `ServerTransaction` says of them."""

    ready: set[str]
    scheduled: set[str]
    ends: bool
    _known_cells: set[str]
    """Cells that are known to exist."""

    @abstractmethod
    def _among(self, values: Collection[str]) -> tuple[str, list[object]]:
        """The end of a condition that a column is one of these (not none), and its parameters."""

    @abstractmethod
    def _about(self, name: str, among: str) -> str:
        """A statement about some rows; `among`: the end of the condition that tells which."""

    @abstractmethod
    def _handed(self, claim_id: str, rows: Iterable[Sequence[Any]]) -> dict[str, Claimed]:
        """Rows of `bodies`, as they are handed to a worker, by job id."""

    # ---- places -----------------------------------------------------------------------------------------------------

    def insert(self, records: Sequence[Record]) -> None:
        self._soon("insert", [_row(one) for one in records])
        self._bind([one for one in records if one.state is State.HELD])
        for state, name, told in (
            (State.READY, "make_ready", self.ready),
            (State.SCHEDULED, "schedule", self.scheduled),
        ):
            waiting = [one for one in records if one.state is state]
            told.update(one.queue for one in waiting)
            if free := [one.id for one in waiting if not concerns(one)]:
                self._soon_ids(name, free)
            for solo in (False, True):
                if bound := [one.id for one in waiting if concerns(one) and one.solo is solo]:
                    self._soon_ids("bind_new", bound, state.value, solo)
        self.mark_those(records)

    def _bind(self, records: Sequence[Record]) -> None:
        if records:
            self._many("bind", [row_of(one) for one in records])
            self.ready.update(one.queue for one in records if one.state is State.READY)
            self.scheduled.update(one.queue for one in records if one.state is State.SCHEDULED)

    def _unbind(self, records: Sequence[Record]) -> None:
        """Take bound jobs from their places; each must still be there, as it was seen."""
        if not records:
            return
        ids = [one.id for one in records]
        found = {row[0]: row[1:] for row in self._rows_ids("bound_now", sorted(ids))}
        self._expect(len(ids), len(found))
        for one in records:
            self._expect(1, _as_seen(one, *found[one.id]))
        self._run_ids("unbind", ids)

    def rewrite(self, changes: Sequence[Change]) -> None:
        if changes:
            self.move(changes)
            self._many("rewrite", [(after.priority, after.body, after.id) for _, after in changes])

    # ---- claim and settle -------------------------------------------------------------------------------------------

    def heads(self, look: Look, most: int, solos: int) -> list[Head]:
        lines = (
            ("heads", False, most if look.common else 0),
            ("heads", True, solos if look.solo else 0),
            ("bound_heads", False, most if look.bound else 0),
            ("bound_heads", True, solos if look.bound else 0),
        )
        asked = [line for line in lines if line[2] > 0]
        answers = self._together(
            [(self._sql[name], [look.queue, solo, self.now.wall, limit]) for name, solo, limit in asked]
        )
        return sorted(
            Head(turn, due, job_id, solo, name != "heads")
            for (name, solo, _), answer in zip(asked, answers, strict=True)
            for turn, due, job_id in answer.rows
        )

    def take_bound(self, ids: Sequence[str], claim_id: str, worker: str, lease_until: float) -> list[Claimed]:
        found: dict[str, Claimed] = {}
        for at in range(0, len(ids), AT_ONCE):
            among, values = self._among(ids[at : at + AT_ONCE])
            run, bodies = (self._about(name, among) for name in ("run_bound", "bodies"))
            ran, rows = self._together(
                [(run, [claim_id, worker, lease_until, self.now.wall, *values]), (bodies, values)]
            )
            self._expect(len(rows.rows), ran.changed)
            found.update(self._handed(claim_id, rows.rows))
        self._expect(len(ids), len(found))
        return [found[job_id] for job_id in ids]

    def running_bound(self, claim_id: str, ids: Collection[str]) -> list[Record]:
        return [bond(*row) for row in self._rows_ids("running_bound", ids, claim_id)]

    def succeed_bound(self, claim_id: str, results: Mapping[str, bytes], prune_at: float) -> None:
        rows = self._rows_ids("bound_ends", results, claim_id)
        self._expect(len(results), len(rows))
        wall = self.now.wall
        self._many(
            "end",
            [
                (job_id, "SUCCESSFUL", queue, task, wall, prune_at, claim, worker, started, stopping, results[job_id])
                for job_id, queue, task, claim, worker, started, stopping in rows
            ],
        )
        self._expect(len(results), self._run_ids("unbind_of", results, claim_id))
        self.ends = True

    def _promote_bound(self, queue: str, limit: int) -> int:
        ids = [row[0] for row in self._rows(self._sql["bound_due"], [queue, self.now.wall, limit])]
        if ids:
            self._run_ids("promote_bound", ids)
            self.ready.add(queue)
        return len(ids)

    def _extend_bound(self, claims: Mapping[str, Claim], lease_until: float) -> set[str]:
        """Renew the leases of those of these jobs that are bound, and held so; their ids."""
        rows = self._rows_ids("holding_bound", sorted(claims))
        holding = [job_id for job_id, claim_id in rows if claims[job_id].claim_id == claim_id]
        if holding:
            self._run_ids("extend_bound", holding, lease_until)
        return set(holding)

    def stopping(self, worker: str) -> set[str]:
        return {row[0] for row in self._rows(self._sql["stopping"], [worker, worker])}

    def report(self, reports: Sequence[Report]) -> None:
        self._many(
            "report",
            [(progress, job_id, job_id, claim_id, job_id, claim_id) for job_id, claim_id, progress in reports],
        )

    def progress(self, ids: Collection[str]) -> dict[str, bytes]:
        return {job_id: bytes(said) for job_id, said in self._rows_ids("progress", list(dict.fromkeys(ids)))}

    # ---- the books --------------------------------------------------------------------------------------------------

    def cells(self, names: Collection[str]) -> dict[str, Cell]:
        return self._cells_in(self._rows_ids("cells", sorted(names)))

    def _cells_in(self, rows: Iterable[Sequence[Any]]) -> dict[str, Cell]:
        found = {_text(name): cell_in(value) for name, value in rows}
        self._known_cells.update(found)
        return found

    def look_up(self, ids: Collection[str], names: Collection[str], lines: Collection[Line]) -> Found:
        statements: list[Said] = []
        for name, wanted in (("present", list(ids)), ("cells", sorted(names))):
            for at in range(0, len(wanted), AT_ONCE):
                among, values = self._among(wanted[at : at + AT_ONCE])
                statements.append((self._about(name, among), values))
        last = len(statements) - len(range(0, len(names), AT_ONCE))
        fronts = [(self._sql["front_of_line"], [line.queue, -line.priority] * 4) for line in lines]
        answers = [answer.rows for answer in self._together([*statements, *fronts])]
        ends = zip(lines, answers[len(statements) :], strict=True)
        return Found(
            {row[0] for rows in answers[:last] for row in rows},
            self._cells_in([row for rows in answers[last : len(statements)] for row in rows]),
            {line: due for line, [(due,)] in ends if due is not None},
        )

    def write_cells(self, cells: Mapping[str, Cell | None]) -> None:
        known = self._known_cells
        rows = cell_rows(cells)
        new = [row for row in rows if row[0] not in known]
        if new:
            self._soon("new_cell", new)
        changed = [(value, at, until, name) for name, value, at, until in rows if name in known]
        if changed:
            self._soon("set_cell", changed)
        gone = [name for name, cell in cells.items() if cell is None and name in known]
        if gone:
            self._soon_ids("unset_cells", sorted(gone))
        known.update(row[0] for row in new)
        known.difference_update(gone)

    def due_cells(self, limit: int) -> list[str]:
        return [_text(row[0]) for row in self._rows(self._sql["due_cells"], [self.now.wall, limit])]

    def forget_cells(self, limit: int) -> None:
        names = [_text(row[0]) for row in self._rows(self._sql["spent_cells"], [self.now.wall, limit])]
        if names:
            self._run_ids("unset_cells", names)

    def named(self, prefix: str) -> dict[str, Cell]:
        rows = self._rows(self._sql["named"], [prefix, after(prefix)])
        return {_text(name).removeprefix(prefix): cell_in(value) for name, value in rows}

    def held(self, knot: str, limit: int) -> list[Record]:
        return list(self.load([row[0] for row in self._rows(self._sql["held"], [knot, limit])]).values())


def _row(one: Record) -> tuple[object, ...]:
    return (
        one.id,
        one.task,
        one.queue,
        one.priority,
        one.due,
        one.enqueued_at,
        one.max_crashes,
        one.at_most_once,
        one.expires_at,
        one.body,
        ties_of(one),
    )


def _as_seen(one: Record, place: str, claim_id: str | None, knot: str | bytes | None) -> bool:
    """Whether a job is still where it was. One that is due counts as ready before it is moved."""
    if one.state is State.RUNNING:
        return place == "RUNNING" and claim_id == one.claim_id
    if one.state is State.HELD:
        return place == "HELD" and knot is not None and _text(knot) == one.knot
    return place in ("READY", "SCHEDULED")


def _text(name: str | bytes) -> str:
    """MySQL compares names as bytes, and yields them so."""
    return name if isinstance(name, str) else name.decode()
