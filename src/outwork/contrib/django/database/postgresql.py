"""PostgreSQL: by psycopg 3 (or 2) on Django's side, always by psycopg 3 on the worker's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from django.db import connections

from outwork.brokers.sql.broker import SQLBroker
from outwork.brokers.sql.dialect import Statement, Transaction
from outwork.brokers.sql.names import PREFIX
from outwork.brokers.sql.server.moves import ServerTransaction
from outwork.brokers.sql.server.statements import statements
from outwork.contrib.django.database.joined import JoinedBroker
from outwork.contrib.django.database.servers import JoinedServer, queues_told
from outwork.errors import MissingDriver
from outwork.job import Job, Terms

try:
    from outwork.brokers.sql.postgresql import PostgreSQLBroker
    from outwork.brokers.sql.postgresql.bell import ENDED, READY, ring_of
    from outwork.brokers.sql.postgresql.session import PostgreSQLTransaction
    from outwork.brokers.sql.postgresql.statements import NOW, SQL, insertion
except ImportError as error:
    raise MissingDriver(f"the worker needs psycopg 3 ({error}):  pip install 'outwork[postgres]'") from error


DJANGOS = frozenset(
    {
        "assume_role",
        "autocommit",
        "context",
        "cursor_factory",
        "isolation_level",
        "pool",
        "prepare_threshold",
        "row_factory",
        "server_side_binding",
    }
)
"""Options of Django's and of the driver's; the others are libpq's."""


class DjangoTransaction(PostgreSQLTransaction):
    """Plain lists as parameters, because Django's connection does not know our adapters."""

    def _many(self, name: str, rows: Sequence[Sequence[object]]) -> None:
        self._session.many(self._sql[name], rows)

    def _among(self, values: Collection[str]) -> tuple[str, list[object]]:
        return "= ANY (%s::text[])", [list(values)]

    def _lines(self, queues: Collection[str]) -> tuple[str, list[object]]:
        return "(SELECT unnest(%s::text[]) AS queue)", [list(queues)]

    def succeed_bound(self, claim_id: str, results: Mapping[str, bytes], prune_at: float) -> None:
        values = [list(results), list(results.values()), claim_id, float(self.now.wall), float(prune_at)]
        self._expect(len(results), self._run(self._sql["succeed_bound"], values))
        self.ends = True


class JoinedPostgreSQL(JoinedServer):
    """Through Django's connection; a NOTIFY in the transaction wakes the workers when it is committed."""

    dialect: ClassVar[str] = "postgresql"
    again = frozenset({"40001", "40P01", "55P03", "23505"})
    missing = frozenset({"42P01"})
    clock = NOW

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._sql = statements(SQL, PREFIX)

    def _transaction(self) -> Transaction:
        session: Any = self.session
        return DjangoTransaction(session, self._sql, self.moment())

    def insertion(self, jobs: Sequence[tuple[Job, bytes]]) -> list[Statement]:
        return insertion(jobs, ring_of(self.identity(), READY).channel, PREFIX, 0.0, None)

    def announce(self, tx: ServerTransaction) -> None:
        identity = self.identity()
        rings = [(ring_of(identity, READY).channel, said) for said in queues_told(tx)]
        if tx.ends:
            rings.append((ring_of(identity, ENDED).channel, ""))
        for channel, said in rings:
            self.session.rows("SELECT pg_notify(%s, %s)", [channel, said])

    def code(self, error: BaseException | None) -> object:
        return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)


def join(alias: str, terms: Terms) -> JoinedBroker:
    return JoinedBroker(JoinedPostgreSQL(alias), terms)


def open_own(alias: str, terms: Terms) -> SQLBroker | None:
    """As Django connects; behind a pooler in transaction mode (`DISABLE_SERVER_SIDE_CURSORS`) without what belongs to a
    session."""
    wrapper: Any = connections[alias]
    place = wrapper.settings_dict
    given = {name: str(value) for name, value in place.get("OPTIONS", {}).items() if name not in DJANGOS}
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    given |= {keyword: str(place[name]) for keyword, name in names.items() if place.get(name)}
    pooled = bool(place.get("DISABLE_SERVER_SIDE_CURSORS"))
    return PostgreSQLBroker(
        given,
        terms,
        url=f"postgresql://{place.get('HOST') or ''}/{place.get('NAME') or ''}",
        table_prefix=PREFIX,
        migrate=False,
        listen=not pooled,
        prepare=not pooled,
    )
