"""SQLite: a file that belongs to the application."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

from django.db import OperationalError, connections

from outwork.brokers.sql.broker import SQLBroker
from outwork.brokers.sql.connections import Role
from outwork.brokers.sql.dialect import Transaction
from outwork.brokers.sql.names import PREFIX
from outwork.brokers.sql.sqlite import SQLiteBroker
from outwork.brokers.sql.sqlite.moves import SQLiteTransaction
from outwork.brokers.sql.sqlite.statements import statements
from outwork.contrib.django.database.joined import JoinedBroker, JoinedDatabase
from outwork.job import Job, Terms, admit

BUSY_TIMEOUT = 10.0


class JoinedSQLite(JoinedDatabase):
    """Through Django's connection."""

    dialect: ClassVar[str] = "sqlite"

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._sql = statements(PREFIX)

    def _transaction(self) -> Transaction:
        return SQLiteTransaction(self.connection.connection, self._sql, self.moment())

    def accept(self, jobs: Sequence[tuple[Job, bytes]]) -> None:
        def insert(tx: Transaction) -> None:
            assert isinstance(tx, SQLiteTransaction)
            tx.insert_free([admit(job, body, tx.now) for job, body in jobs])

        self.write(Role.ACCEPT, insert)

    def is_busy(self, error: Exception) -> bool:
        return "locked" in str(error)

    def lacks_table(self, error: Exception) -> bool:
        return isinstance(error, OperationalError) and f"no such table: {PREFIX}" in str(error)


def join(alias: str, terms: Terms) -> JoinedBroker:
    return JoinedBroker(JoinedSQLite(alias), terms)


def open_own(alias: str, terms: Terms) -> SQLBroker | None:
    """None for a database in memory, which nobody else can open."""
    path = file_of(alias)
    if path is None:
        return None
    return SQLiteBroker(path, terms, busy_timeout=BUSY_TIMEOUT, table_prefix=PREFIX, guest=True)


def file_of(alias: str) -> str | None:
    wrapper: Any = connections[alias]
    if wrapper.is_in_memory_db():
        return None
    name = os.fspath(wrapper.settings_dict["NAME"])
    if str(name).startswith("file:"):
        from urllib.parse import unquote, urlsplit

        name = unquote(urlsplit(str(name)).path)
    return os.path.abspath(str(name))
