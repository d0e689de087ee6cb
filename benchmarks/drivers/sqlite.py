"""The sqlite3 module of Python."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.direct import BULK, enqueue, jobs
from benchmarks.drivers.base import Driver
from outwork.brokers.base import Broker
from outwork.codec import encode_job
from outwork.job import Job

COLUMNS = "id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, expires_at, body"
INSERT = f"INSERT INTO outwork_job ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
COPY = """
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
    INSERT INTO outwork_job (id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, body)
    SELECT ? || printf('%08d', n.i), task, queue, priority, due, enqueued_at, max_crashes, at_most_once, body
    FROM n CROSS JOIN (SELECT * FROM outwork_job LIMIT 1)"""


class SQLite(Driver):
    def __init__(self, url: str) -> None:
        self._file = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        self._file.execute("PRAGMA synchronous = FULL")

    def rows(self, jobs: Sequence[Job]) -> list[Any]:
        now = time.time()
        return [(job.id, job.task, job.queue, 0, now, now, 3, 0, None, encode_job(job).decode()) for job in jobs]

    def many(self, rows: Sequence[Any], together: int = BULK) -> None:
        for at in range(0, len(rows), together):
            self._file.execute("BEGIN IMMEDIATE")
            self._file.executemany(INSERT, rows[at : at + together])
            self._file.execute("COMMIT")

    def one_by_one(self, rows: Sequence[Any]) -> None:
        self.many(rows, 1)

    def empty(self) -> None:
        for table in ("job", "ready", "scheduled", "running", "ended"):
            self._file.execute(f"DELETE FROM outwork_{table}")
        self._file.execute("VACUUM")
        self._file.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def crowd(self, broker: Broker, count: int) -> dict[str, float]:
        enqueue(broker, jobs(1))
        self._file.execute("BEGIN IMMEDIATE")
        self._file.execute(COPY, [count, "019a0000-"])
        self._file.execute(COPY, [count, "019b0000-"])
        self._file.execute("""
            INSERT INTO outwork_ended
                (seq, state, queue, task, finished_at, prune_at, claim_id, worker, started_at, result)
            SELECT seq, 'SUCCESSFUL', queue, task, due, due + 86400, hex(randomblob(16)), 'bench-1', due, '3'
            FROM outwork_job WHERE id LIKE '019a0000-%'""")
        self._file.execute("""
            INSERT INTO outwork_ready SELECT queue, 0, 0, due, id, seq, task, NULL
            FROM outwork_job WHERE id LIKE '019b0000-%'""")
        self._file.execute("COMMIT")
        self._file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return {}

    def close(self) -> None:
        self._file.close()
