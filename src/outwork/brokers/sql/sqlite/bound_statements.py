"""The SQL of SQLite for jobs that are bound to others and for the books, by name."""

from __future__ import annotations

from typing import Final

COLUMNS: Final = (
    "id, queue, task, place, knot, solo, rank, due, expires_at, claim_id, worker, lease_until, started_at, "
    "cancel_requested"
)
_JOB: Final = "j.id, j.failures, j.crashes, j.misses, j.errors, j.body"


def _line(table: str, bound: int, solo: int, limit: str) -> str:
    place = "AND place = 'READY' " if bound else ""
    return f"""
        SELECT * FROM (SELECT rank, due, id, solo, {bound} AS bound FROM {{p}}{table}
            WHERE queue = ?1 {place}AND solo = {solo} AND (expires_at IS NULL OR expires_at > ?2)
            ORDER BY rank, due, id LIMIT {limit})"""


def _front(table: str, solo: int) -> str:
    place = "AND place = 'READY' " if table == "bound" else ""
    return f"""
        SELECT * FROM (SELECT due FROM {{p}}{table} WHERE queue = ?1 {place}AND solo = {solo} AND rank = ?2
            ORDER BY due LIMIT 1)"""


_FREE: Final = f"{_line('ready', 0, 0, '?3')} UNION ALL {_line('ready', 0, 1, '?4')}"

