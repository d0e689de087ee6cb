"""The MySQL and MariaDB broker: a durable queue in the database that the application has already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

from msgspec.structs import replace

from outwork.brokers.base import Capabilities
from outwork.brokers.sql.names import PREFIX, identifier
from outwork.brokers.sql.outbox import SQLStore
from outwork.brokers.url import BrokerURL, boolean, seconds
from outwork.errors import InvalidURL, MissingDriver
from outwork.job import Terms

try:
    from outwork.brokers.sql.mysql.server import MySQLServer
except ImportError as error:
    raise MissingDriver(f"mysql:// needs PyMySQL ({error}):  pip install 'outwork[mysql]'") from error

FILES: Final = ("unix_socket", "ssl_ca", "ssl_cert", "ssl_key")


class MySQLBroker(SQLStore):
    """`mysql://user:password@host:3306/database` (or `mariadb://`); `?unix_socket=` for a local socket.

    Options: `lease`, `keep`, `keep_failed` (seconds), `table_prefix`, `migrate` (false: `outwork migrate` alone makes
    the tables), `listen` (false: poll, nobody is woken by KILL QUERY), `embedded`, `connect_timeout`, `ssl_ca`,
    `ssl_cert`, `ssl_key`, `ssl_verify_identity`.
    """

    capabilities = Capabilities(transactional=True)

    def __init__(
        self,
        address: Mapping[str, Any],
        terms: Terms | None = None,
        *,
        url: str = "mysql://",
        table_prefix: str = PREFIX,
        migrate: bool = True,
        listen: bool = True,
        embedded: bool = False,
    ) -> None:
        self.runs_in = "embedded" if embedded else "elsewhere"
        if not listen:
            self.capabilities = replace(type(self).capabilities, push=False)
        server = MySQLServer(
            url, address, prefix=table_prefix, migrate=migrate, listen=listen, offset=lambda: self.clock_offset
        )
        super().__init__(server, url, terms or Terms())
        self._server = server

    @classmethod
    def from_url(cls, url: str, terms: Terms | None = None) -> Self:
        parts = BrokerURL(url)
        chosen = parts.terms(terms or Terms())
        prefix = parts.option("table_prefix", identifier, PREFIX)
        migrate = parts.option("migrate", boolean, True)
        listen = parts.option("listen", boolean, True)
        embedded = parts.option("embedded", boolean, False)
        given: dict[str, Any] = address(parts)
        given["connect_timeout"] = parts.option("connect_timeout", seconds, 5.0)
        for name in FILES:
            if value := parts.option(name, str, ""):
                given[name] = value
        if parts.option("ssl_verify_identity", boolean, False):
            given["ssl_verify_identity"] = True
        parts.done()
        return cls(
            given, chosen, url=parts.shown, table_prefix=prefix, migrate=migrate, listen=listen, embedded=embedded
        )

    def now(self) -> float:
        return self._server.clock()


def address(parts: BrokerURL) -> dict[str, Any]:
    """Where the server is and who we are, in PyMySQL's words."""
    if len(parts.hosts) > 1:
        raise InvalidURL(f"{parts.shown} names several hosts; PyMySQL connects to one. Put a proxy before them")
    bracket, _, rest = (parts.hosts[0] if parts.hosts else "localhost").rpartition("]")
    name, colon, port = rest.rpartition(":")
    if not colon:
        name, port = rest, ""
    if port and not port.isdigit():
        raise InvalidURL(f"{parts.shown}: {port!r} is not a port number")
    database = parts.path.removeprefix("/")
    if not database or "/" in database:
        raise InvalidURL(f"{parts.shown} names no database. Write mysql://user:password@host/database")
    return {
        "host": bracket.removeprefix("[") if bracket else name,
        "port": int(port or 3306),
        "user": parts.username,
        "password": parts.password or "",
        "database": database,
    }
