"""MySQL and MariaDB: on Django's side by whatever driver it has, on the worker's by PyMySQL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

from django.db import OperationalError, connections, transaction

from outwork.brokers.sql.broker import SQLBroker
from outwork.brokers.sql.dialect import Statement, Transaction
from outwork.brokers.sql.names import PREFIX
from outwork.brokers.sql.server.moves import ServerTransaction
from outwork.brokers.sql.server.statements import statements
from outwork.contrib.django.database.joined import JoinedBroker
from outwork.contrib.django.database.servers import JoinedServer
from outwork.errors import MissingDriver
from outwork.ids import new_claim_id
from outwork.job import Job, Terms

try:
    from outwork.brokers.sql.mysql import FILES, MySQLBroker
    from outwork.brokers.sql.mysql.session import MySQLTransaction
    from outwork.brokers.sql.mysql.statements import NOW, SQL, insertion, lock_of
except ImportError as error:
    raise MissingDriver(f"the worker needs PyMySQL ({error}):  pip install 'outwork[mysql]'") from error


class JoinedMySQL(JoinedServer):
    """Through Django's connection; after the commit a sleeping worker is woken."""

    dialect: ClassVar[str] = "mysql"
    again = frozenset({1205, 1213, 1062})
    missing = frozenset({1146})
    clock = NOW

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._sql = statements(SQL, PREFIX)

    def _transaction(self) -> Transaction:
        session: Any = self.session
        return MySQLTransaction(session, self._sql, self.moment())

    def insertion(self, jobs: Sequence[tuple[Job, bytes]]) -> list[Statement]:
        return insertion(self._sql, PREFIX, jobs, new_claim_id(), 0.0)

    def ring_for(self, jobs: Sequence[tuple[Job, bytes]]) -> None:
        transaction.on_commit(self._wake, using=self.alias)

    def announce(self, tx: ServerTransaction) -> None:
        if tx.ready or tx.scheduled:
            transaction.on_commit(self._wake, using=self.alias)

    def _wake(self) -> None:
        """End the sleep of a worker; if that fails it looks by itself within a second."""
        with suppress(OperationalError):
            [(sleeper,)] = self.session.rows("SELECT IS_USED_LOCK(%s)", [lock_of(self.identity())])
            if sleeper is not None:
                self.session.run(f"KILL QUERY {int(sleeper)}")

    def code(self, error: BaseException | None) -> object:
        return error.args[0] if error is not None and error.args else None


def join(alias: str, terms: Terms) -> JoinedBroker:
    return JoinedBroker(JoinedMySQL(alias), terms)


def open_own(alias: str, terms: Terms) -> SQLBroker | None:
    """As Django connects, as far as the other driver has words for it."""
    wrapper: Any = connections[alias]
    place = wrapper.settings_dict
    options = place.get("OPTIONS", {})
    address: dict[str, Any] = {
        "host": place.get("HOST") or "localhost",
        "port": int(place.get("PORT") or 3306),
        "user": place.get("USER") or None,
        "password": place.get("PASSWORD") or "",
        "database": place["NAME"],
        "connect_timeout": options.get("connect_timeout", 5),
    }
    if str(address["host"]).startswith("/"):
        address["unix_socket"] = address.pop("host")
    if "unix_socket" in options:
        address["unix_socket"] = options["unix_socket"]
    secure = options.get("ssl") or {}
    address |= {name: secure[name[4:]] for name in FILES if name.startswith("ssl_") and name[4:] in secure}
    if "read_default_file" in options:
        address["read_default_file"] = options["read_default_file"]
    return MySQLBroker(address, terms, url=f"mysql://{place.get('HOST') or ''}/{place['NAME']}", migrate=False)