SQL: Final = {
    "heads": f"SELECT * FROM ({_FREE}) ORDER BY rank, due, id",
    "heads_of_all": f"""
        SELECT * FROM ({_FREE} UNION ALL {_line("bound", 1, 0, "?3")} UNION ALL {_line("bound", 1, 1, "?4")})
        ORDER BY rank, due, id""",
    "front_of_line": "SELECT min(due) FROM ("
    + " UNION ALL ".join(_front(table, solo) for table in ("ready", "bound") for solo in (0, 1))
    + ")",
    "insert_tied": """
        INSERT INTO {p}job (id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, expires_at, body,
                            ties) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING""",
    "place_gated": f"""
        INSERT INTO {{p}}bound ({COLUMNS})
        SELECT id, queue, task, ?, NULL, 1, -priority, due, expires_at, NULL, NULL, NULL, NULL, 0 FROM {{p}}job
        WHERE seq = last_insert_rowid() AND changes() = 1""",
    "rewrite": "UPDATE {p}job SET priority = ?, body = ? WHERE id = ?",
    "bind": f"INSERT INTO {{p}}bound ({COLUMNS}) VALUES ({', '.join('?' * 14)})",
    "bind_new": f"""
        INSERT INTO {{p}}bound ({COLUMNS})
        SELECT id, queue, task, ?, NULL, ?, -priority, due, expires_at, NULL, NULL, NULL, NULL, 0 FROM {{p}}job
        WHERE seq > last_insert_rowid() - ?""",
    "unbind": "DELETE FROM {p}bound WHERE id IN (SELECT value FROM json_each(?))",
    "bound_due": """
        SELECT json_group_array(id) FROM (
            SELECT id FROM {p}bound WHERE queue = ? AND place = 'SCHEDULED' AND due <= ? ORDER BY due LIMIT ?)""",
    "promote_bound": "UPDATE {p}bound SET place = 'READY' WHERE id IN (SELECT value FROM json_each(?))",
    "run_bound": """
        UPDATE {p}bound SET place = 'RUNNING', claim_id = ?2, worker = ?3, lease_until = ?4, started_at = ?5,
            cancel_requested = 0
        WHERE id IN (SELECT value FROM json_each(?1))""",
    "claimed_bound": f"""
        SELECT {_JOB} FROM {{p}}bound b CROSS JOIN {{p}}job j ON j.id = b.id
        WHERE b.lease_until IS NOT NULL AND b.claim_id = ? ORDER BY b.queue, b.rank, b.due, b.id""",
    "bodies": f"SELECT {_JOB} FROM json_each(?) v CROSS JOIN {{p}}job j ON j.id = v.value",
    "running_bound": """
        SELECT b.id, b.task, b.queue, j.ties
        FROM json_each(?1) v CROSS JOIN {p}bound b ON b.id = v.value CROSS JOIN {p}job j ON j.id = b.id
        WHERE b.claim_id = ?2 AND b.lease_until IS NOT NULL""",
    "succeed_bound": """
        INSERT INTO {p}ended
        SELECT j.seq, 'SUCCESSFUL', b.queue, b.task, ?1, ?2, b.claim_id, b.worker, b.started_at, b.cancel_requested,
               v.value
        FROM json_each(?3) v CROSS JOIN {p}bound b ON b.id = v.key CROSS JOIN {p}job j ON j.id = b.id
        WHERE b.claim_id = ?4""",
    "unbind_keys": "DELETE FROM {p}bound WHERE id IN (SELECT key FROM json_each(?1)) AND claim_id = ?2",
    "extend_bound": """
        UPDATE {p}bound SET lease_until = ?1 WHERE lease_until IS NOT NULL AND id IN (
            SELECT b.id FROM json_each(?2) v CROSS JOIN {p}bound b ON b.id = v.key WHERE b.claim_id = v.value)""",
    "holding_bound": """
        SELECT json_group_array(b.id) FROM json_each(?) v CROSS JOIN {p}bound b ON b.id = v.key
        WHERE b.claim_id = v.value AND b.lease_until IS NOT NULL""",
    # Without those that the release before has deleted.
    "held": """
        SELECT json_group_array(id) FROM (
            SELECT b.id FROM {p}bound b WHERE b.knot = ? AND EXISTS (SELECT 1 FROM {p}job j WHERE j.id = b.id)
            ORDER BY b.rank, b.due, b.id LIMIT ?)""",
    "unbind_deleted": """
        DELETE FROM {p}bound WHERE id IN (SELECT value FROM json_each(?1))
            AND NOT EXISTS (SELECT 1 FROM {p}job j WHERE j.id = {p}bound.id)""",
    "stopping": """
        SELECT id FROM {p}running WHERE cancel_requested AND worker = ?1
        UNION ALL SELECT id FROM {p}bound WHERE lease_until IS NOT NULL AND cancel_requested AND worker = ?1""",
    "report": """
        UPDATE {p}job SET progress = ?1 WHERE id = ?2 AND (
            EXISTS (SELECT 1 FROM {p}running WHERE id = ?2 AND claim_id = ?3)
            OR EXISTS (SELECT 1 FROM {p}bound WHERE id = ?2 AND claim_id = ?3 AND lease_until IS NOT NULL))""",
    "progress": """
        SELECT j.id, j.progress FROM json_each(?) v CROSS JOIN {p}job j ON j.id = v.value
        WHERE j.progress IS NOT NULL""",
    "present": "SELECT j.id FROM json_each(?) v CROSS JOIN {p}job j ON j.id = v.value",
    "cells": "SELECT name, value FROM {p}cell WHERE name IN (SELECT value FROM json_each(?))",
    "named": "SELECT name, value FROM {p}cell WHERE name >= ? AND name < ?",
    "set_cell": """
        INSERT INTO {p}cell VALUES (?, ?, ?, ?)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value, at = excluded.at, until = excluded.until""",
    "unset_cells": "DELETE FROM {p}cell WHERE name IN (SELECT value FROM json_each(?))",
    "due_cells": "SELECT name FROM {p}cell WHERE at <= ? ORDER BY at LIMIT ?",
    "forget_cells": """
        DELETE FROM {p}cell WHERE name IN (SELECT name FROM {p}cell WHERE until <= ? ORDER BY until LIMIT ?)""",
    "bound_among": """
        SELECT id FROM {p}bound WHERE place = 'READY' AND id IN (SELECT value FROM json_each(?))""",
}
