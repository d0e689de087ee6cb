"""A private PostgreSQL server for tests, in a directory of its own; as the user `postgres` where the tests are root."""

from __future__ import annotations

import atexit
import signal
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from support.private_server import DEADLINE, TABLES, PrivateServer, need
from support.programs import find
from support.waiting import until


def program(name: str) -> str | None:
    """Where a program of the server is: Debian keeps them apart from the path."""
    return find(name, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))


class PostgresServer(PrivateServer):
    """A server of our own, in a `place` that its user may enter; it starts at once. `settings` as in postgresql.conf.
    fsync stays on. With `standby_of` it follows another one, which waits for it before it confirms a commit."""

    USER = "postgres"
    AT_ONCE = signal.SIGQUIT
    """SIGINT: tidily; SIGKILL: the whole process group dies."""

    def __init__(self, place: Path | None = None, standby_of: PostgresServer | None = None, /, **settings: str) -> None:
        need("postgres", program("postgres"), program("initdb"))
        super().__init__("postgres", place)
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

    def _run(self, name: str, *words: str) -> None:
        done = subprocess.run([program(name) or name, *words], capture_output=True, **self._as_user)
        assert done.returncode == 0, done.stderr.decode()

    def _command(self) -> list[str]:
        return [program("postgres") or "postgres", "-D", str(self.folder / "data")]

    def _greets(self) -> bool:
        try:
            self.ask("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

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


@cache
def shared_postgres() -> PostgresServer:
    """The server that the tests of this process share."""
    server = PostgresServer()
    atexit.register(server.clean_up)
    return server
