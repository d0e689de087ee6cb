"""A private PostgreSQL server for tests, in a directory of its own; as the user `postgres` where the tests are root."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from support.ports import free_port
from support.programs import find
from support.waiting import until

DEADLINE: Final = 60.0
TABLES: Final = ("job", "ready", "scheduled", "running", "ended", "worker", "outbox", "bound", "cell")


def program(name: str) -> str | None:
    """Where a program of the server is: Debian keeps them apart from the path."""
    return find(name, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))


def need_postgres() -> None:
    """Skip where there is no server to start; a failure where there has to be one."""
    if program("postgres") is None or program("initdb") is None:
        reason = "postgres is not installed"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)


class PostgresServer:
    """A server of our own, in a `place` that its user may enter; it starts at once. `settings` as in postgresql.conf.
    fsync stays on. With `standby_of` it follows another one, which waits for it before it confirms a commit."""

    def __init__(self, place: Path | None = None, standby_of: PostgresServer | None = None, /, **settings: str) -> None:
        need_postgres()
        self.folder = Path(tempfile.mkdtemp(prefix="outwork-postgres-", dir=place))
        self.port = free_port()
        self._user = "postgres" if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        if self._user:
            shutil.chown(self.folder, self._user, self._user)
        data = self.folder / "data"
        if standby_of is None:
            self._run(
                "initdb", "-D", str(data), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"
            )
        else:
            source = f"host=127.0.0.1 port={standby_of.port} user=tester application_name=standby"
            self._run("pg_basebackup", "-D", str(data), "-d", source, "-R", "--checkpoint=fast", "--no-sync")
        with (data / "postgresql.conf").open("a") as file:
            for name, value in {
                "listen_addresses": "'127.0.0.1'",
                "port": str(self.port),
                "unix_socket_directories": f"'{self.folder}'",
                "max_connections": "200",
                "shared_buffers": "'256MB'",
                "max_wal_size": "'4GB'",
                **settings,
            }.items():
                file.write(f"{name} = {value}\n")
        self.start()
        if standby_of is not None:
            standby_of.ask("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            standby_of.ask("SELECT pg_reload_conf()")
            followed = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
            until(lambda: standby_of.ask(followed) == [(1,)], "a standby that is waited for", seconds=DEADLINE)

    def promote(self) -> None:
        """From now on it takes writes."""
        assert self.ask("SELECT pg_promote()") == [(True,)], self.log()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _run(self, name: str, *words: str) -> None:
        done = subprocess.run(
            [program(name) or name, *words],
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user else None,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program("postgres") or "postgres", "-D", str(self.folder / "data")],
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._answers, f"the server in {self.folder} answers:\n{self.log()}", seconds=DEADLINE)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        try:
            self.ask("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    def url(self, database: str = "postgres", *, port: int | None = None, **options: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://tester@127.0.0.1:{port or self.port}/{database}{'?' + query if query else ''}"

    def connect(self, database: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        """A plain connection; the caller closes it."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="tester",
            dbname=database,
            **{"autocommit": True, "connect_timeout": 5, **options},
        )

    def ask(self, sql: str, parameters: Any = None, database: str = "postgres") -> list[tuple[Any, ...]]:
        """One statement on a connection of its own."""
        with self.connect(database) as connection:
            cursor = connection.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    def end_connections(self) -> int:
        """End those of all clients; how many."""
        return len(
            self.ask(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        )

    def empty(self, database: str = "postgres", prefix: str = "outwork_") -> None:
        """Forget all jobs, if there are tables."""
        with self.connect(database) as connection:
            if connection.execute("SELECT to_regclass(%s)", [f"{prefix}job"]).fetchone() != (None,):
                for table in TABLES:
                    connection.execute(f"DELETE FROM {prefix}{table}")
                connection.execute(f"DELETE FROM {prefix}meta WHERE name = 'outbox'")

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """SIGQUIT: at once, with recovery at the next start; SIGINT: tidily; SIGKILL: the whole process group dies."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(DEADLINE)

    def clean_up(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def shared_postgres() -> PostgresServer:
    """The server that the tests of this process share."""
    server = PostgresServer()
    atexit.register(server.clean_up)
    return server


@contextmanager
def own_postgres(**settings: str) -> Iterator[PostgresServer]:
    """A server for one test."""
    server = PostgresServer(**settings)
    try:
        yield server
    finally:
        server.clean_up()
