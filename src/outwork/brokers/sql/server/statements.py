"""The SQL that PostgreSQL and MySQL have in common, by name; `{p}` is the prefix of the tables.

What they spell differently stands in the statements of each: `{ids}` (is one of these ids), `{lines}` (these queue
names as rows of a column `queue`), and the deletes that join.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from outwork.brokers.sql.server.bound_statements import SQL as BOUND

SOLO: Final = "(j.at_most_once OR j.crashes > 0)"
PLACE: Final = f"""
    r.queue = j.queue AND r.solo = {SOLO} AND r.turn = -j.priority AND r.due = j.due AND r.id = j.id"""
"""Where the row of a ready job `r` is, by its row `j` in `job`."""
APPOINTMENT: Final = "s.queue = j.queue AND s.due = j.due AND s.id = j.id"
"""The same for a scheduled job `s`."""

COMMON: Final = {
    "look": """
        SELECT q.queue,
               EXISTS (SELECT 1 FROM {p}ready r WHERE r.queue = q.queue AND r.solo = false
                       AND (r.expires_at IS NULL OR r.expires_at > %s)),
               EXISTS (SELECT 1 FROM {p}ready r WHERE r.queue = q.queue AND r.solo = true
                       AND (r.expires_at IS NULL OR r.expires_at > %s)),
               (SELECT s.due FROM {p}scheduled s WHERE s.queue = q.queue ORDER BY s.due LIMIT 1),
               (SELECT b.due FROM {p}bound b WHERE b.queue = q.queue AND b.place = 'SCHEDULED' ORDER BY b.due LIMIT 1),
               EXISTS (SELECT 1 FROM {p}bound b WHERE b.queue = q.queue AND b.place = 'READY'
                       AND (b.expires_at IS NULL OR b.expires_at > %s)),
               (SELECT c.at FROM {p}cell c WHERE c.at IS NOT NULL ORDER BY c.at LIMIT 1)
        FROM {lines} q""",
    "due": """
        SELECT id FROM {p}scheduled WHERE queue = %s AND due <= %s ORDER BY due LIMIT %s FOR UPDATE SKIP LOCKED""",
    "make_ready": f"""
        INSERT INTO {{p}}ready (queue, solo, turn, due, id, task, expires_at)
        SELECT j.queue, {SOLO}, -j.priority, j.due, j.id, j.task, j.expires_at FROM {{p}}job j WHERE j.id {{ids}}""",
    "schedule": """
        INSERT INTO {p}scheduled (queue, due, id, task)
        SELECT j.queue, j.due, j.id, j.task FROM {p}job j WHERE j.id {ids}""",
    "heads": """
        SELECT turn, due, id FROM {p}ready
        WHERE queue = %s AND solo = %s AND (expires_at IS NULL OR expires_at > %s)
        ORDER BY turn, due, id LIMIT %s FOR UPDATE SKIP LOCKED""",
    "front": """
        SELECT id FROM {p}ready
        WHERE queue = %s AND solo = false AND (expires_at IS NULL OR expires_at > %s)
        ORDER BY turn, due, id LIMIT %s FOR UPDATE SKIP LOCKED""",
    "run": """
        INSERT INTO {p}running (id, queue, task, claim_id, worker, lease_until, started_at)
        SELECT j.id, j.queue, j.task, %s, %s, %s, %s FROM {p}job j WHERE j.id {ids}""",
    "bodies": """
        SELECT j.id, j.failures, j.crashes, j.misses, j.errors, j.body FROM {p}job j WHERE j.id {ids}""",
    "claimed": """
        SELECT j.id, j.failures, j.crashes, j.misses, j.errors, j.body
        FROM {p}running r JOIN {p}job j ON j.id = r.id WHERE r.claim_id = %s
        ORDER BY j.queue, -j.priority, j.due, j.id""",
    "running_of": """
        SELECT id, queue, task, claim_id, worker, started_at, cancel_requested
        FROM {p}running WHERE claim_id = %s AND id {ids} ORDER BY id FOR UPDATE""",
    "end": """
        INSERT INTO {p}ended (id, state, queue, task, finished_at, prune_at, claim_id, worker, started_at,
            cancel_requested, result) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
    "stop": "DELETE FROM {p}running WHERE id {ids}",
    "holding": "SELECT id, claim_id FROM {p}running WHERE id {ids} ORDER BY id FOR UPDATE",
    "extend": "UPDATE {p}running SET lease_until = %s WHERE id {ids}",
    "cancelling": """
        SELECT id FROM {p}running WHERE cancel_requested
        UNION ALL SELECT id FROM {p}bound WHERE lease_until IS NOT NULL AND cancel_requested""",
    "record": """
        SELECT j.id AS id, j.task AS task, j.queue AS queue, j.priority AS priority, j.body AS body,
               CASE WHEN e.id IS NOT NULL THEN e.state WHEN r.id IS NOT NULL THEN 'RUNNING'
                    WHEN b.place = 'SCHEDULED' AND b.due <= %s THEN 'READY' WHEN b.id IS NOT NULL THEN b.place
                    WHEN s.due > %s THEN 'SCHEDULED' ELSE 'READY' END AS place,
               j.due AS due, j.enqueued_at AS enqueued_at, j.max_crashes AS max_crashes,
               j.at_most_once AS at_most_once, j.expires_at AS expires_at, j.failures AS failures,
               j.crashes AS crashes, j.misses AS misses, j.errors AS errors,
               CASE WHEN e.id IS NOT NULL THEN e.claim_id WHEN r.id IS NOT NULL THEN r.claim_id
                    WHEN b.lease_until IS NOT NULL THEN b.claim_id ELSE j.claim_id END AS claim_id,
               CASE WHEN e.id IS NOT NULL THEN e.worker WHEN r.id IS NOT NULL THEN r.worker
                    WHEN b.lease_until IS NOT NULL THEN b.worker ELSE j.worker END AS worker,
               coalesce(r.lease_until, b.lease_until) AS lease_until,
               coalesce(e.cancel_requested, r.cancel_requested, b.cancel_requested, false) AS stopping,
               CASE WHEN e.id IS NOT NULL THEN e.started_at WHEN r.id IS NOT NULL THEN r.started_at
                    WHEN b.lease_until IS NOT NULL THEN b.started_at ELSE j.started_at END AS started_at,
               e.finished_at AS finished_at, e.prune_at AS prune_at, e.result AS result, j.ties AS ties,
               b.knot AS knot
        FROM {p}job j
        LEFT JOIN {p}running r ON r.id = j.id
        LEFT JOIN {p}bound b ON b.id = j.id
        LEFT JOIN {p}ended e ON e.id = j.id
        LEFT JOIN {p}scheduled s ON s.queue = j.queue AND s.due = j.due AND s.id = j.id""",
    "successes": "SELECT id, task, result FROM {p}ended WHERE state = 'SUCCESSFUL' AND id {ids}",
    "uncommon": """
        SELECT id FROM {p}running UNION ALL SELECT id FROM {p}scheduled
        UNION ALL SELECT id FROM {p}bound WHERE place IN ({states})
        UNION ALL SELECT id FROM {p}ended WHERE state <> 'SUCCESSFUL' AND state IN ({states})""",
    "held_as": "SELECT count(*) FROM {p}running WHERE (id, claim_id) IN ({pairs})",
    "unend": "DELETE FROM {p}ended WHERE id {ids}",
    "forget": "DELETE FROM {p}job WHERE id {ids}",
    "ask_to_stop": "UPDATE {p}running SET cancel_requested = true WHERE id {ids}",
    "update": """
        UPDATE {p}job SET due = %s, expires_at = %s, failures = %s, crashes = %s, misses = %s, errors = %s,
            claim_id = %s, worker = %s, started_at = %s, ties = %s WHERE id = %s""",
    "lost": """
        SELECT id FROM {p}running WHERE lease_until <= %s LIMIT %s FOR UPDATE SKIP LOCKED""",
    "lost_of": """
        SELECT id FROM {p}running WHERE worker {ids} LIMIT %s FOR UPDATE SKIP LOCKED""",
    "expired": """
        SELECT id FROM {p}ready WHERE expires_at <= %s ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED""",
    "outdated": """
        SELECT id FROM {p}ended WHERE queue = %s AND task = %s AND state = %s AND prune_at <= %s
        ORDER BY prune_at LIMIT %s FOR UPDATE SKIP LOCKED""",
    "counts": """
        SELECT queue, task, 'READY', count(*) FROM {p}ready GROUP BY queue, task
        UNION ALL SELECT queue, task, CASE WHEN due > %s THEN 'SCHEDULED' ELSE 'READY' END, count(*)
            FROM {p}scheduled GROUP BY 1, 2, 3
        UNION ALL SELECT queue, task, CASE WHEN place = 'SCHEDULED' AND due <= %s THEN 'READY' ELSE place END, count(*)
            FROM {p}bound GROUP BY 1, 2, 3
        UNION ALL SELECT queue, task, 'RUNNING', count(*) FROM {p}running GROUP BY queue, task
        UNION ALL SELECT queue, task, state, count(*) FROM {p}ended GROUP BY queue, task, state""",
    "running_queues": "SELECT DISTINCT queue FROM {p}running",
    "not_ended": """
        SELECT j.id FROM {p}job j LEFT JOIN {p}ended e ON e.id = j.id WHERE e.id IS NULL AND j.id {ids}""",
    "kept_pace": "SELECT value FROM {p}meta WHERE name = 'outbox'",
    "pace": "UPDATE {p}meta SET value = %s WHERE name = 'outbox'",
    "unmark": "DELETE FROM {p}outbox WHERE id {ids}",
    "put_off": "UPDATE {p}outbox SET send_at = %s WHERE id {ids}",
    "to_send": f"""
        SELECT o.id, j.queue, j.priority, j.due, {SOLO} OR coalesce(b.solo, false)
        FROM (SELECT id FROM {{p}}outbox WHERE send_at <= %s ORDER BY send_at LIMIT %s) o
        LEFT JOIN {{p}}job j ON j.id = o.id LEFT JOIN {{p}}bound b ON b.id = o.id ORDER BY -j.priority, j.due, j.id""",
    "ready_among": f"""
        SELECT r.id FROM {{p}}job j JOIN {{p}}ready r ON {PLACE}
        WHERE (r.expires_at IS NULL OR r.expires_at > %s) AND j.id {{ids}}""",
    "forget_workers": "DELETE FROM {p}worker WHERE worker {ids}",
    "silent": "SELECT worker FROM {p}worker WHERE seen_at + ttl < %s FOR UPDATE SKIP LOCKED",
    "workers": "SELECT presence, seen_at FROM {p}worker WHERE seen_at + ttl >= %s ORDER BY worker",
}


def statements(own: Mapping[str, str], prefix: str) -> dict[str, str]:
    """All statements of a dialect: the common ones and its own, for tables with this prefix."""
    return {name: sql.replace("{p}", prefix) for name, sql in {**COMMON, **BOUND, **own}.items()}
