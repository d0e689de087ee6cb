"""The SQL of SQLite: `Transaction` in its words.

Every call of sqlite3_step lets go of Python's lock. A long one always loses it to a busy thread, for up to the switch
interval; a short one hardly ever does, since the other thread takes longer to wake. So what changes rows is one
statement for the whole batch, its values going in as one JSON text (executemany took 2.5 times as long), and rows that
come out are fetched plainly (as one JSON text they were no faster, alone or beside a busy thread). Floats never go
through JSON: SQLite prints 15 digits only.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from outwork.brokers.base import Claim, Claimed, Count, Filter, Pace, Presence
from outwork.brokers.ledger import Change, concerns
from outwork.brokers.sql.books import success, ties_of
from outwork.brokers.sql.dialect import Look, Statement
from outwork.brokers.sql.rows import changes_of, claimed_of, packed, presence_of, raw, record_of
from outwork.brokers.sql.sqlite.bound import SQLiteBound
from outwork.brokers.sql.sqlite.statements import CHUNKS
from outwork.job import WAITING, Moment, Record, State

VALUES_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of results that go into one JSON text."""

COMMON: Final = frozenset({State.READY, State.SUCCESSFUL})
"""States that most jobs are in; the others are looked for in their own small tables."""

_decode_texts = msgspec.json.Decoder(list[str]).decode
_decode_looks = msgspec.json.Decoder(
    list[tuple[str, bool, bool, float | None, bool, float | None]], strict=False
).decode


