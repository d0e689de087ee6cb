"""Brokers with further servers that have everything the first one has confirmed, all behind one address. When the first
one dies, the address leads to another: what a virtual IP, a proxy or a provider's DNS does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from faults.scorecard.grounds import Ground, MySQLGround, PostgresGround, RabbitGround
from support.mariadb_server import MYSQL, PRIMARY, MariaDBServer
from support.postgres_server import PostgresServer
from support.proxy import Proxy
from support.rabbitmq_server import RabbitServer


class Standby(Ground):
    """The address is the port of a proxy; its first server is the one that dies."""

    _servers: list[Any]
    _server: Any

    def __init__(self, folder: Path) -> None:
        self._servers = []
        try:
            self.form(folder)
        except BaseException:
            self.close()
            raise
        self._server = self._servers[0]
        self._address = Proxy(self._server.port)
        self.port = self._address.port

    def form(self, folder: Path) -> None:
        """Start the servers."""
        raise NotImplementedError

    def url(self) -> str:
        return super().url().replace(f":{self._server.port}/", f":{self.port}/")

    def fail_over(self) -> None:
        """The first server dies with all it has; the second takes its place."""
        self.kill()
        self._address.refuse()
        self._server = self._servers[1]
        self.promote()
        self._address.target = self._server.port
        self._address.refuse(False)

    def promote(self) -> None:
        """Let the one that has taken over take writes."""
        self._server.promote()

    def close(self) -> None:
        for server in self._servers:
            server.clean_up()


class PostgresStandby(Standby, PostgresGround):
    """Synchronous streaming replication."""

    def form(self, folder: Path) -> None:
        self._servers.append(PostgresServer(wal_level="replica", max_wal_senders="4"))
        self._servers.append(PostgresServer(None, self._servers[0]))


class MariaDBStandby(Standby, MySQLGround):
    """Semi-synchronous replication, waited for before the commit."""

    def form(self, folder: Path) -> None:
        if MYSQL:
            pytest.skip("the replication of MariaDB is tried, not that of MySQL")
        self._servers.append(MariaDBServer(**PRIMARY))
        self._servers.append(MariaDBServer(None, self._servers[0]))


class RabbitStandby(Standby, RabbitGround):
    """A cluster of three nodes with quorum queues, which elect a new leader by themselves."""

    def form(self, folder: Path) -> None:
        self._prefix = ""
        for number in range(3):
            mate = self._servers[0] if number else None
            self._servers.append(RabbitServer(folder / f"node-{number}", mate=mate))

    def promote(self) -> None:
        """Nothing is to be done."""

    def close(self) -> None:
        for server in self._servers:
            server.kill()
        for server in self._servers:
            server.close()


STANDBYS: Final[dict[str, type[Standby]]] = {
    ground.name: ground for ground in (PostgresStandby, MariaDBStandby, RabbitStandby)
}
