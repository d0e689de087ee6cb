"""What the broker asks of a transaction, for databases behind a server: others move jobs at the same time.

Rows are locked as they are chosen (`SKIP LOCKED`), or else taken from their places by a delete that must hit as many as
were seen there: if another transaction was faster, `Overtaken` starts this one again.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from outwork.brokers.base import Claim, Claimed, Count, Filter, Presence
from outwork.brokers.ledger import Change, concerns
from outwork.brokers.sql.books import success
from outwork.brokers.sql.dialect import Look
from outwork.brokers.sql.rows import changes_of, claimed_of, presence_of, record_of
from outwork.brokers.sql.server.bound import AT_ONCE, ServerBound
from outwork.brokers.sql.server.outbox import Said
from outwork.job import WAITING, Moment, Record, State

RESULTS_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of results that go into one statement."""

COMMON_STATES: Final = frozenset({State.READY, State.SUCCESSFUL})
"""States that most jobs are in; the others are looked for in their own small tables."""

QUEUES: Final = ("ready_queues", "scheduled_queues", "bound_queues")


class Overtaken(Exception):
    """Another transaction moved a job that this one had looked at."""


def parts(values: Sequence[Any], size: int = AT_ONCE) -> Iterable[Sequence[Any]]:
    """The values in pieces of a bearable size."""
    return (values[at : at + size] for at in range(0, len(values), size))


