"""Private servers, as the tests start them, with fsync on; and the names under which their brokers are measured."""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.results import ROOT, Recorder

sys.path.insert(0, str(ROOT / "tests"))


class Place(NamedTuple):
    """A broker that is measured: its name in the results, and a URL that nobody else uses."""

    subject: str
    url: str


class Server(NamedTuple):
    product: str
    version: str
    places: list[Place]
    pids: Callable[[], list[int]]
    """Its processes, without those below them."""


@contextmanager
def _sqlite(folder: Path) -> Iterator[Server]:
    yield Server("SQLite", sqlite3.sqlite_version, [Place("SQLite", f"sqlite:///{folder}/jobs.db")], list)


@contextmanager
def _redis(folder: Path) -> Iterator[Server]:
    import redis

    from support.redis_server import RedisServer

    server = RedisServer(folder / "redis", appendonly="yes")
    try:
        with redis.Redis(port=server.port) as client:
            found: Any = client.info("server")
        yield Server("Redis", found["redis_version"], [Place("Redis", server.url())], lambda: [server.pid])
    finally:
        server.kill()


@contextmanager
def _postgresql(_: Path) -> Iterator[Server]:
    from support.postgres_server import PostgresServer

    server = PostgresServer()
    try:
        [(version,)] = server.ask("SHOW server_version")
        place = Place("PostgreSQL", server.url())
        yield Server("PostgreSQL", version.partition(" ")[0], [place], lambda: _pids(server))
    finally:
        server.clean_up()


@contextmanager
def _mysql(_: Path) -> Iterator[Server]:
    from support.mariadb_server import MariaDBServer

    server = MariaDBServer()
    try:
        [(version,)] = server.ask("SELECT version()")
        place = Place("MariaDB", server.url())
        yield Server("MariaDB", version.partition("-")[0], [place], lambda: _pids(server))
    finally:
        server.clean_up()


@contextmanager
def _rabbitmq(folder: Path) -> Iterator[Server]:
    import pika  # type: ignore[import-untyped]

    from support.rabbitmq_server import RabbitServer

    server = RabbitServer(folder / "rabbitmq")
    try:
        connection: Any = pika.BlockingConnection(pika.URLParameters(server.url()))
        version = str(connection._impl.server_properties["version"])
        connection.close()
        places = [
            Place("RabbitMQ, classic", server.url(queue_type="classic", prefix="classic")),
            Place("RabbitMQ, quorum", server.url(prefix="quorum")),
        ]
        yield Server("RabbitMQ", version, places, lambda: _pids(server))
    finally:
        server.close()


def _pids(server: Any) -> list[int]:
    return [server._process.pid] if server._process else []


BROKERS: Final[dict[str, Callable[[Path], AbstractContextManager[Server]]]] = {
    "sqlite": _sqlite,
    "redis": _redis,
    "postgresql": _postgresql,
    "mysql": _mysql,
    "rabbitmq": _rabbitmq,
}
WITHOUT_RABBITMQ: Final = [name for name in BROKERS if name != "rabbitmq"]
PRODUCTS: Final = ("SQLite", "Redis", "PostgreSQL", "MariaDB", "RabbitMQ")
SUBJECTS: Final = ("SQLite", "Redis", "PostgreSQL", "MariaDB", "RabbitMQ, classic", "RabbitMQ, quorum")


@contextmanager
def private(broker: str, run: Recorder) -> Iterator[list[Place]]:
    """The places of a broker, empty; the run takes down the server's version."""
    with tempfile.TemporaryDirectory(prefix="outwork-bench-") as folder, BROKERS[broker](Path(folder)) as server:
        run.version(server.product, server.version)
        yield server.places
