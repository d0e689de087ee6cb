"""PyMySQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import pymysql  # type: ignore[import-untyped]

from benchmarks.direct import BULK
from benchmarks.drivers.base import Driver
from outwork.brokers.base import Broker

COLUMNS: Final = "id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, expires_at, body, token"
INSERT: Final = f"INSERT INTO outwork_job ({COLUMNS}) VALUES ({', '.join(['%s'] * 11)})"
COPIES: Final = f"""INSERT INTO outwork_job ({COLUMNS})
    SELECT concat(%s, lpad(seq, 8, '0')), 'bench.add', 'bench', 0, 1.7e9 + seq, 1.7e9, 3, false, NULL,
           concat('{{"v":1,"id":"', %s, lpad(seq, 8, '0'),
           '","task":"bench.add","args":{{"x":1,"y":"hello"}},"queue":"bench"}}'), 't'
    FROM seq_1_to_"""


class MySQL(Driver):
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection: Any = pymysql.connect(
            host=parts.hostname or "localhost",
            port=parts.port or 3306,
            user=parts.username,
            password=parts.password or "",
            database=parts.path.lstrip("/"),
            autocommit=True,
        )
        self._cursor = self._connection.cursor()

    def rows(self, jobs: Sequence[Any]) -> list[Any]:
        return [(*row, "t" * 32) for row in super().rows(jobs)]

    def many(self, rows: Sequence[Any]) -> None:
        for at in range(0, len(rows), BULK):
            self._cursor.executemany(INSERT, rows[at : at + BULK])

    def one_by_one(self, rows: Sequence[Any]) -> None:
        for row in rows:
            self._cursor.execute(INSERT, row)

    def empty(self) -> None:
        for table in ("job", "ready", "scheduled", "running", "ended"):
            self._cursor.execute(f"TRUNCATE outwork_{table}")

    def crowd(self, broker: Broker, count: int) -> dict[str, float]:
        for prefix in ("019a0000-", "019b0000-"):
            self._cursor.execute(COPIES + str(count), [prefix, prefix])
        self._cursor.execute(
            "INSERT INTO outwork_ended SELECT id, 'SUCCESSFUL', queue, task, due, 4e9, md5(id), 'bench-1', due,"
            " false, '3' FROM outwork_job WHERE id LIKE '019a0000-%'"
        )
        self._cursor.execute(
            "INSERT INTO outwork_ready SELECT queue, false, 0, due, id, task, NULL FROM outwork_job"
            " WHERE id LIKE '019b0000-%'"
        )
        return {}

    def close(self) -> None:
        self._connection.close()