def stored(value: bytes) -> str | bytes:
    """How bytes that should be JSON are stored: as text, which tools can show, or as they are if they are none."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value
    return value if "\0" in text else text


@lru_cache(maxsize=256)
def positional(sql: str) -> tuple[str, tuple[int, ...]]:
    """The statement with plain `?` in place of `?1`, and which parameter each takes; () where they stand in order.

    Python 3.12 warns of numbered placeholders with a sequence of values, and 3.14 refuses them.
    """
    order: list[int] = []

    def plain(found: re.Match[str]) -> str:
        order.append(int(found.group(1)) - 1 if found.group(1) else max(order, default=-1) + 1)
        return "?"

    text = re.sub(r"\?(\d*)", plain, sql)
    return text, () if order == list(range(len(order))) else tuple(order)


class SQLiteTransaction(SQLiteBound):
    """On a connection that is inside a transaction."""

    def __init__(self, connection: sqlite3.Connection, sql: Mapping[str, str], now: Moment) -> None:
        self.now = now
        self._sql = sql
        self._connection = connection

    def _execute(self, sql: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        text, order = positional(sql)
        return self._connection.execute(text, [parameters[at] for at in order] if order else parameters)

    def _run(self, name: str, *parameters: object) -> int:
        """Run a statement that changes rows; how many."""
        return self._execute(self._sql[name], parameters).rowcount

    def _run_rows(self, name: str, rows: Sequence[Sequence[object]]) -> None:
        self._connection.executemany(self._sql[name], rows)

    def _one(self, name: str, *parameters: object) -> Any:
        """The one value of a statement that yields one row."""
        return self._execute(self._sql[name], parameters).fetchone()[0]

    # ---- hot --------------------------------------------------------------------------------------------------------

    def insertion(self, records: Sequence[Record]) -> Iterator[Statement]:
        """The statements that add these jobs, without their places."""
        rows = [_row(record) for record in records]
        at = 0
        for size in CHUNKS:
            while len(rows) - at >= size:
                values = rows[at] if size == 1 else [value for row in rows[at : at + size] for value in row]
                yield Statement(self._sql[f"insert {size}"], values)
                at += size

    def insert(self, records: Sequence[Record]) -> None:
        bound = [record for record in records if concerns(record)]
        free = [record for record in records if not concerns(record)] if bound else records
        early = [record for record in free if record.state is State.READY and record.due > self.now.wall]
        if early:  # in a long batch a fair key's jobs run ahead of the clock, by microseconds
            ahead = {record.id for record in early}
            self.insert_free(early, max(record.due for record in early))
            free = [record for record in free if record.id not in ahead]
        self.insert_free(free)
        if bound:
            self.insert_tied(bound, map(_row, bound))
            self.mark_those(bound)

    def insert_free(self, records: Sequence[Record], wall: float | None = None) -> None:
        """Add jobs that are not bound; those whose ids are known are left as they are. What is due by `wall` (None: by
        now) is ready."""
        wall = self.now.wall if wall is None else wall
        new = sum(self._execute(sql, values).rowcount for sql, values in self.insertion(records))
        if not new:
            return
        states = {record.state for record in records}
        if State.READY in states:
            self._run("ready_new", new, wall)
        if State.SCHEDULED in states:
            self._run("scheduled_new", new, wall)
        if self.pace is not None:
            self._run("mark_new", new, self.now.wall + self.pace.grace, self.pace.horizon)

    def succeed(self, claim_id: str, results: Mapping[str, bytes], prune_at: float) -> int:
        values = self._texts(results)
        done = self._run("succeed", self.now.wall, prune_at, values, claim_id)
        self._run("stop_keys", values, claim_id)
        return done

    def _texts(self, results: Mapping[str, bytes]) -> str:
        if sum(map(len, results.values())) > VALUES_LIMIT:
            raise ValueError("too large for one statement")
        texts = {job_id: result.decode() for job_id, result in results.items()}
        if any("\0" in text for text in texts.values()):
            raise ValueError("JSON in SQLite ends at a NUL")
        return packed(texts)

    def _body(self, body: bytes) -> str | bytes:
        return stored(body)

    def look(self, queues: Collection[str]) -> list[Look]:
        return [Look(*row) for row in _decode_looks(self._one("look", packed(queues), self.now.wall))]

    def promote(self, queues: Collection[str], limit: int) -> int:
        promoted = 0
        for look in self.look(queues):
            if look.due_in is not None and look.due_in <= 0:
                due = self._one("due", look.queue, self.now.wall, limit)
                promoted += self._run("promote", due)
                self._run("promoted", due)
                promoted += self._promote_bound(look.queue, limit)
        return promoted

    def take(self, queue: str, most: int, claim_id: str, worker: str, lease_until: float) -> list[Claimed]:
        heads = queue, self.now.wall, most
        claimed = self._fetched(claim_id, "front", *heads)
        if claimed:
            self._run("run_heads", *heads, claim_id, worker, lease_until)
            self._run("unready_heads", *heads)
        return claimed

    def take_these(self, ids: Sequence[str], claim_id: str, worker: str, lease_until: float) -> list[Claimed]:
        self._run("run_these", packed(ids), claim_id, worker, lease_until, self.now.wall)
        self._run("unready", packed(ids))
        return self._fetched(claim_id, "bodies", packed(ids))

    def claimed_by(self, claim_id: str) -> list[Claimed]:
        return self._fetched(claim_id, "claimed", claim_id) + self._fetched(claim_id, "claimed_bound", claim_id)

    def _fetched(self, claim_id: str, name: str, *parameters: object) -> list[Claimed]:
        return [claimed_of(row, claim_id) for row in self._execute(self._sql[name], parameters)]

    def extend(self, claims: Sequence[Claim], lease_until: float) -> set[str]:
        wanted = dict(claims)
        values = packed(wanted)
        extended = self._run("extend", lease_until, values)
        if extended < len(wanted):
            extended += self._run("extend_bound", lease_until, values)
        if extended == len(wanted):
            return set()
        holding = _decode_texts(self._one("holding", values)) + _decode_texts(self._one("holding_bound", values))
        return wanted.keys() - set(holding)

    def cancelling(self) -> set[str]:
        return set(_decode_texts(self._one("cancelling")))

    # ---- rare -------------------------------------------------------------------------------------------------------

    def load(self, ids: Iterable[str]) -> dict[str, Record]:
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return {}
        where = " WHERE j.id IN (SELECT value FROM json_each(?2))"
        found = self._records(where, [self.now.wall, packed(wanted)])
        return {job_id: found[job_id] for job_id in wanted if job_id in found}

    def successes(self, ids: Collection[str]) -> dict[str, Record]:
        rows = self._execute(self._sql["successes"], [packed(ids)])
        return {job_id: success(job_id, task, raw(result)) for job_id, task, result in rows}

    def _records(self, where: str, parameters: Sequence[object]) -> dict[str, Record]:
        rows = self._execute(self._sql["record"] + where, parameters)
        return {row[0]: record_of(row) for row in rows}

    def _move(self, changes: Sequence[Change]) -> None:
        asked = {after.id for _, after in changes if after.state is State.RUNNING and not concerns(after)}
        if asked:
            self._run("ask_to_stop", packed(list(asked)))
        self._vacate([before for before, _ in changes if before.id not in asked])
        moved = [after for _, after in changes if after.id not in asked]
        self._run_rows("update", [changes_of(record) for record in moved])
        bound = [record for record in moved if concerns(record) and not record.state.finished]
        if bound:
            self._bind(bound)
        free = [record.id for record in moved if record.state is State.READY and not concerns(record)]
        if free:
            self._run("ready_these", packed(free))
        later = [record.id for record in moved if record.state is State.SCHEDULED and not concerns(record)]
        if later:
            self._run("schedule_these", packed(later))
        self._run_rows("end", [_end(record) for record in moved if record.state.finished])

    def _vacate(self, records: Sequence[Record]) -> None:
        """Take jobs from their places."""
        free = [record for record in records if not concerns(record)]
        running = [record.id for record in free if record.state is State.RUNNING]
        waiting = [record.id for record in free if record.state in WAITING]
        ended = [record.id for record in records if record.state.finished]
        self._unbind([record for record in records if concerns(record) and not record.state.finished])
        if running:
            self._run("stop", packed(running))
        if waiting:  # a scheduled one that is due counts as ready before it is moved: look in both
            self._run("unready", packed(waiting))
            self._run("unscheduled", packed(waiting))
        if ended:
            self._run("unend", packed(ended))

    def delete(self, ids: Collection[str]) -> None:
        if ids:
            self._vacate(list(self.load(ids).values()))
            self._run("forget", packed(ids))
            if self.pace is not None:
                self.unmark(ids)

    def lost(self, overdue: bool, workers: Collection[str], limit: int) -> list[str]:
        return _decode_texts(self._one("lost", overdue, self.now.steady, packed(workers), limit))

    def expired(self, limit: int) -> list[str]:
        return _decode_texts(self._one("expired", self.now.wall, limit))

    def forget_ended(self, limit: int) -> int:
        outdated = self._one("outdated", self.now.wall, limit)
        if outdated == "[]":
            return 0
        self._run("forget_jobs", outdated)
        return self._run("forget_ended", outdated)

    # ---- reading ----------------------------------------------------------------------------------------------------

    def find(self, which: Filter, limit: int, cursor: str | None) -> list[Record]:
        where, parameters = self._conditions(which)
        if cursor is not None:
            where.append("j.id < ?")
            parameters.append(cursor)
        clause = " WHERE " + " AND ".join(where) if where else ""
        # The unary + keeps the planner from walking all ids in order where few records fit.
        few = which.ids is not None or (which.states is not None and not {*which.states} & COMMON)
        order = f" ORDER BY {'+' if few else ''}j.id DESC LIMIT ?"
        return list(self._records(clause + order, [self.now.wall, *parameters, limit]).values())

    def _conditions(self, which: Filter) -> tuple[list[str], list[object]]:
        """The SQL of a filter over the statement `record`."""
        where: list[str] = []
        parameters: list[object] = []
        if which.states is not None:
            names = ", ".join(f"'{state.value}'" for state in which.states)
            where.append(f"state_now IN ({names})")
            if not {*which.states} & COMMON:
                where.append(f"j.seq IN ({self._sql['uncommon'].replace('{states}', names)})")
        for column, value in (("queue", which.queue), ("task", which.task)):
            if value is not None:
                where.append(f"j.{column} = ?")
                parameters.append(value)
        if which.ids is not None:
            where.append("j.id IN (SELECT value FROM json_each(?))")
            parameters.append(packed(which.ids))
        if which.attempted is not None:
            where.append("(j.failures + j.crashes > 0) = ?")
            parameters.append(which.attempted)
        return where, parameters

    def counts(self) -> list[Count]:
        rows = self._execute(self._sql["counts"], [self.now.wall])
        return [Count(queue, task, State(state), jobs) for queue, task, state, jobs in rows]

    def queues(self) -> set[str]:
        return {row[0] for row in self._execute(self._sql["queues"])}

    def ended(self, ids: Collection[str]) -> set[str]:
        return set(_decode_texts(self._one("ended", packed(list(ids)))))

    def old(self, which: Filter, ended_by: float, failed_by: float, limit: int | None) -> list[str]:
        where, parameters = self._conditions(which)
        where.append("e.finished_at <= CASE WHEN e.state = 'SUCCESSFUL' THEN ? ELSE ? END")
        rows = self._execute(
            f"SELECT id FROM ({self._sql['record']} WHERE {' AND '.join(where)} LIMIT ?)",
            [self.now.wall, *parameters, ended_by, failed_by, -1 if limit is None else limit],
        )
        return [row[0] for row in rows]

    # ---- presences --------------------------------------------------------------------------------------------------

    def be_present(self, presence: Presence) -> None:
        self._run("be_present", presence.worker, self.now.wall, presence.ttl, packed(presence))

    def forget_workers(self, names: Collection[str]) -> None:
        self._run("forget_workers", packed(names))

    def forget_silent(self) -> None:
        self._run("forget_silent", self.now.wall)

    def workers(self) -> list[Presence]:
        rows = self._execute(self._sql["workers"], [self.now.wall])
        return [presence_of(*row) for row in rows]


def placed_insertion(
    sql: Mapping[str, str], records: Sequence[Record], pace: Pace | None = None
) -> Iterator[Statement]:
    """The statements that add these jobs with their places on a connection that may add others: two for each job (three
    with an outbox), which know by `changes()` whether the one before did anything."""
    for record in records:
        if record.ties is not None and record.ties.gates:
            yield Statement(sql["insert_tied"], (*_row(record), ties_of(record)))
            yield Statement(sql["place_gated"], (record.state.value,))
        else:
            yield Statement(sql["insert 1"], _row(record))
            yield Statement(sql["place_ready" if record.state is State.READY else "place_scheduled"], ())
        if pace is not None:
            yield Statement(sql["mark_placed"], (pace.send_at(record.enqueued_at, record.due),))


# ---- rows and records -----------------------------------------------------------------------------------------------


def _row(record: Record) -> tuple[object, ...]:
    return (
        record.id,
        record.task,
        record.queue,
        record.priority,
        record.due,
        record.enqueued_at,
        record.max_crashes,
        record.at_most_once,
        record.expires_at,
        stored(record.body),
    )


def _end(record: Record) -> tuple[object, ...]:
    return (
        record.state.value,
        record.finished_at,
        record.prune_at,
        record.claim_id,
        record.worker,
        record.started_at,
        record.cancel_requested,
        None if record.result is None else stored(record.result),
        record.id,
    )
