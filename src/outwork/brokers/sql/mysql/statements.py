"""The SQL that is MySQL's and MariaDB's own, by name; `{p}` is the prefix of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from outwork.brokers.base import Pace
from outwork.brokers.ledger import unique_cell
from outwork.brokers.sql.books import by_place, written
from outwork.brokers.sql.dialect import Statement
from outwork.brokers.sql.server.statements import APPOINTMENT, PLACE
from outwork.job import Job

encode: Final = msgspec.json.Encoder().encode
NOW: Final = "SELECT UNIX_TIMESTAMP() + MICROSECOND(NOW(6)) / 1e6"
"""In seconds, and without the session's time zone, which has an hour twice in autumn."""
SET_NOW: Final = "SET @outwork_now = UNIX_TIMESTAMP() + MICROSECOND(NOW(6)) / 1e6 + %s"
COLUMNS: Final = "id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, expires_at, body, token"
THESE: Final = "JSON_TABLE(JSON_ARRAY{these}, '$[*]' COLUMNS (id VARCHAR(255) PATH '$')) v"
"""Ids as rows. What is locked one by one is joined to them by its key: of a small table, or for many of its rows, the
server would else read all rows, and wait for those that others have locked."""


def by_key(table: str, key: str = "id") -> str:
    """Delete the rows with these keys, and touch no other."""
    return f"DELETE t FROM {THESE} STRAIGHT_JOIN {{p}}{table} t FORCE INDEX (PRIMARY) ON t.{key} = v.id"


