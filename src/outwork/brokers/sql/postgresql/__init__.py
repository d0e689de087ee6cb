"""The PostgreSQL broker: a durable queue in the database that the application has already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Self

from msgspec.structs import replace

from outwork.brokers.base import Capabilities
from outwork.brokers.sql.names import PREFIX, identifier
from outwork.brokers.sql.outbox import SQLStore
from outwork.brokers.url import BrokerURL, boolean
from outwork.errors import InvalidURL, MissingDriver
from outwork.job import Terms

try:
    from psycopg import pq

    from outwork.brokers.sql.postgresql.server import PostgreSQLServer
except ImportError as error:
    raise MissingDriver(f"postgresql:// needs psycopg ({error}):  pip install 'outwork[postgres]'") from error

DEFAULTS: Final = {
    "application_name": "outwork",
    "connect_timeout": "5",
    "keepalives_idle": "20",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
OURS: Final = frozenset({"host", "port", "user", "password", "dbname"})
"""What the URL says outside of its query; libpq's `host` may stand there, too."""


class PostgreSQLBroker(SQLStore):
    """`postgresql://user:password@host:5432/database`; several hosts with commas; `postgresql:///database` by the
    local socket (`?host=/var/run/postgresql` names its directory).

    Options: `lease`, `keep`, `keep_failed` (seconds), `table_prefix`, `schema` (where the tables are, instead of the
    role's search_path), `migrate` (false: `outwork migrate` alone makes the tables), `listen` (false: poll instead of
    LISTEN), `prepare` (false: no prepared statements and session settings; with `listen=false` for PgBouncer's
    transaction mode), `embedded`, and all of libpq (`sslmode`, `target_session_attrs`, `connect_timeout`...).
    """

    capabilities = Capabilities(transactional=True)
    exchanges_at_once = 2
    exchanges_afar = PostgreSQLServer.exchanges_at_once

    def __init__(
        self,
        conninfo: Mapping[str, str],
        terms: Terms | None = None,
        *,
        url: str = "postgresql://",
        table_prefix: str = PREFIX,
        schema: str = "",
        migrate: bool = True,
        listen: bool = True,
        prepare: bool = True,
        embedded: bool = False,
    ) -> None:
        self.runs_in = "embedded" if embedded else "elsewhere"
        if not listen:
            self.capabilities = replace(type(self).capabilities, push=False)
        terms = terms or Terms()
        given = {**DEFAULTS, **conninfo}
        if schema:
            given["options"] = f"{given.get('options', '')} -c search_path={schema}".strip()
        server = PostgreSQLServer(
            url,
            given,
            prefix=table_prefix,
            schema=schema,
            migrate=migrate,
            listen=listen,
            prepare=prepare,
            terms=terms,
            offset=lambda: self.clock_offset,
        )
        super().__init__(server, url, terms)
        self._server = server

    @classmethod
    def from_url(cls, url: str, terms: Terms | None = None) -> Self:
        parts = BrokerURL(url)
        conninfo = connection_options(parts)
        chosen = parts.terms(terms or Terms())
        prefix = parts.option("table_prefix", identifier, PREFIX)
        schema = parts.option("schema", identifier, "")
        migrate = parts.option("migrate", boolean, True)
        listen = parts.option("listen", boolean, True)
        prepare = parts.option("prepare", boolean, True)
        embedded = parts.option("embedded", boolean, False)
        parts.done()
        return cls(
            conninfo,
            chosen,
            url=parts.shown,
            table_prefix=prefix,
            schema=schema,
            migrate=migrate,
            listen=listen,
            prepare=prepare,
            embedded=embedded,
        )

    def now(self) -> float:
        return self._server.clock()


def connection_options(parts: BrokerURL) -> dict[str, str]:
    """Everything in the URL that is libpq's, in its words."""
    found = address(parts)
    for keyword in sorted({option.keyword.decode() for option in pq.Conninfo.get_defaults()} - (OURS - {"host"})):
        value = parts.option(keyword, str, "")
        if value:
            found[keyword] = value
    return found


def address(parts: BrokerURL) -> dict[str, str]:
    """Where the server is and who we are, in libpq's words."""
    found: dict[str, str] = {}
    hosts: list[str] = []
    ports: list[str] = []
    for host in parts.hosts:
        bracket, _, rest = host.rpartition("]")
        name, colon, port = rest.rpartition(":")
        if bracket:  # an IPv6 address
            name, port = bracket.removeprefix("["), port
        elif not colon:
            name, port = rest, ""
        if port and not port.isdigit():
            raise InvalidURL(f"{parts.shown}: {port!r} is not a port number")
        hosts.append(name)
        ports.append(port or "5432")
    if any(hosts):
        found["host"] = ",".join(hosts)
        found["port"] = ",".join(ports)
    if parts.username is not None:
        found["user"] = parts.username
    if parts.password is not None:
        found["password"] = parts.password
    database = parts.path.removeprefix("/")
    if "/" in database:
        raise InvalidURL(f"{parts.shown}: {database!r} is not the name of a database")
    if database:
        found["dbname"] = database
    return found
