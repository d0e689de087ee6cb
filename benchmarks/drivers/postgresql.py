"""psycopg 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg

from benchmarks.direct import BULK
from benchmarks.drivers.base import Driver
from outwork.brokers.base import Broker

COLUMNS: Final = "id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, expires_at, body"
INSERT: Final = f"INSERT INTO outwork_job ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
COPIES: Final = f"""INSERT INTO outwork_job ({COLUMNS})
    SELECT %s || lpad(n::text, 8, '0'), 'bench.add', 'bench', 0, 1.7e9 + n, 1.7e9, 3, false, NULL,
           convert_to('{{"v":1,"id":"' || %s || lpad(n::text, 8, '0') ||
           '","task":"bench.add","args":{{"x":1,"y":"hello"}},"queue":"bench"}}', 'UTF8')
    FROM generate_series(1, %s) n"""


class PostgreSQL(Driver):
    def __init__(self, url: str) -> None:
        self._connection: Any = psycopg.connect(url, autocommit=True, prepare_threshold=0)

    def many(self, rows: Sequence[Any]) -> None:
        with self._connection.cursor() as cursor:
            for at in range(0, len(rows), BULK):
                with cursor.copy(f"COPY outwork_job ({COLUMNS}) FROM STDIN") as copy:
                    for row in rows[at : at + BULK]:
                        copy.write_row(row)

    def one_by_one(self, rows: Sequence[Any]) -> None:
        with self._connection.cursor() as cursor:
            for row in rows:
                cursor.execute(INSERT, row)

    def empty(self) -> None:
        tables = ", ".join(f"outwork_{name}" for name in ("job", "ready", "scheduled", "running", "ended"))
        self._connection.execute(f"TRUNCATE {tables}")

    def crowd(self, broker: Broker, count: int) -> dict[str, float]:
        for prefix in ("019a0000-", "019b0000-"):
            self._connection.execute(COPIES, [prefix, prefix, count])
        self._connection.execute(
            "INSERT INTO outwork_ended SELECT id, 'SUCCESSFUL', queue, task, due, 4e9, md5(id), 'bench-1', due,"
            " false, '3' FROM outwork_job WHERE id LIKE '019a0000-%'"
        )
        self._connection.execute(
            "INSERT INTO outwork_ready SELECT queue, false, 0, due, id, task FROM outwork_job"
            " WHERE id LIKE '019b0000-%'"
        )
        return {}

    def close(self) -> None:
        self._connection.close()
