"""The SQL that is PostgreSQL's own, by name; `{p}` is the prefix of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final

from outwork.brokers.base import Pace
from outwork.brokers.sql.books import by_place, written
from outwork.brokers.sql.dialect import Statement
from outwork.brokers.sql.server.statements import APPOINTMENT, PLACE
from outwork.job import Job

FOREIGN_AT_ONCE: Final = 100
"""Jobs in one statement of a connection that is not ours."""
NOW: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"

_CLOCK: Final = """
    clock AS MATERIALIZED (
        SELECT extract(epoch FROM clock_timestamp())::float8 + CAST({offset} AS float8) AS wall)"""

_NEW: Final = """
    new AS (
        INSERT INTO {p}job (id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, expires_at,
                            body{ties})
        SELECT g.id, g.task, g.queue, g.priority, g.starts, c.wall, g.max_crashes, g.at_most_once,
               greatest(g.starts, c.wall) + g.expires, g.body{ties}
        FROM (SELECT v.*, coalesce(c.wall + v.delay, v.due, c.wall) AS starts FROM {given} CROSS JOIN clock c) g
        CROSS JOIN clock c
        ON CONFLICT (id) DO NOTHING
        RETURNING id, task, queue, priority, due, at_most_once, expires_at),"""

_PLACED: Final = (
    _NEW.replace("{ties}", "")
    + """
    waits AS (
        INSERT INTO {p}ready (queue, solo, turn, due, id, task, expires_at)
        SELECT n.queue, n.at_most_once, -n.priority, n.due, n.id, n.task, n.expires_at
        FROM new n CROSS JOIN clock c WHERE n.due <= c.wall),
    comes AS (
        INSERT INTO {p}scheduled (queue, due, id, task)
        SELECT n.queue, n.due, n.id, n.task FROM new n CROSS JOIN clock c WHERE n.due > c.wall)"""
)

_GATED: Final = (
    _NEW.replace("{ties}", ", ties")
    + """
    bonds AS (
        INSERT INTO {p}bound (id, queue, task, place, solo, turn, due, expires_at)
        SELECT n.id, n.queue, n.task, CASE WHEN n.due > c.wall THEN 'SCHEDULED' ELSE 'READY' END, true, -n.priority,
               n.due, n.expires_at
        FROM new n CROSS JOIN clock c)"""
)

_MARKED: Final = """,
    unsent AS (
        INSERT INTO {p}outbox (id, send_at)
        SELECT n.id, greatest(c.wall + CAST({grace} AS float8), n.due - CAST({horizon} AS float8))
        FROM new n CROSS JOIN clock c)"""

FIELDS: Final = (
    ("id", "text"),
    ("task", "text"),
    ("queue", "text"),
    ("priority", "int4"),
    ("due", "float8"),
    ("delay", "float8"),
    ("expires", "float8"),
    ("max_crashes", "int4"),
    ("at_most_once", "bool"),
    ("body", "bytea"),
)
"""What an enqueue is given of each job."""

COLUMNS: Final = {
    "insert": (
        *(("id", "text"), ("task", "text"), ("queue", "text"), ("priority", "int4"), ("due", "float8")),
        *(("enqueued_at", "float8"), ("max_crashes", "int4"), ("at_most_once", "bool"), ("expires_at", "float8")),
        *(("body", "bytea"), ("ties", "text")),
    ),
    "end": (
        *(("id", "text"), ("state", "text"), ("queue", "text"), ("task", "text"), ("finished_at", "float8")),
        *(("prune_at", "float8"), ("claim_id", "text"), ("worker", "text"), ("started_at", "float8")),
        *(("cancel_requested", "bool"), ("result", "bytea")),
    ),
    "new_cell": (("name", "text"), ("value", "text"), ("at", "float8"), ("until", "float8")),
    "set_cell": (("value", "text"), ("at", "float8"), ("until", "float8"), ("name", "text")),
}
"""The parameters of statements that are run for many rows at once, a column each: row by row the driver takes several
times as long as the server."""


def _columns(name: str) -> str:
    """The source of such a statement."""
    return f"unnest({', '.join(f'%s::{kind}[]' for _, kind in COLUMNS[name])})"


def _insert_columns(table: str, name: str) -> str:
    return (
        f"INSERT INTO {{p}}{table} ({', '.join(column for column, _ in COLUMNS[name])}) SELECT * FROM {_columns(name)}"
    )


_NAMES: Final = ", ".join(name for name, _ in FIELDS)

# Whoever sleeps holds a shared advisory lock for as long; whether anybody does is seen by whether the exclusive one
# could be had. It costs 2 µs, leaves no dead rows, and a worker that dies does not sleep on.
_SLEEPS: Final = """
    CASE WHEN pg_try_advisory_lock({key}, {whom}) THEN NOT pg_advisory_unlock({key}, {whom}) ELSE true END"""
READY_BELL: Final = 1
ENDED_BELL: Final = 2


def _sleeps(whom: int) -> str:
    return _SLEEPS.replace("{key}", "%(key)s::int4").replace("{whom}", str(whom))


def _accept(marked: str) -> str:
    given = f"unnest({', '.join(f'%({name})s::{kind}[]' for name, kind in FIELDS)}) AS v ({_NAMES})"
    clock, placed = _CLOCK.replace("{offset}", "%(offset)s"), _PLACED.replace("{given}", given)
    return f"WITH{clock},{placed}{marked}\n    SELECT {_sleeps(READY_BELL)}"


BOUND_FIELDS: Final = (*FIELDS, ("ties", "text"), ("solo", "bool"), ("cell", "text"), ("held_for", "float8"))
"""The same of each job with a unique key or gates: `cell` is that of its key, held for so long."""


def _accept_keyed() -> str:
    """All or none: if a cell or a job is there already, nothing is written; if one is made meanwhile, it fails. Each is
    looked for by its index: EXISTS with an array would read a table that was small when the plan was made."""
    given = f"unnest({', '.join(f'%({name})s::{kind}[]' for name, kind in BOUND_FIELDS)})"
    names = ", ".join(name for name, _ in BOUND_FIELDS)
    return f"""WITH{_CLOCK.replace("{offset}", "%(offset)s")},
    given AS MATERIALIZED (
        SELECT v.*, c.wall, coalesce(c.wall + v.delay, v.due, c.wall) AS starts
        FROM {given} AS v ({names}) CROSS JOIN clock c),
    clear AS MATERIALIZED (
        SELECT NOT EXISTS (
            SELECT 1 FROM given g WHERE (SELECT true FROM {{p}}cell c WHERE c.name = g.cell)
                OR (SELECT true FROM {{p}}job j WHERE j.id = g.id)) AS yes),
    new AS (
        INSERT INTO {{p}}job (id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, expires_at,
                              body, ties)
        SELECT id, task, queue, priority, starts, wall, max_crashes, at_most_once, greatest(starts, wall) + expires,
               body, ties
        FROM given WHERE (SELECT yes FROM clear)),
    bonds AS (
        INSERT INTO {{p}}bound (id, queue, task, place, solo, turn, due, expires_at)
        SELECT id, queue, task, CASE WHEN starts > wall THEN 'SCHEDULED' ELSE 'READY' END, solo, -priority, starts,
               greatest(starts, wall) + expires
        FROM given WHERE (SELECT yes FROM clear)),
    keys AS (
        INSERT INTO {{p}}cell (name, value, until)
        SELECT cell, json_build_object('job', id, 'first', wall, 'until', wall + held_for)::text, wall + held_for
        FROM given WHERE cell IS NOT NULL AND (SELECT yes FROM clear) ORDER BY cell)
    SELECT (SELECT yes FROM clear), {_sleeps(READY_BELL)}"""


# The commonest enqueue, one job for now: half of the server's work and two thirds of the client's less.
_WALL: Final = "(extract(epoch FROM statement_timestamp())::float8 + %(offset)s::float8)"
_ACCEPT_ONE: Final = """WITH new AS (
        INSERT INTO {p}job (id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, expires_at, body)
        VALUES (%(id)s, %(task)s, %(queue)s, %(priority)s, {wall}, {wall}, %(max_crashes)s, %(at_most_once)s,
                {wall} + %(expires)s, %(body)s)
        ON CONFLICT (id) DO NOTHING
        RETURNING id, task, queue, priority, due, at_most_once, expires_at),
    waits AS (
        INSERT INTO {p}ready (queue, solo, turn, due, id, task, expires_at)
        SELECT queue, at_most_once, -priority, due, id, task, expires_at FROM new){marked}
    SELECT """
_ONE_MARKED: Final = """,
    unsent AS (INSERT INTO {p}outbox (id, send_at) SELECT id, {wall} + %(grace)s::float8 FROM new)"""


def _accept_one(marked: str) -> str:
    return _ACCEPT_ONE.replace("{marked}", marked).replace("{wall}", _WALL) + _sleeps(READY_BELL)


def foreign(rows: int, channel: str, *, gated: bool, marked: bool) -> str:
    """An enqueue of so many jobs by a connection that is not ours: plain parameters, and a ring at its commit. The
    offset of the clock comes first, then the fields of each job (and its ties, if they stand before gates), if `marked`
    grace and horizon of the outbox, then what is told."""
    fields = (*FIELDS, ("ties", "text")) if gated else FIELDS
    row = "(" + ", ".join(f"CAST(%s AS {kind})" for _, kind in fields) + ")"
    given = f"(VALUES {', '.join([row] * rows)}) AS v ({', '.join(name for name, _ in fields)})"
    return (
        f"WITH{_CLOCK.replace('{offset}', '%s')},{(_GATED if gated else _PLACED).replace('{given}', given)}"
        f"{_MARKED.replace('{grace}', '%s').replace('{horizon}', '%s') if marked else ''}\n"
        f"    SELECT pg_notify('{channel}', CAST(%s AS text))"
    )


def insertion(
    jobs: Sequence[tuple[Job, bytes]], channel: str, prefix: str, offset: float, pace: Pace | None
) -> list[Statement]:
    """An enqueue of any jobs by such a connection; those who listen on `channel` hear of it."""
    found: list[Statement] = []
    queues = sorted({job.queue for job, _ in jobs})
    said = "~" + queues[0] if len(queues) == 1 else "~"
    marks = [] if pace is None else [pace.grace, pace.horizon]
    for gated, some in by_place(jobs, FOREIGN_AT_ONCE):
        values = chain.from_iterable(
            [body if name == "body" else getattr(job, name) for name, _ in FIELDS]
            + ([written(job.ties)] if gated else [])
            for job, body in some
        )
        sql = foreign(len(some), channel, gated=gated, marked=pace is not None).replace("{p}", prefix)
        found.append(Statement(sql, [offset, *values, *marks, said]))
    return found


def _guard(lax: str) -> str:
    """What one look at each line says: whether a closer one is needed, and who sleeps."""
    return f"""\
    guard AS MATERIALIZED (
        SELECT least(
                   (SELECT min(s.due) FROM line q CROSS JOIN LATERAL (
                       SELECT due FROM {{p}}scheduled WHERE queue = q.queue ORDER BY due LIMIT 1) s),
                   (SELECT min(s.due) FROM line q CROSS JOIN LATERAL (
                       SELECT due FROM {{p}}bound WHERE queue = q.queue AND place = 'SCHEDULED'
                       ORDER BY due LIMIT 1) s),
                   (SELECT at FROM {{p}}cell WHERE at IS NOT NULL ORDER BY at LIMIT 1))
               - (SELECT wall FROM clock) AS due_in,
               %(free)s::int4 > 0 AND EXISTS (
                    SELECT 1 FROM line q CROSS JOIN LATERAL (
                        SELECT 1 FROM {{p}}ready WHERE queue = q.queue AND solo = true LIMIT 1) r)
               OR EXISTS (
                    SELECT 1 FROM line q CROSS JOIN LATERAL (
                        SELECT 1 FROM {{p}}bound WHERE queue = q.queue AND place = 'READY' LIMIT 1) b) AS solo,
               {_sleeps(READY_BELL)} AS idle, {_sleeps(ENDED_BELL)} AS awaited{lax}),