SQL: Final = {
    "place_ready": """
        INSERT INTO {p}ready (queue, solo, turn, due, id, task, expires_at)
        SELECT queue, at_most_once, -priority, due, id, task, expires_at FROM {p}job
        WHERE id {ids} AND token = %s AND due <= @outwork_now""",
    "place_scheduled": """
        INSERT INTO {p}scheduled (queue, due, id, task)
        SELECT queue, due, id, task FROM {p}job WHERE id {ids} AND token = %s AND due > @outwork_now""",
    "place_marked": """
        INSERT INTO {p}outbox (id, send_at) SELECT id, greatest(@outwork_now + %s, due - %s) FROM {p}job
        WHERE id {ids} AND token = %s""",
    "place_bound": """
        INSERT INTO {p}bound (id, queue, task, place, solo, turn, due, expires_at)
        SELECT id, queue, task, IF(due > @outwork_now, 'SCHEDULED', 'READY'), at_most_once OR %s, -priority, due,
            expires_at
        FROM {p}job WHERE id {ids} AND token = %s""",
    "keep_outbox": "INSERT IGNORE INTO {p}meta VALUES ('outbox', %s)",
    "adopt": """
        INSERT IGNORE INTO {p}outbox (id, send_at) SELECT w.id, greatest(%s, w.due - %s) FROM (
            SELECT id, due FROM {p}ready UNION ALL SELECT id, due FROM {p}scheduled
            UNION ALL SELECT id, due FROM {p}bound WHERE place IN ('READY', 'SCHEDULED')) w""",
    "mark": """
        INSERT INTO {p}outbox (id, send_at) VALUES (%s, %s)
        ON DUPLICATE KEY UPDATE send_at = VALUES(send_at)""",
    # The results are one JSON text, [[id, result]...]: the driver takes longer for many parameters than the server.
    # FOR UPDATE: what is read here is what is deleted then, and nobody else takes it meanwhile.
    "succeed": """
        INSERT INTO {p}ended (id, state, queue, task, finished_at, prune_at, claim_id, worker, started_at,
            cancel_requested, result)
        SELECT r.id, 'SUCCESSFUL', r.queue, r.task, %s, %s, r.claim_id, r.worker, r.started_at, r.cancel_requested,
            v.result
        FROM JSON_TABLE(%s, '$[*]' COLUMNS (id VARCHAR(64) PATH '$[0]', result LONGTEXT PATH '$[1]')) v
        STRAIGHT_JOIN {p}running r FORCE INDEX (PRIMARY) ON r.id = v.id WHERE r.claim_id = %s FOR UPDATE""",
    "succeed_bound": """
        INSERT INTO {p}ended (id, state, queue, task, finished_at, prune_at, claim_id, worker, started_at,
            cancel_requested, result)
        SELECT b.id, 'SUCCESSFUL', b.queue, b.task, %s, %s, b.claim_id, b.worker, b.started_at, b.cancel_requested,
            v.result
        FROM JSON_TABLE(%s, '$[*]' COLUMNS (id VARCHAR(64) PATH '$[0]', result LONGTEXT PATH '$[1]')) v
        STRAIGHT_JOIN {p}bound b FORCE INDEX (PRIMARY) ON b.id = v.id
        WHERE b.claim_id = %s AND b.lease_until IS NOT NULL FOR UPDATE""",
    "stop": by_key("running"),
    "unend": by_key("ended"),
    "forget": by_key("job"),
    "unbind": by_key("bound"),
    "unbind_of": f"""
        DELETE b FROM (SELECT %s AS claim_id) c STRAIGHT_JOIN {THESE}
        STRAIGHT_JOIN {{p}}bound b FORCE INDEX (PRIMARY) ON b.id = v.id WHERE b.claim_id = c.claim_id""",
    "unmark": by_key("outbox"),
    "forget_workers": by_key("worker", "worker"),
    "unready": f"""
        DELETE r FROM {THESE} STRAIGHT_JOIN {{p}}job j FORCE INDEX (PRIMARY) ON j.id = v.id
        STRAIGHT_JOIN {{p}}ready r FORCE INDEX (PRIMARY) ON {PLACE}""",
    "unscheduled": f"""
        DELETE s FROM {THESE} STRAIGHT_JOIN {{p}}job j FORCE INDEX (PRIMARY) ON j.id = v.id
        STRAIGHT_JOIN {{p}}scheduled s FORCE INDEX (PRIMARY) ON {APPOINTMENT}""",
    "ready_queues": "SELECT DISTINCT queue FROM {p}ready",
    "scheduled_queues": "SELECT DISTINCT queue FROM {p}scheduled",
    "bound_queues": "SELECT DISTINCT queue FROM {p}bound",
    "insert": """
        INSERT INTO {p}job (id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, expires_at, body,
            ties, token) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
    "kinds": "SELECT DISTINCT queue, task, state FROM {p}ended",
    "be_present": """
        INSERT INTO {p}worker VALUES (%s, %s, %s, %s)
        ON DUPLICATE KEY UPDATE seen_at = VALUES(seen_at), ttl = VALUES(ttl), presence = VALUES(presence)""",
    # One statement that looks and sleeps: who enqueues after the look finds it asleep.
    "doze": """
        SELECT SLEEP(%s) FROM (SELECT 1 AS one) o WHERE NOT EXISTS (
            SELECT 1 FROM {p}ready WHERE queue {ids} AND (expires_at IS NULL OR expires_at > @outwork_now))
        AND NOT EXISTS (
            SELECT 1 FROM {p}bound WHERE queue {ids} AND place = 'READY'
            AND (expires_at IS NULL OR expires_at > @outwork_now))""",
}


def lock_of(identity: str) -> str:
    """The lock of the one who sleeps in front. A lock knows whose it is, leaves nothing behind when its session ends,
    and writes nothing."""
    return f"outwork {identity[:16]} ready"


def among(values: Sequence[str]) -> str:
    """The end of a condition: is one of so many."""
    return f"IN ({', '.join(['%s'] * len(values))})"


def insertion(
    sql: dict[str, str],
    prefix: str,
    jobs: Sequence[tuple[Job, bytes]],
    token: str,
    offset: float,
    pace: Pace | None = None,
    *,
    tied: bool = False,
    solo: bool = True,
    fresh: bool = False,
) -> list[Statement]:
    """The statements that add these jobs and give places to those that were not there. `tied`: all of them have ties,
    else none; `solo`: they stand before gates. `fresh`: they fail if one of the jobs was there."""
    rows: list[str] = []
    values: list[object] = []
    for job, body in jobs:
        values += [job.id, job.task, job.queue, job.priority]
        starts: Sequence[object] = []
        if job.delay is not None:
            due, starts = "@outwork_now + %s", [job.delay]
        elif job.due is not None:
            due, starts = "%s", [job.due]
        else:
            due = "@outwork_now"
        values += [*starts, job.max_crashes, job.at_most_once]
        expires = "NULL"
        if job.expires is not None:
            expires = f"greatest({due}, @outwork_now) + %s"
            values += [*starts, job.expires]
        values += [body, token, written(job.ties)] if tied else [body, token]
        rows.append(f"(%s, %s, %s, %s, {due}, @outwork_now, %s, %s, {expires}, %s, %s{', %s' if tied else ''})")
    ids = [job.id for job, _ in jobs]
    found = [
        Statement(SET_NOW, [offset]),
        Statement(
            f"INSERT INTO {prefix}job ({COLUMNS}{', ties' if tied else ''}) VALUES {', '.join(rows)}"
            + ("" if fresh else f" ON DUPLICATE KEY UPDATE id = {prefix}job.id"),
            values,
        ),
    ]
    some_later = any(job.due is not None or job.delay is not None for job, _ in jobs)
    if tied:
        found.append(Statement(sql["place_bound"].replace("{ids}", among(ids)), [solo, *ids, token]))
    else:
        for name in ("place_ready", "place_scheduled") if some_later else ("place_ready",):
            found.append(Statement(sql[name].replace("{ids}", among(ids)), [*ids, token]))
    if pace is not None:
        marked = sql["place_marked"].replace("{ids}", among(ids))
        found.append(Statement(marked, [pace.grace, pace.horizon, *ids, token]))
    return found


def keyed_insertion(
    sql: dict[str, str], prefix: str, jobs: Sequence[tuple[Job, bytes]], token: str, offset: float
) -> list[Statement]:
    """The statements that add jobs with ties, and the cells of their unique keys; they fail if one was there."""
    rows: list[str] = []
    values: list[object] = []
    for job, _ in sorted(jobs, key=lambda given: unique_key(given[0])):
        unique = None if job.ties is None else job.ties.unique
        if unique is not None:
            begin, until = f'{{"job":{encode(job.id).decode()},"first":', "NULL"
            values += [unique_cell(unique.key), begin]
            if unique.seconds is None:
                rows.append("(%s, CONCAT(%s, @outwork_now, '}'), NULL)")
            else:
                until = "@outwork_now + %s"
                rows.append(f"(%s, CONCAT(%s, @outwork_now, ',\"until\":', {until}, '}}'), {until})")
                values += [unique.seconds, unique.seconds]
    found = [Statement(SET_NOW, [offset])]
    if rows:
        found.append(Statement(f"INSERT INTO {prefix}cell (name, value, until) VALUES {', '.join(rows)}", values))
    for gated, some in by_place(jobs, len(jobs)):
        found += insertion(sql, prefix, some, token, offset, tied=True, solo=gated, fresh=True)[1:]
    return found


def unique_key(job: Job) -> str:
    return "" if job.ties is None or job.ties.unique is None else job.ties.unique.key
