"""A worker of schema version 1, frozen: the statements of that release for enqueue, claim and settle, as they stood.

Every later version is held to them (`tests/faults/test_schema_versions.py`), for as long as it says (`oldest` in the
meta table) that workers of version 1 go on beside it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

SQLITE: Final = {
    "enqueue": [
        """INSERT INTO outwork_job
            (id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, expires_at, body)
            VALUES (:id, 'suite.task', 'default', 0, :now, :now, 3, 0, NULL, :body) ON CONFLICT DO NOTHING""",
        """INSERT INTO outwork_ready SELECT queue, at_most_once, -priority, due, id, seq, task, expires_at
            FROM outwork_job WHERE seq > last_insert_rowid() - 1 AND due <= :now""",
    ],
    "claim": [
        """INSERT INTO outwork_running SELECT id, seq, queue, task, :claim, 'worker-1', :lease, :now, 0
            FROM outwork_ready WHERE queue = 'default' AND solo = 0 ORDER BY rank, due, id LIMIT 1""",
        """DELETE FROM outwork_ready WHERE (queue, solo, rank, due, id) IN (
            SELECT queue, solo, rank, due, id FROM outwork_ready WHERE queue = 'default' AND solo = 0
            ORDER BY rank, due, id LIMIT 1)""",
    ],
    "claimed": "SELECT id FROM outwork_running WHERE claim_id = :claim",
    # Of a job that it finds in no place it thinks that it is ready.
    "delete": ["DELETE FROM outwork_ready WHERE id = :id", "DELETE FROM outwork_job WHERE id = :id"],
    "settle": [
        """INSERT INTO outwork_ended SELECT r.seq, 'SUCCESSFUL', r.queue, r.task, :now, :now + 86400, r.claim_id,
            r.worker, r.started_at, r.cancel_requested, '1' FROM outwork_running r WHERE r.claim_id = :claim""",
        "DELETE FROM outwork_running WHERE claim_id = :claim",
    ],
}

SERVER: Final = {
    "claim": [
        """INSERT INTO outwork_running (id, queue, task, claim_id, worker, lease_until, started_at)
            SELECT j.id, j.queue, j.task, %(claim)s, 'worker-1', %(lease)s, %(now)s FROM outwork_job j
            WHERE j.id = %(front)s""",
        """DELETE FROM outwork_ready WHERE queue = 'default' AND solo = false AND id = %(front)s""",
    ],
    "front": """SELECT id FROM outwork_ready WHERE queue = 'default' AND solo = false
        ORDER BY turn, due, id LIMIT 1 FOR UPDATE SKIP LOCKED""",
    "settle": [
        """INSERT INTO outwork_ended (id, state, queue, task, finished_at, prune_at, claim_id, worker, started_at,
            cancel_requested, result)
            SELECT id, 'SUCCESSFUL', queue, task, %(now)s, %(now)s + 86400, claim_id, worker, started_at,
            cancel_requested, %(result)s FROM outwork_running WHERE claim_id = %(claim)s""",
        "DELETE FROM outwork_running WHERE claim_id = %(claim)s",
    ],
}

POSTGRESQL: Final = {
    **SERVER,
    "enqueue": [
        """WITH new AS (
            INSERT INTO outwork_job
                (id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, expires_at, body)
            VALUES (%(id)s, 'suite.task', 'default', 0, %(now)s, %(now)s, 3, false, NULL, %(body)s)
            ON CONFLICT (id) DO NOTHING RETURNING id, task, queue, priority, due, at_most_once, expires_at)
        INSERT INTO outwork_ready (queue, solo, turn, due, id, task, expires_at)
        SELECT queue, at_most_once, -priority, due, id, task, expires_at FROM new""",
    ],
}

MYSQL: Final = {
    **SERVER,
    "enqueue": [
        """INSERT INTO outwork_job
            (id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, expires_at, body, token)
            VALUES (%(id)s, 'suite.task', 'default', 0, %(now)s, %(now)s, 3, false, NULL, %(body)s, %(claim)s)
            ON DUPLICATE KEY UPDATE id = outwork_job.id""",
        """INSERT INTO outwork_ready (queue, solo, turn, due, id, task, expires_at)
            SELECT queue, at_most_once, -priority, due, id, task, expires_at FROM outwork_job
            WHERE id = %(id)s AND token = %(claim)s AND due <= %(now)s""",
    ],
}


class Cursor(Protocol):
    def execute(self, sql: str, parameters: Mapping[str, Any], /) -> Any: ...
    def fetchone(self) -> Any: ...


class OldWorker:
    """A process of that release, on a connection that it opened before the tables were changed. Transactions are the
    caller's, who commits."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._claims = 0
        if isinstance(connection, sqlite3.Connection):
            self._sql: Mapping[str, Any] = SQLITE
        else:
            self._sql = POSTGRESQL if type(connection).__module__.startswith("psycopg") else MYSQL

    def _run(self, statements: Sequence[str], **parameters: object) -> None:
        now = time.time()
        with_now = {"now": now, "lease": now + 30, **parameters}
        cursor = self.connection.cursor()
        for sql in statements:
            cursor.execute(sql, with_now)
        cursor.close()

    def _one(self, sql: str, **parameters: object) -> str:
        cursor = self.connection.cursor()
        cursor.execute(sql, parameters)
        [found] = cursor.fetchone()
        cursor.close()
        return str(found)

    def enqueue(self, job_id: str, body: bytes) -> None:
        self._run(self._sql["enqueue"], id=job_id, body=body, claim=job_id.replace("-", "")[:32])

    def delete(self, job_id: str) -> None:
        """`outwork jobs delete`, on SQLite: on servers it took what it did not find for somebody else's move, and gave
        up."""
        self._run(self._sql["delete"], id=job_id)

    def claim(self) -> tuple[str, str]:
        """The next job of the queue `default`, which must be there: its id, and the claim id."""
        self._claims += 1
        claim = f"old-claim-{self._claims}"
        if "front" in self._sql:
            job_id = self._one(self._sql["front"])
            self._run(self._sql["claim"], claim=claim, front=job_id)
            return job_id, claim
        self._run(self._sql["claim"], claim=claim)
        return self._one(self._sql["claimed"], claim=claim), claim

    def settle(self, claim: str) -> None:
        self._run(self._sql["settle"], claim=claim, result=b"1")