"""


def _swap(settles: bool) -> str:
    """Settle and claim. The claim's rows are locked as they are found; a queue's line may be entered further down
    (`from_*`) by somebody who knows that there is nothing before."""
    settle = """
    stopped AS (
        DELETE FROM {p}running r
        USING unnest(%(ids)s::text[], %(claims)s::text[], %(keeps)s::float8[], %(results)s::bytea[])
            AS v (id, claim_id, keep, result)
        WHERE r.id = v.id AND r.claim_id = v.claim_id
        RETURNING r.id, r.queue, r.task, r.claim_id, r.worker, r.started_at, r.cancel_requested, v.keep, v.result),
    done AS (
        INSERT INTO {p}ended (id, state, queue, task, finished_at, prune_at, claim_id, worker, started_at,
                              cancel_requested, result)
        SELECT s.id, 'SUCCESSFUL', s.queue, s.task, c.wall, c.wall + s.keep, s.claim_id, s.worker, s.started_at,
               s.cancel_requested, s.result
        FROM stopped s CROSS JOIN clock c
        RETURNING id),"""
    count = "(SELECT count(*) FROM done)::int4" if settles else "0"
    settled = "ARRAY(SELECT id FROM done)" if settles else "NULL::text[]"
    # A claim alone need not be on disk: if it is lost with the server, its jobs were in flight.
    lax = "" if settles else ", set_config('synchronous_commit', 'off', true) AS lax"
    return (
        "WITH"
        + _CLOCK.replace("{offset}", "%(offset)s")
        + ","
        + (settle if settles else "")
        + f"""
    line AS MATERIALIZED (
        SELECT * FROM unnest(%(queues)s::text[], %(mosts)s::int4[], %(from_turns)s::int4[], %(from_dues)s::float8[],
                             %(from_ids)s::text[])
            WITH ORDINALITY AS q (queue, most, from_turn, from_due, from_id, nth)),
{_guard(lax)}
    head AS MATERIALIZED (
        SELECT q.nth, r.* FROM line q CROSS JOIN LATERAL (
            SELECT y.ctid AS tid, y.id, y.task, y.queue, y.turn, y.due FROM {{p}}ready y
            WHERE y.queue = q.queue AND y.solo = false
              AND (y.expires_at IS NULL OR y.expires_at > (SELECT wall FROM clock))
              AND (y.turn, y.due, y.id) >= (q.from_turn, q.from_due, q.from_id)
            ORDER BY y.turn, y.due, y.id LIMIT q.most FOR UPDATE SKIP LOCKED) r
        WHERE (SELECT NOT g.solo AND (g.due_in IS NULL OR g.due_in > 0) AND {count} = %(settling)s::int4 FROM guard g)
        LIMIT %(limit)s::int4),
    gone AS (DELETE FROM {{p}}ready WHERE ctid = ANY (ARRAY(SELECT tid FROM head))),
    begun AS (
        INSERT INTO {{p}}running (id, queue, task, claim_id, worker, lease_until, started_at)
        SELECT h.id, h.queue, h.task, %(claim)s::text, %(worker)s::text, c.wall + %(lease)s::float8, c.wall
        FROM head h CROSS JOIN clock c)
    SELECT g.due_in, g.solo, g.idle, g.awaited, {count},
           CASE WHEN {count} <> %(settling)s::int4 THEN {settled} END,
           h.turn, h.due, j.id, j.failures, j.crashes, j.misses, j.errors, j.body
    FROM guard g LEFT JOIN (head h JOIN {{p}}job j ON j.id = h.id) ON true
    ORDER BY h.nth, h.turn, h.due, h.id"""
    )


def _distinct(table: str) -> str:
    """The queues in a table, by one look at its index for each."""
    return f"""
        WITH RECURSIVE known (name) AS (
            SELECT min(queue) FROM {{p}}{table}
            UNION ALL
            SELECT (SELECT min(queue) FROM {{p}}{table} WHERE queue > known.name) FROM known WHERE name IS NOT NULL)
        SELECT name FROM known WHERE name IS NOT NULL"""


SQL: Final = {
    "accept": _accept(""),
    "accept_marked": _accept(_MARKED.replace("{grace}", "%(grace)s").replace("{horizon}", "%(horizon)s")),
    "accept_one": _accept_one(""),
    "accept_one_marked": _accept_one(_ONE_MARKED),
    "accept_keyed": _accept_keyed(),
    "succeed_bound": """
        WITH gone AS (
            DELETE FROM {p}bound b USING unnest(%s::text[], %s::bytea[]) AS v (id, result)
            WHERE b.id = v.id AND b.claim_id = %s AND b.lease_until IS NOT NULL
            RETURNING b.id, b.queue, b.task, b.claim_id, b.worker, b.started_at, b.cancel_requested, v.result)
        INSERT INTO {p}ended (id, state, queue, task, finished_at, prune_at, claim_id, worker, started_at,
            cancel_requested, result)
        SELECT g.id, 'SUCCESSFUL', g.queue, g.task, %s, %s, g.claim_id, g.worker, g.started_at, g.cancel_requested,
            g.result
        FROM gone g""",
    "swap": _swap(settles=True),
    "claim": _swap(settles=False),
    "insert columns": _insert_columns("job", "insert"),
    "end columns": _insert_columns("ended", "end"),
    "new_cell columns": _insert_columns("cell", "new_cell"),
    "set_cell columns": f"""
        UPDATE {{p}}cell c SET value = v.value, at = v.at, until = v.until
        FROM {_columns("set_cell")} AS v (value, at, until, name) WHERE c.name = v.name""",
    "bells": f"SELECT {_sleeps(READY_BELL)}, {_sleeps(ENDED_BELL)}",
    "ring": """
        SELECT pg_notify(t.channel, t.said)
        FROM unnest(%(channels)s::text[], %(said)s::text[]) AS t (channel, said)
        CROSS JOIN set_config('synchronous_commit', 'off', true)""",
    "keep_outbox": "INSERT INTO {p}meta VALUES ('outbox', %s) ON CONFLICT DO NOTHING",
    "adopt": """
        INSERT INTO {p}outbox (id, send_at) SELECT w.id, greatest(%s::float8, w.due - %s::float8) FROM (
            SELECT id, due FROM {p}ready UNION ALL SELECT id, due FROM {p}scheduled
            UNION ALL SELECT id, due FROM {p}bound WHERE place IN ('READY', 'SCHEDULED')) w
        ON CONFLICT DO NOTHING""",
    "mark": """
        INSERT INTO {p}outbox (id, send_at) VALUES (%s, %s)
        ON CONFLICT (id) DO UPDATE SET send_at = excluded.send_at""",
    "unready": f"DELETE FROM {{p}}ready r USING {{p}}job j WHERE {PLACE} AND j.id {{ids}}",
    "unscheduled": f"DELETE FROM {{p}}scheduled s USING {{p}}job j WHERE {APPOINTMENT} AND j.id {{ids}}",
    "ready_queues": _distinct("ready"),
    "scheduled_queues": _distinct("scheduled"),
    "bound_queues": _distinct("bound"),
    "kinds": """
        WITH RECURSIVE kind AS (
            (SELECT queue, task, state FROM {p}ended ORDER BY queue, task, state LIMIT 1)
            UNION ALL
            SELECT n.queue, n.task, n.state FROM kind k CROSS JOIN LATERAL (
                SELECT e.queue, e.task, e.state FROM {p}ended e
                WHERE (e.queue, e.task, e.state) > (k.queue, k.task, k.state)
                ORDER BY e.queue, e.task, e.state LIMIT 1) n)
        SELECT * FROM kind""",
    "be_present": """
        INSERT INTO {p}worker VALUES (%s, %s, %s, %s)
        ON CONFLICT (worker) DO UPDATE
        SET seen_at = excluded.seen_at, ttl = excluded.ttl, presence = excluded.presence""",
}
