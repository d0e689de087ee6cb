"""PostgreSQL as one process sees it."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Mapping
from typing import Final, Self

import psycopg

from outwork.brokers.sql.connections import keep_for_ever
from outwork.brokers.sql.names import PREFIX, identifier
from outwork.brokers.sql.postgresql import DEFAULTS, connection_options
from outwork.brokers.sql.postgresql.session import OLDEST, explained
from outwork.brokers.url import BrokerURL, boolean
from outwork.contrib.channels.linked import Spares, opened
from outwork.contrib.channels.pipes import Listener
from outwork.contrib.channels.postgresql.session import PostgreSQLSession
from outwork.contrib.channels.postgresql.statements import STATEMENTS, TABLES
from outwork.contrib.channels.postgresql.stream import Opened
from outwork.errors import BrokerRefused
from outwork.job import Terms

SETTINGS: Final = {
    "client_min_messages": "warning",
    "statement_timeout": "15s",
    "lock_timeout": "5s",
    "synchronous_commit": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_sort": "off",
}
"""A message is at most once anyhow, so no commit waits for the disk. Planning takes longer than executing, and a plan
that was made while a table was empty is kept when it is not."""
LOCK: Final = 0x6F75_7477
"""Of those who make the tables: two at once would make one of them fail."""
IGNORED: Final = ("embedded", "prepare", "listen", "concurrency", "threads", "children")


class PostgreSQLStore:
    """The connections of one process to one database."""

    def __init__(self, url: str, conninfo: Mapping[str, str], prefix: str, tables: str, *, migrate: bool) -> None:
        self.url = url
        self.prefix = f"{prefix}/"
        self.statements = {name: sql.replace("{p}", tables).encode() for name, sql in STATEMENTS.items()}
        self._tables = TABLES.replace("{p}", tables)
        self._probe = f"SELECT to_regclass('{tables}channel_reader') IS NOT NULL"
        self._conninfo = dict(conninfo)
        self._migrate = migrate
        self._made = False
        self.spares: Spares[Opened] = Spares(_disown)

    @classmethod
    def from_url(cls, url: str, prefix: str) -> Self:
        """The options of the PostgreSQL broker's URL, of which `schema`, `table_prefix`, `migrate` and libpq's own are
        heeded. Raises InvalidURL."""
        parts = BrokerURL(url)
        conninfo = {**DEFAULTS, **connection_options(parts)}
        parts.terms(Terms())
        tables = parts.option("table_prefix", identifier, PREFIX)
        schema = parts.option("schema", identifier, "")
        migrate = parts.option("migrate", boolean, True)
        for name in IGNORED:
            parts.option(name, str, "")
        parts.done()
        settings = dict(SETTINGS)
        if schema:
            settings["search_path"] = schema
        ours = " ".join(f"-c {name}={value}" for name, value in settings.items())
        conninfo["options"] = f"{ours} {conninfo.get('options', '')}".strip()
        return cls(parts.shown, conninfo, prefix, tables, migrate=migrate)

    def open(self, loop: AbstractEventLoop, listener: Listener) -> PostgreSQLSession:
        return PostgreSQLSession(self, loop, listener)

    def close(self) -> None:
        self.spares.close()

    async def connect(self) -> Opened:
        """A new connection, to a database that has our tables. Raises BrokerUnavailable, BrokerRefused, SchemaError."""
        try:
            return await opened(self._connect)
        except psycopg.Error as error:
            raise explained(error, self.url) from error

    def _connect(self) -> Opened:
        connection = psycopg.connect(autocommit=True, prepare_threshold=None, **self._conninfo)  # type: ignore[arg-type]  # pyright: ignore
        try:
            if connection.info.server_version < OLDEST:
                raise BrokerRefused(f"{self.url}: PostgreSQL 13 or newer is needed")
            if not self._made:
                [there] = connection.execute(self._probe).fetchone() or (False,)  # pyright: ignore
                if not there and self._migrate:
                    with connection.transaction():
                        connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
                        connection.execute(self._tables)  # pyright: ignore
                self._made = True
        except BaseException:
            connection.close()
            raise
        return Opened(connection, set())


def _disown(opened_: Opened) -> None:
    """What a parent has opened is left alone in its child: closing it would tell the server."""
    keep_for_ever(opened_.connection)