class ServerTransaction(ServerBound):
    """Inside a transaction on a server. `ready` and `scheduled` are the queues that got jobs in it, `ends` whether jobs
    ended: what has to be announced after the commit."""

    def __init__(self, sql: Mapping[str, str], now: Moment) -> None:
        self.now = now
        self.ready: set[str] = set()
        self.scheduled: set[str] = set()
        self.ends = False
        self.defers = False
        """Whether what is to be said soon waits for the next message, or for whoever commits and asks for it."""
        self._waiting: list[Said] = []
        self._known_cells = set()
        self._sql = sql

    # ---- what a driver does -----------------------------------------------------------------------------------------

    @abstractmethod
    def _rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]: ...

    @abstractmethod
    def _run(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """How many rows it changed."""

    @abstractmethod
    def _many(self, name: str, rows: Sequence[Sequence[object]]) -> None: ...

    @abstractmethod
    def _lines(self, queues: Collection[str]) -> tuple[str, list[object]]:
        """These (not none) as rows of a column `queue`, for a FROM."""

    @abstractmethod
    def be_present(self, presence: Presence) -> None: ...

    @abstractmethod
    def _kinds(self) -> list[tuple[str, str, str]]:
        """The (queue, task, state) that there are among the ended, by few looks at their index."""

    def _about(self, name: str, among: str) -> str:
        return self._sql[name].replace("{ids}", among)

    def _run_ids(self, name: str, ids: Collection[str], *before: object) -> int:
        return sum(
            self._run(self._about(name, among), [*before, *values])
            for among, values in map(self._among, parts(list(ids)))
        )

    def _rows_ids(self, name: str, ids: Collection[str], *before: object) -> list[tuple[Any, ...]]:
        return [
            row
            for among, values in map(self._among, parts(list(ids)))
            for row in self._rows(self._about(name, among), [*before, *values])
        ]

    def _soon(self, name: str, rows: Sequence[Sequence[object]]) -> None:
        if self.defers and len(rows) == 1:
            self._waiting.append((self._sql[name], rows[0]))
        else:
            self._many(name, rows)

    def _soon_ids(self, name: str, ids: Collection[str], *before: object) -> None:
        for among, values in map(self._among, parts(list(ids))):
            said = self._about(name, among), [*before, *values]
            if self.defers:
                self._waiting.append(said)
            else:
                self._run(*said)

    def waiting(self) -> list[Said]:
        """What was to be said soon, and must be said now."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def _ids(self, name: str, *parameters: object) -> list[str]:
        return [row[0] for row in self._rows(self._sql[name], parameters)]

    # ---- hot --------------------------------------------------------------------------------------------------------

    def succeed(self, claim_id: str, results: Mapping[str, bytes], prune_at: float) -> int:
        if len(results) > AT_ONCE or sum(map(len, results.values())) > RESULTS_LIMIT:
            raise ValueError("too large for one statement")
        rows = self._rows_ids("running_of", results, claim_id)
        if len(rows) != len(results):
            return len(rows)
        wall = self.now.wall
        self._many(
            "end",
            [
                (job_id, "SUCCESSFUL", queue, task, wall, prune_at, claim, worker, started, stopping, results[job_id])
                for job_id, queue, task, claim, worker, started, stopping in rows
            ],
        )
        self.ends = True
        return self._run_ids("stop", results)

    def look(self, queues: Collection[str]) -> list[Look]:
        if not queues:
            return []
        lines, names = self._lines(queues)
        wall = self.now.wall
        rows = self._rows(self._sql["look"].replace("{lines}", lines), [wall, wall, wall, *names])
        found: dict[str, Look] = {}
        for queue, common, solo, due, bound_due, bound, at in rows:
            moments = [moment for moment in (due, bound_due) if moment is not None]
            due_in = min(moments) - wall if moments else None
            attend_in = None if at is None else at - wall
            found[queue] = Look(queue, bool(common), bool(solo), due_in, bool(bound), attend_in)
        return [found[queue] for queue in queues]

    def promote(self, queues: Collection[str], limit: int) -> int:
        promoted = 0
        for look in self.look(queues):
            if look.due_in is None or look.due_in > 0:
                continue
            ids = self._ids("due", look.queue, self.now.wall, limit)
            if ids:
                self._run_ids("make_ready", ids)
                self._run_ids("unscheduled", ids)
                self.ready.add(look.queue)
                promoted += len(ids)
            promoted += self._promote_bound(look.queue, limit)
        return promoted

    def take(self, queue: str, most: int, claim_id: str, worker: str, lease_until: float) -> list[Claimed]:
        return self.take_these(self._ids("front", queue, self.now.wall, most), claim_id, worker, lease_until)

    def take_these(self, ids: Sequence[str], claim_id: str, worker: str, lease_until: float) -> list[Claimed]:
        if not ids:
            return []
        self._expect(len(ids), self._run_ids("unready", ids))
        self._run_ids("run", ids, claim_id, worker, lease_until, self.now.wall)
        found = self._handed(claim_id, self._rows_ids("bodies", ids))
        return [found[job_id] for job_id in ids]

    def _handed(self, claim_id: str, rows: Iterable[Sequence[Any]]) -> dict[str, Claimed]:
        return {row[0]: claimed_of(row, claim_id) for row in rows}

    def claimed_by(self, claim_id: str) -> list[Claimed]:
        rows = self._rows(self._sql["claimed"], [claim_id]) + self._rows(self._sql["claimed_bound"], [claim_id])
        return [claimed_of(row, claim_id) for row in rows]

    def extend(self, claims: Sequence[Claim], lease_until: float) -> set[str]:
        wanted = dict(claims)
        holding = [
            job_id for job_id, claim_id in self._rows_ids("holding", sorted(wanted)) if wanted[job_id] == claim_id
        ]
        if holding:
            self._run_ids("extend", holding, lease_until)
        lost = wanted.keys() - set(holding)
        if lost:
            lost -= self._extend_bound({one.job_id: one for one in claims if one.job_id in lost}, lease_until)
        return lost

    def cancelling(self) -> set[str]:
        return set(self._ids("cancelling"))

    # ---- rare -------------------------------------------------------------------------------------------------------

    def load(self, ids: Iterable[str]) -> dict[str, Record]:
        wanted = list(dict.fromkeys(ids))
        found: dict[str, Record] = {}
        for some in parts(wanted):
            among, values = self._among(some)
            rows = self._rows(f"{self._sql['record']} WHERE j.id {among}", [self.now.wall, self.now.wall, *values])
            found.update((row[0], record_of(row)) for row in rows)
        return {job_id: found[job_id] for job_id in wanted if job_id in found}

    def successes(self, ids: Collection[str]) -> dict[str, Record]:
        return {row[0]: success(*row) for row in self._rows_ids("successes", ids)}

    def _move(self, changes: Sequence[Change]) -> None:
        asked = {one.id: one for one, after in changes if after.state is State.RUNNING and not concerns(after)}
        if asked:
            self._expect(len(asked), self._run_ids("ask_to_stop", asked))
            self._still_held(list(asked.values()))
        self._vacate([before for before, _ in changes if before.id not in asked])
        moved = [after for _, after in changes if after.id not in asked]
        if not moved:
            return
        self._many("update", [changes_of(one) for one in moved])
        self._bind([one for one in moved if concerns(one) and not one.state.finished])
        for state, name, told in (
            (State.READY, "make_ready", self.ready),
            (State.SCHEDULED, "schedule", self.scheduled),
        ):
            waiting = [one for one in moved if one.state is state and not concerns(one)]
            if waiting:
                self._run_ids(name, [one.id for one in waiting])
                told.update(one.queue for one in waiting)
        ended = [_end(one) for one in moved if one.state.finished]
        if ended:
            self._many("end", ended)
            self.ends = True

    def _vacate(self, records: Sequence[Record]) -> None:
        """Take jobs from their places; each must still be there, as it was seen."""
        free = [one for one in records if not concerns(one)]
        running = [one for one in free if one.state is State.RUNNING]
        waiting = [one.id for one in free if one.state in WAITING]
        ended = [one.id for one in records if one.state.finished]
        self._unbind([one for one in records if concerns(one) and not one.state.finished])
        if running:
            self._still_held(running)
            self._expect(len(running), self._run_ids("stop", [one.id for one in running]))
        if waiting:  # a scheduled one that is due counts as ready before it is moved: look in both
            gone = self._run_ids("unready", waiting)
            if gone < len(waiting):
                gone += self._run_ids("unscheduled", waiting)
            self._expect(len(waiting), gone)
        if ended:
            self._expect(len(ended), self._run_ids("unend", ended))

    def _still_held(self, records: Sequence[Record]) -> None:
        """Lock running jobs, each under the claim under which it was seen."""
        wanted = {(one.id, one.claim_id) for one in records}
        found = {(job_id, claim_id) for job_id, claim_id in self._rows_ids("holding", [one.id for one in records])}
        if not wanted <= found:
            raise Overtaken

    def _expect(self, wanted: int, found: int) -> None:
        if found != wanted:
            raise Overtaken

    def delete(self, ids: Collection[str]) -> None:
        if ids:
            self._vacate(list(self.load(ids).values()))
            self._run_ids("forget", ids)
            if self.pace is not None:
                self.unmark(ids)

    def lost(self, overdue: bool, workers: Collection[str], limit: int) -> list[str]:
        found: dict[str, None] = {}
        if overdue:
            for name in ("lost", "lost_bound"):
                found.update(dict.fromkeys(self._ids(name, self.now.steady, limit)))
        for name in ("lost_of", "lost_bound_of"):
            if workers and len(found) < limit:
                among, values = self._among(workers)
                rows = self._rows(self._about(name, among), [*values, limit])
                found.update((row[0], None) for row in rows)
        return list(found)[:limit]

    def expired(self, limit: int) -> list[str]:
        free = self._ids("expired", self.now.wall, limit)
        return (free + self._ids("expired_bound", self.now.wall, limit))[:limit]

    def forget_ended(self, limit: int) -> int:
        ids: list[str] = []
        for kind in self._kinds():
            if len(ids) < limit:
                ids += self._ids("outdated", *kind, self.now.wall, limit - len(ids))
        if ids:
            self._run_ids("unend", ids)
            self._run_ids("forget", ids)
        return len(ids)

    # ---- reading ----------------------------------------------------------------------------------------------------

    def find(self, which: Filter, limit: int, cursor: str | None) -> list[Record]:
        if which.ids == () or which.states == ():
            return []
        where, parameters = self._conditions(which)
        if cursor is not None:
            where.append("k.id < %s")
            parameters.append(cursor)
        clause = f"WHERE {' AND '.join(where)}" if where else ""
        sql = f"SELECT * FROM ({self._sql['record']}) k {clause} ORDER BY k.id DESC LIMIT %s"
        return [record_of(row) for row in self._rows(sql, [self.now.wall, self.now.wall, *parameters, limit])]

    def _conditions(self, which: Filter) -> tuple[list[str], list[object]]:
        """The SQL of a filter over the statement `record`, called k."""
        where: list[str] = []
        parameters: list[object] = []
        if which.states is not None:
            names = ", ".join(f"'{state.value}'" for state in which.states)
            where.append(f"k.place IN ({names})")
            if not {*which.states} & COMMON_STATES:
                where.append(f"k.id IN ({self._sql['uncommon'].replace('{states}', names)})")
        for column, value in (("queue", which.queue), ("task", which.task)):
            if value is not None:
                where.append(f"k.{column} = %s")
                parameters.append(value)
        if which.ids is not None:
            among, values = self._among(which.ids)
            where.append(f"k.id {among}")
            parameters += values
        if which.attempted is not None:
            where.append("(k.failures + k.crashes > 0) = %s")
            parameters.append(which.attempted)
        return where, parameters

    def counts(self) -> list[Count]:
        rows = self._rows(self._sql["counts"], [self.now.wall, self.now.wall])
        return [Count(queue, task, State(state), jobs) for queue, task, state, jobs in rows]

    def queues(self) -> set[str]:
        waiting = {row[0] for name in QUEUES for row in self._rows(self._sql[name])}
        return waiting | set(self._ids("running_queues")) | {queue for queue, _, _ in self._kinds()}

    def ended(self, ids: Collection[str]) -> set[str]:
        return {*ids} - {row[0] for row in self._rows_ids("not_ended", ids)}

    def old(self, which: Filter, ended_by: float, failed_by: float, limit: int | None) -> list[str]:
        if which.ids == () or which.states == ():
            return []
        where, parameters = self._conditions(which)
        where.append("k.finished_at <= CASE WHEN k.place = 'SUCCESSFUL' THEN %s ELSE %s END")
        sql = f"SELECT k.id FROM ({self._sql['record']}) k WHERE {' AND '.join(where)}"
        values: list[object] = [self.now.wall, self.now.wall, *parameters, ended_by, failed_by]
        if limit is not None:
            sql += " LIMIT %s"
            values.append(limit)
        return [row[0] for row in self._rows(sql, values)]

    # ---- presences --------------------------------------------------------------------------------------------------

    def forget_workers(self, names: Collection[str]) -> None:
        if names:
            self._run_ids("forget_workers", names)

    def forget_silent(self) -> None:
        self.forget_workers(self._ids("silent", self.now.wall))

    def workers(self) -> list[Presence]:
        return [presence_of(*row) for row in self._rows(self._sql["workers"], [self.now.wall])]


def _end(one: Record) -> tuple[object, ...]:
    return (
        one.id,
        one.state.value,
        one.queue,
        one.task,
        one.finished_at,
        one.prune_at,
        one.claim_id,
        one.worker,
        one.started_at,
        one.cancel_requested,
        one.result,
    )
