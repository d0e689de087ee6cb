"""All the SQL that the SQLite broker runs, by name; `{p}` is the prefix of its tables."""

from __future__ import annotations

from typing import Final

from outwork.brokers.sql.sqlite.bound_statements import SQL as BOUND

COLUMNS: Final = "id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, expires_at, body"
CHUNKS: Final = (200, 50, 10, 1)
"""Rows in one INSERT: few texts, so that their prepared statements stay in sqlite3's cache."""
ROW: Final = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

SQL: Final = {
    **{
        f"insert {size}": f"INSERT INTO {{p}}job ({COLUMNS}) VALUES {', '.join([ROW] * size)} ON CONFLICT DO NOTHING"
        for size in CHUNKS
    },
    # Whoever inserts holds the write lock, so the new rows are the last ones, without a gap.
    "ready_new": """
        INSERT INTO {p}ready SELECT queue, at_most_once, -priority, due, id, seq, task, expires_at FROM {p}job
        WHERE seq > last_insert_rowid() - ?1 AND due <= ?2""",
    "scheduled_new": """
        INSERT INTO {p}scheduled SELECT queue, due, seq, task FROM {p}job
        WHERE seq > last_insert_rowid() - ?1 AND due > ?2""",
    "place_ready": """
        INSERT INTO {p}ready SELECT queue, at_most_once, -priority, due, id, seq, task, expires_at FROM {p}job
        WHERE seq = last_insert_rowid() AND changes() = 1""",
    "place_scheduled": """
        INSERT INTO {p}scheduled SELECT queue, due, seq, task FROM {p}job
        WHERE seq = last_insert_rowid() AND changes() = 1""",
    "mark_new": """
        INSERT INTO {p}outbox SELECT id, max(?2, due - ?3) FROM {p}job WHERE seq > last_insert_rowid() - ?1""",
    "mark_placed": """
        INSERT INTO {p}outbox SELECT id, ? FROM {p}job WHERE seq = last_insert_rowid() AND changes() = 1""",
    # The results are one JSON object, job id -> result: its keys and values cost no parsing of their own.
    "succeed": """
        INSERT INTO {p}ended
        SELECT r.seq, 'SUCCESSFUL', r.queue, r.task, ?1, ?2, r.claim_id, r.worker, r.started_at, r.cancel_requested,
               v.value
        FROM json_each(?3) v CROSS JOIN {p}running r ON r.id = v.key WHERE r.claim_id = ?4""",
    "stop_keys": "DELETE FROM {p}running WHERE id IN (SELECT key FROM json_each(?1)) AND claim_id = ?2",
    "look": """
        SELECT json_group_array(json_array(
            q.value,
            EXISTS (SELECT 1 FROM {p}ready WHERE queue = q.value AND solo = 0
                    AND (expires_at IS NULL OR expires_at > ?2)),
            EXISTS (SELECT 1 FROM {p}ready WHERE queue = q.value AND solo = 1
                    AND (expires_at IS NULL OR expires_at > ?2)),
            (SELECT min(due) FROM (
                SELECT * FROM (SELECT due FROM {p}scheduled WHERE queue = q.value ORDER BY due LIMIT 1)
                UNION ALL SELECT * FROM (
                    SELECT due FROM {p}bound WHERE queue = q.value AND place = 'SCHEDULED'
                    ORDER BY due LIMIT 1))) - ?2,
            EXISTS (SELECT 1 FROM {p}bound WHERE queue = q.value AND place = 'READY'
                    AND (expires_at IS NULL OR expires_at > ?2)),
            (SELECT at FROM {p}cell WHERE at IS NOT NULL ORDER BY at LIMIT 1) - ?2))
        FROM json_each(?1) q""",
    "due": "SELECT json_group_array(seq) FROM (SELECT seq FROM {p}scheduled WHERE queue = ? AND due <= ? LIMIT ?)",
    "promote": """
        INSERT INTO {p}ready
        SELECT queue, at_most_once OR crashes > 0, -priority, due, id, seq, task, expires_at FROM {p}job
        WHERE seq IN (SELECT value FROM json_each(?))""",
    "promoted": """
        DELETE FROM {p}scheduled WHERE (queue, due, seq) IN (
            SELECT j.queue, j.due, j.seq FROM json_each(?) v CROSS JOIN {p}job j ON j.seq = v.value)""",
    "front": """
        SELECT j.id, j.failures, j.crashes, j.misses, j.errors, j.body
        FROM {p}ready r CROSS JOIN {p}job j ON j.seq = r.seq
        WHERE r.queue = ?1 AND r.solo = 0 AND (r.expires_at IS NULL OR r.expires_at > ?2)
        ORDER BY r.rank, r.due, r.id LIMIT ?3""",
    "run_heads": """
        INSERT INTO {p}running
        SELECT id, seq, queue, task, ?4, ?5, ?6, ?2, 0 FROM {p}ready
        WHERE queue = ?1 AND solo = 0 AND (expires_at IS NULL OR expires_at > ?2)
        ORDER BY rank, due, id LIMIT ?3""",
    "unready_heads": """
        DELETE FROM {p}ready WHERE (queue, solo, rank, due, id) IN (
            SELECT queue, solo, rank, due, id FROM {p}ready
            WHERE queue = ?1 AND solo = 0 AND (expires_at IS NULL OR expires_at > ?2)
            ORDER BY rank, due, id LIMIT ?3)""",
    "run_these": """
        INSERT INTO {p}running
        SELECT j.id, j.seq, j.queue, j.task, ?2, ?3, ?4, ?5, 0
        FROM json_each(?1) v CROSS JOIN {p}job j ON j.id = v.value""",
    "unready": """
        DELETE FROM {p}ready WHERE (queue, solo, rank, due, id) IN (
            SELECT j.queue, j.at_most_once OR j.crashes > 0, -j.priority, j.due, j.id
            FROM json_each(?) v CROSS JOIN {p}job j ON j.id = v.value)""",
    "claimed": """
        SELECT j.id, j.failures, j.crashes, j.misses, j.errors, j.body
        FROM {p}running r CROSS JOIN {p}job j ON j.seq = r.seq WHERE r.claim_id = ?
        ORDER BY j.queue, -j.priority, j.due, j.id""",
    "extend": """
        UPDATE {p}running SET lease_until = ?1 WHERE id IN (
            SELECT r.id FROM json_each(?2) v CROSS JOIN {p}running r ON r.id = v.key WHERE r.claim_id = v.value)""",
    "holding": """
        SELECT json_group_array(r.id) FROM json_each(?) v CROSS JOIN {p}running r ON r.id = v.key
        WHERE r.claim_id = v.value""",
    "cancelling": """
        SELECT json_group_array(id) FROM (SELECT id FROM {p}running WHERE cancel_requested
            UNION ALL SELECT id FROM {p}bound WHERE lease_until IS NOT NULL AND cancel_requested)""",
    "record": """
        SELECT j.id, j.task, j.queue, j.priority, j.body,
               CASE WHEN e.seq IS NOT NULL THEN e.state WHEN r.id IS NOT NULL THEN 'RUNNING'
                    WHEN b.place = 'SCHEDULED' AND b.due <= ?1 THEN 'READY' WHEN b.id IS NOT NULL THEN b.place
                    WHEN s.due > ?1 THEN 'SCHEDULED' ELSE 'READY' END AS state_now,
               j.due, j.enqueued_at, j.max_crashes, j.at_most_once, j.expires_at, j.failures, j.crashes, j.misses,
               j.errors,
               CASE WHEN e.seq IS NOT NULL THEN e.claim_id WHEN r.id IS NOT NULL THEN r.claim_id
                    WHEN b.lease_until IS NOT NULL THEN b.claim_id ELSE j.claim_id END,
               CASE WHEN e.seq IS NOT NULL THEN e.worker WHEN r.id IS NOT NULL THEN r.worker
                    WHEN b.lease_until IS NOT NULL THEN b.worker ELSE j.worker END,
               coalesce(r.lease_until, b.lease_until),
               coalesce(e.cancel_requested, r.cancel_requested, b.cancel_requested, 0),
               CASE WHEN e.seq IS NOT NULL THEN e.started_at WHEN r.id IS NOT NULL THEN r.started_at
                    WHEN b.lease_until IS NOT NULL THEN b.started_at ELSE j.started_at END,
               e.finished_at, e.prune_at, e.result, j.ties, b.knot
        FROM {p}job j
        LEFT JOIN {p}running r ON r.id = j.id
        LEFT JOIN {p}bound b ON b.id = j.id
        LEFT JOIN {p}ended e ON e.seq = j.seq
        LEFT JOIN {p}scheduled s ON s.queue = j.queue AND s.due = j.due AND s.seq = j.seq""",
    "unscheduled": """
        DELETE FROM {p}scheduled WHERE (queue, due, seq) IN (
            SELECT j.queue, j.due, j.seq FROM json_each(?) v CROSS JOIN {p}job j ON j.id = v.value)""",
    "stop": "DELETE FROM {p}running WHERE id IN (SELECT value FROM json_each(?))",
    "unend": """
        DELETE FROM {p}ended WHERE seq IN (
            SELECT j.seq FROM json_each(?) v CROSS JOIN {p}job j ON j.id = v.value)""",
    "forget": "DELETE FROM {p}job WHERE id IN (SELECT value FROM json_each(?))",
    "ask_to_stop": "UPDATE {p}running SET cancel_requested = 1 WHERE id IN (SELECT value FROM json_each(?))",
    "update": """
        UPDATE {p}job SET due = ?, expires_at = ?, failures = ?, crashes = ?, misses = ?, errors = ?, claim_id = ?,
            worker = ?, started_at = ?, ties = ? WHERE id = ?""",
    "ready_these": """
        INSERT INTO {p}ready
        SELECT j.queue, j.at_most_once OR j.crashes > 0, -j.priority, j.due, j.id, j.seq, j.task, j.expires_at
        FROM json_each(?) v CROSS JOIN {p}job j ON j.id = v.value""",
    "schedule_these": """
        INSERT INTO {p}scheduled SELECT j.queue, j.due, j.seq, j.task
        FROM json_each(?) v CROSS JOIN {p}job j ON j.id = v.value""",
    "end": """
        INSERT INTO {p}ended SELECT seq, ?, queue, task, ?, ?, ?, ?, ?, ?, ? FROM {p}job WHERE id = ?""",
    "lost": """
        SELECT json_group_array(id) FROM (
            SELECT id FROM {p}running
            WHERE (?1 AND lease_until <= ?2) OR worker IN (SELECT value FROM json_each(?3))
            UNION ALL SELECT id FROM {p}bound WHERE lease_until IS NOT NULL
            AND ((?1 AND lease_until <= ?2) OR worker IN (SELECT value FROM json_each(?3))) LIMIT ?4)""",
    "expired": """
        SELECT json_group_array(id) FROM (
            SELECT * FROM (SELECT id FROM {p}ready WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)
            UNION ALL SELECT * FROM (
                SELECT id FROM {p}bound WHERE expires_at <= ?1 AND place = 'READY' ORDER BY expires_at LIMIT ?2)
            LIMIT ?2)""",
    # The groups by a loose index scan: a few seeks for each, however many jobs they hold. (A row value compared with
    # > would be shorter, but SQLite seeks by its first column only.)
    "outdated": """
        WITH RECURSIVE kind (queue, task, state) AS (
            SELECT * FROM (SELECT queue, task, state FROM {p}ended ORDER BY queue, task, state LIMIT 1)
            UNION ALL
            SELECT e.queue, e.task, e.state FROM kind k CROSS JOIN {p}ended e ON e.seq = coalesce(
                (SELECT seq FROM {p}ended WHERE queue = k.queue AND task = k.task AND state > k.state
                 ORDER BY state LIMIT 1),
                (SELECT seq FROM {p}ended WHERE queue = k.queue AND task > k.task ORDER BY task, state LIMIT 1),
                (SELECT seq FROM {p}ended WHERE queue > k.queue ORDER BY queue, task, state LIMIT 1)))
        SELECT json_group_array(seq) FROM (
            SELECT e.seq FROM kind k CROSS JOIN {p}ended e
                ON e.queue = k.queue AND e.task = k.task AND e.state = k.state AND e.prune_at <= ? LIMIT ?)""",
    "forget_ended": "DELETE FROM {p}ended WHERE seq IN (SELECT value FROM json_each(?))",
    "forget_jobs": "DELETE FROM {p}job WHERE seq IN (SELECT value FROM json_each(?))",
    "counts": """
        SELECT queue, task, 'READY', count(*) FROM {p}ready GROUP BY 1, 2
        UNION ALL SELECT queue, task, CASE WHEN due > ?1 THEN 'SCHEDULED' ELSE 'READY' END, count(*) FROM {p}scheduled
            GROUP BY 1, 2, 3
        UNION ALL SELECT queue, task, CASE WHEN place = 'SCHEDULED' AND due <= ?1 THEN 'READY' ELSE place END, count(*)
            FROM {p}bound GROUP BY 1, 2, 3
        UNION ALL SELECT queue, task, 'RUNNING', count(*) FROM {p}running GROUP BY 1, 2
        UNION ALL SELECT queue, task, state, count(*) FROM {p}ended GROUP BY queue, task, state""",
    "ended": """
        SELECT json_group_array(v.value) FROM json_each(?) v
        LEFT JOIN {p}job j ON j.id = v.value LEFT JOIN {p}ended e ON e.seq = j.seq
        WHERE j.seq IS NULL OR e.seq IS NOT NULL""",
    "be_present": """
        INSERT INTO {p}worker VALUES (?, ?, ?, ?)
        ON CONFLICT (worker) DO UPDATE
        SET seen_at = excluded.seen_at, ttl = excluded.ttl, presence = excluded.presence""",
    "forget_workers": "DELETE FROM {p}worker WHERE worker IN (SELECT value FROM json_each(?))",
    "forget_silent": "DELETE FROM {p}worker WHERE seen_at + ttl < ?",
    "workers": "SELECT presence, seen_at FROM {p}worker WHERE seen_at + ttl >= ? ORDER BY worker",
    "kept_pace": "SELECT value FROM {p}meta WHERE name = 'outbox'",
    "keep_outbox": "INSERT INTO {p}meta VALUES ('outbox', ?) ON CONFLICT DO NOTHING",
    "pace": "UPDATE {p}meta SET value = ? WHERE name = 'outbox'",
    "adopt": """
        INSERT INTO {p}outbox SELECT id, max(?1, due - ?2) FROM (
            SELECT id, due FROM {p}ready UNION ALL
            SELECT id, due FROM {p}bound WHERE place IN ('READY', 'SCHEDULED') UNION ALL
            SELECT j.id, j.due FROM {p}scheduled s CROSS JOIN {p}job j ON j.seq = s.seq) w
        WHERE true ON CONFLICT DO NOTHING""",
    "mark": "INSERT INTO {p}outbox VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET send_at = excluded.send_at",
    "unmark": "DELETE FROM {p}outbox WHERE id IN (SELECT value FROM json_each(?))",
    "put_off": "UPDATE {p}outbox SET send_at = ? WHERE id IN (SELECT value FROM json_each(?))",
    "to_send": """
        SELECT o.id, j.queue, j.priority, j.due, j.at_most_once OR j.crashes > 0 OR coalesce(b.solo, 0)
        FROM (SELECT id FROM {p}outbox WHERE send_at <= ? ORDER BY send_at LIMIT ?) o
        LEFT JOIN {p}job j ON j.id = o.id LEFT JOIN {p}bound b ON b.id = o.id ORDER BY -j.priority, j.due, j.id""",
    "ready_among": """
        SELECT r.id FROM json_each(?1) v CROSS JOIN {p}job j ON j.id = v.value CROSS JOIN {p}ready r
            ON r.queue = j.queue AND r.solo = (j.at_most_once OR j.crashes > 0) AND r.rank = -j.priority
            AND r.due = j.due AND r.id = j.id
        WHERE r.expires_at IS NULL OR r.expires_at > ?2""",
    "successes": """
        SELECT j.id, j.task, e.result FROM json_each(?) v CROSS JOIN {p}job j ON j.id = v.value
        CROSS JOIN {p}ended e ON e.seq = j.seq WHERE e.state = 'SUCCESSFUL'""",
    "uncommon": """
    SELECT seq FROM {p}running UNION ALL SELECT seq FROM {p}scheduled
    UNION ALL SELECT b.seq FROM {p}bound t CROSS JOIN {p}job b ON b.id = t.id
    WHERE t.place IN ({states})
    UNION ALL SELECT seq FROM {p}ended WHERE state <> 'SUCCESSFUL' AND state IN ({states})""",
    "queues": " UNION ".join(
        f"""
    SELECT name FROM (
        WITH RECURSIVE known (name) AS (
            SELECT min(queue) FROM {{p}}{table}
            UNION ALL
            SELECT (SELECT min(queue) FROM {{p}}{table} WHERE queue > known.name) FROM known WHERE name IS NOT NULL)
        SELECT name FROM known WHERE name IS NOT NULL)"""
        for table in ("ready", "scheduled", "bound", "ended")
    )
    + " UNION SELECT queue FROM {p}running",
}


def statements(prefix: str) -> dict[str, str]:
    """All statements, for tables with this prefix."""
    return {name: sql.replace("{p}", prefix) for name, sql in {**SQL, **BOUND}.items()}
