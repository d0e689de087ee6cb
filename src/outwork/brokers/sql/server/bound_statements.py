"""The SQL that PostgreSQL and MySQL have in common for jobs that are bound to others and for the books, by name."""

from __future__ import annotations

from typing import Final

_JOB: Final = "j.id, j.failures, j.crashes, j.misses, j.errors, j.body"


def _front(table: str, solo: str) -> str:
    place = "AND place = 'READY' " if table == "bound" else ""
    return f"""
        (SELECT due FROM {{p}}{table} WHERE queue = %s {place}AND solo = {solo} AND turn = %s ORDER BY due LIMIT 1)"""


SQL: Final = {
    "insert": """
        INSERT INTO {p}job (id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, expires_at, body,
            ties) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
    "front_of_line": "SELECT min(due) FROM ("
    + " UNION ALL ".join(_front(table, solo) for table in ("ready", "bound") for solo in ("false", "true"))
    + ") f",
    "rewrite": "UPDATE {p}job SET priority = %s, body = %s WHERE id = %s",
    "bind": """
        INSERT INTO {p}bound (id, queue, task, place, knot, solo, turn, due, expires_at, claim_id, worker, lease_until,
            started_at, cancel_requested) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
    "bind_new": """
        INSERT INTO {p}bound (id, queue, task, place, solo, turn, due, expires_at)
        SELECT j.id, j.queue, j.task, %s, %s, -j.priority, j.due, j.expires_at FROM {p}job j WHERE j.id {ids}""",
    "bound_now": "SELECT id, place, claim_id, knot FROM {p}bound WHERE id {ids} ORDER BY id FOR UPDATE",
    "unbind": "DELETE FROM {p}bound WHERE id {ids}",
    "bound_heads": """
        SELECT turn, due, id FROM {p}bound
        WHERE queue = %s AND place = 'READY' AND solo = %s AND (expires_at IS NULL OR expires_at > %s)
        ORDER BY turn, due, id LIMIT %s FOR UPDATE SKIP LOCKED""",
    "bound_due": """
        SELECT id FROM {p}bound WHERE queue = %s AND place = 'SCHEDULED' AND due <= %s
        ORDER BY due LIMIT %s FOR UPDATE SKIP LOCKED""",
    "promote_bound": "UPDATE {p}bound SET place = 'READY' WHERE id {ids}",
    "run_bound": """
        UPDATE {p}bound SET place = 'RUNNING', claim_id = %s, worker = %s, lease_until = %s, started_at = %s,
            cancel_requested = false
        WHERE id {ids} AND place IN ('READY', 'SCHEDULED')""",
    "claimed_bound": f"""
        SELECT {_JOB} FROM {{p}}bound b JOIN {{p}}job j ON j.id = b.id
        WHERE b.lease_until IS NOT NULL AND b.claim_id = %s ORDER BY b.queue, b.turn, b.due, b.id""",
    "running_bound": """
        SELECT b.id, b.task, b.queue, j.ties FROM {p}bound b JOIN {p}job j ON j.id = b.id
        WHERE b.claim_id = %s AND b.lease_until IS NOT NULL AND b.id {ids}""",
    "bound_ends": """
        SELECT id, queue, task, claim_id, worker, started_at, cancel_requested
        FROM {p}bound WHERE claim_id = %s AND lease_until IS NOT NULL AND id {ids} ORDER BY id FOR UPDATE""",
    "unbind_of": "DELETE FROM {p}bound WHERE claim_id = %s AND id {ids}",
    "holding_bound": """
        SELECT id, claim_id FROM {p}bound WHERE lease_until IS NOT NULL AND id {ids} ORDER BY id FOR UPDATE""",
    "extend_bound": "UPDATE {p}bound SET lease_until = %s WHERE id {ids}",
    # One that somebody cancels at this moment is passed over.
    "held": "SELECT id FROM {p}bound WHERE knot = %s ORDER BY turn, due, id LIMIT %s FOR UPDATE SKIP LOCKED",
    "lost_bound": """
        SELECT id FROM {p}bound WHERE lease_until <= %s LIMIT %s FOR UPDATE SKIP LOCKED""",
    "lost_bound_of": """
        SELECT id FROM {p}bound WHERE lease_until IS NOT NULL AND worker {ids} LIMIT %s FOR UPDATE SKIP LOCKED""",
    "expired_bound": """
        SELECT id FROM {p}bound WHERE expires_at <= %s AND place = 'READY'
        ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED""",
    "stopping": """
        SELECT id FROM {p}running WHERE cancel_requested AND worker = %s
        UNION ALL SELECT id FROM {p}bound WHERE lease_until IS NOT NULL AND cancel_requested AND worker = %s""",
    "report": """
        UPDATE {p}job SET progress = %s WHERE id = %s AND (
            EXISTS (SELECT 1 FROM {p}running WHERE id = %s AND claim_id = %s)
            OR EXISTS (SELECT 1 FROM {p}bound WHERE id = %s AND claim_id = %s AND lease_until IS NOT NULL))""",
    "progress": "SELECT j.id, j.progress FROM {p}job j WHERE j.progress IS NOT NULL AND j.id {ids}",
    "present": "SELECT j.id FROM {p}job j WHERE j.id {ids}",
    "cells": "SELECT name, value FROM {p}cell WHERE name {ids} ORDER BY name FOR UPDATE",
    "named": "SELECT name, value FROM {p}cell WHERE name >= %s AND name < %s",
    "new_cell": "INSERT INTO {p}cell (name, value, at, until) VALUES (%s, %s, %s, %s)",
    "set_cell": "UPDATE {p}cell SET value = %s, at = %s, until = %s WHERE name = %s",
    "unset_cells": "DELETE FROM {p}cell WHERE name {ids}",
    "due_cells": "SELECT name FROM {p}cell WHERE at <= %s ORDER BY at LIMIT %s",
    "spent_cells": "SELECT name FROM {p}cell WHERE until <= %s ORDER BY until LIMIT %s FOR UPDATE SKIP LOCKED",
}
