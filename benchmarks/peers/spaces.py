"""Where a contestant's jobs wait: a space of its own, empty, on a private server with the settings that all share."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from benchmarks.peers.contestant import Service  # noqa: E402
from support.postgres_server import PostgresServer  # noqa: E402
from support.rabbitmq_server import RabbitServer  # noqa: E402
from support.redis_server import BINARY, RedisServer  # noqa: E402

NAMES: Final[dict[Service, str]] = {
    "redis": "Redis",
    "postgresql": "PostgreSQL",
    "rabbitmq": "RabbitMQ",
    "sqlite": "SQLite",
}


@dataclass(frozen=True, slots=True)
class Space:
    url: str
    servers: tuple[int, ...]
    """The leading process of each server that works for it."""
    folder: Path
    """Of its own, for files."""
    analyze: Callable[[], object] = lambda: None
    """Let the server know how much there is, as it would find out by itself within a minute."""


class Spaces:
    """Makes spaces. Servers that take long to start are started once, at their first use."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="outwork-peers-"))
        self._numbers = itertools.count(1)
        self._postgres: PostgresServer | None = None
        self._rabbit: RabbitServer | None = None
        self._open = ExitStack()

    def __enter__(self) -> Spaces:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def prepare(self, services: set[Service]) -> dict[str, str]:
        """Start what takes long to start; the versions of these services."""
        if "postgresql" in services and self._postgres is None:
            self._postgres = PostgresServer()
            self._open.callback(self._postgres.clean_up)
        if "rabbitmq" in services and self._rabbit is None:
            self._rabbit = RabbitServer(self._folder / "rabbit")
            self._open.callback(self._rabbit.close)
        return {NAMES[one]: self._version(one) for one in sorted(services)}

    def _version(self, service: Service) -> str:
        if service == "postgresql":
            assert self._postgres is not None
            return str(self._postgres.ask("SHOW server_version")[0][0]).split()[0]
        if service == "rabbitmq":
            assert self._rabbit is not None
            return self._rabbit.ctl("version").split()[-1]
        if service == "redis":
            said = subprocess.run([BINARY or "redis-server", "--version"], capture_output=True, text=True, timeout=30)
            return said.stdout.partition("v=")[2].split()[0]
        return sqlite3.sqlite_version

    @contextmanager
    def space(self, service: Service) -> Iterator[Space]:
        """An empty place for jobs."""
        folder = self._folder / f"space-{next(self._numbers)}"
        folder.mkdir()
        make = {"redis": self._redis, "postgresql": self._database, "rabbitmq": self._vhost, "sqlite": self._file}
        with make[service](folder) as space:
            yield space
        shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _file(self, folder: Path) -> Iterator[Space]:
        yield Space(f"sqlite:///{folder}/jobs.db", (), folder)

    @contextmanager
    def _redis(self, folder: Path) -> Iterator[Space]:
        server = RedisServer(folder / "server", appendonly="yes")
        try:
            yield Space(server.url(path="/0"), (server.pid,), folder)
        finally:
            server.kill()

    @contextmanager
    def _database(self, folder: Path) -> Iterator[Space]:
        self.prepare({"postgresql"})
        assert self._postgres is not None
        name = folder.name.replace("-", "_")
        self._postgres.ask(f"CREATE DATABASE {name}")
        try:
            analyze = partial(self._postgres.ask, "ANALYZE", database=name)
            yield Space(self._postgres.url(name), (self._postgres.pid,), folder, analyze)
        finally:
            self._postgres.ask(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def _vhost(self, folder: Path) -> Iterator[Space]:
        self.prepare({"rabbitmq"})
        assert self._rabbit is not None
        self._rabbit.ctl("add_vhost", folder.name)
        self._rabbit.ctl("set_permissions", "-p", folder.name, "guest", ".*", ".*", ".*")
        try:
            yield Space(self._rabbit.url(folder.name), (self._rabbit.pid,), folder)
        finally:
            self._rabbit.ctl("delete_vhost", folder.name)
