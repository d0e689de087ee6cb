"""SQLite keeps every promise, on a file in a directory of the test's own."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from outwork.brokers.base import Broker
from outwork.brokers.sql.sqlite import SQLiteBroker
from outwork.job import Terms
from outwork.testing.conformance import BrokerConformance, MakeBroker, OutboxConformance


class TestSQLite(BrokerConformance, OutboxConformance):
    @pytest.fixture
    def make_broker(self, tmp_path: Path) -> MakeBroker:
        self.path = tmp_path / "tasks.db"

        def make(terms: Terms | None = None) -> SQLiteBroker:
            return SQLiteBroker.from_url(f"sqlite:///{self.path}", terms)

        return make

    def plant_garbage(self, broker: Broker, job_id: str, body: bytes) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("UPDATE outwork_job SET body = ? WHERE id = ?", (body, job_id))
