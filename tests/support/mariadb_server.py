"""A private MariaDB server for tests, in a directory of its own; as `mysql` where the tests are root. Or a MySQL
server, where only `mysqld` is found or the folder of other releases (`support.programs`) has it."""

from __future__ import annotations

import atexit
import signal
import socket
import subprocess
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import pymysql  # type: ignore[import-untyped]
from pymysql.cursors import DictCursor  # type: ignore[import-untyped]

from support.private_server import DEADLINE, TABLES, PrivateServer, need
from support.programs import chosen, find
from support.waiting import until

MYSQL: Final = chosen("mysqld") or (None if find("mariadbd") else find("mysqld"))
SERVER: Final = MYSQL or find("mariadbd")
INSTALL: Final = MYSQL or find("mariadb-install-db")

PRIMARY: Final = {
    "server_id": "1",
    "log_bin": "changes",
    "binlog_format": "ROW",
    "rpl_semi_sync_master_enabled": "ON",
    "rpl_semi_sync_master_timeout": "60000",
    "rpl_semi_sync_master_wait_point": "AFTER_SYNC",
}
"""The settings of one that waits for its replica."""
REPLICA: Final = {"server_id": "2", "rpl_semi_sync_slave_enabled": "ON"}


class MariaDBServer(PrivateServer):
    """A server of our own, in a `place` that its user may enter; it starts at once. `settings` as on its command line.
    With `replica_of` (MariaDB alone) it follows another one, started with `PRIMARY`, which waits for it before it
    confirms a commit."""

    USER = "mysql"
    AT_ONCE = signal.SIGKILL
    """SIGTERM: tidily."""

    def __init__(self, place: Path | None = None, replica_of: MariaDBServer | None = None, /, **settings: str) -> None:
        need("mariadbd", SERVER, INSTALL)
        super().__init__("mariadb", place)
        self._settings = settings if replica_of is None else REPLICA | settings
        done = subprocess.run(
            [
                str(INSTALL),
                "--no-defaults",
                f"--datadir={self.folder}/data",
                f"--tmpdir={self.folder}",  # servers that share one take each other's files
                *(
                    ["--initialize-insecure"]
                    if MYSQL
                    else ["--auth-root-authentication-method=normal", "--skip-test-db"]
                ),
                *([f"--user={self._user}"] if self._user else []),
            ],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr.decode()
        self.start()
        self.ask("CREATE USER tester@'%' IDENTIFIED BY ''", user="root", database=None)
        self.ask("GRANT ALL ON jobs.* TO tester@'%'", user="root", database=None)
        self.ask("CREATE DATABASE jobs", user="root", database=None)
        if replica_of is not None:
            self._follow(replica_of)

    def _follow(self, primary: MariaDBServer) -> None:
        primary.ask("GRANT REPLICATION SLAVE ON *.* TO tester@'%'", user="root", database=None)
        [(file, position, *_)] = primary.ask("SHOW MASTER STATUS", user="root", database=None)
        where = f"MASTER_HOST = '127.0.0.1', MASTER_PORT = {primary.port}, MASTER_USER = 'tester'"
        which = f"MASTER_LOG_FILE = '{file}', MASTER_LOG_POS = {position}"
        for sql in (f"CHANGE MASTER TO {where}, {which}", "START SLAVE", "SET GLOBAL read_only = 1"):
            self.ask(sql, user="root", database=None)
        waits = "SHOW STATUS LIKE 'Rpl_semi_sync_master_clients'"
        until(lambda: primary.ask(waits)[0][1] == "1", "a replica that is waited for", seconds=DEADLINE)

    def promote(self) -> None:
        """From now on it takes writes."""
        until(self._caught_up, "a replica that has applied all it was sent", seconds=DEADLINE)
        for sql in ("STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0"):
            self.ask(sql, user="root", database=None)

    def _caught_up(self) -> bool:
        with closing(self.connect("root", None)) as connection, connection.cursor(DictCursor) as cursor:
            cursor.execute("SHOW SLAVE STATUS")
            [status] = cursor.fetchall()
        read = (status["Master_Log_File"], status["Read_Master_Log_Pos"])
        return (status["Relay_Master_Log_File"], status["Exec_Master_Log_Pos"]) == read

    def _command(self) -> list[str]:
        options = {
            "datadir": f"{self.folder}/data",
            "tmpdir": str(self.folder),
            "port": str(self.port),
            "bind_address": "127.0.0.1",
            "socket": f"{self.folder}/server.sock",
            "pid_file": f"{self.folder}/server.pid",
            "innodb_buffer_pool_size": "256M",
            **({"mysqlx": "OFF"} if MYSQL else {"innodb_log_file_size": "512M"}),
            "max_connections": "200",
            "skip_name_resolve": "1",
            **self._settings,
        }
        return [str(SERVER), "--no-defaults", *(f"--{name}={value}" for name, value in options.items())]

    def _greets(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:  # PyMySQL leaves its own one open when nobody is there
            if probe.connect_ex(f"{self.folder}/server.sock"):
                return False
        try:
            self.ask("SELECT 1", user="root", database=None)
        except pymysql.OperationalError:
            return False
        return True

    def url(self, database: str = "jobs", *, port: int | None = None, **options: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"mysql://tester@127.0.0.1:{port or self.port}/{database}{'?' + query if query else ''}"

    def connect(self, user: str = "tester", database: str | None = "jobs", **options: Any) -> pymysql.Connection[Any]:
        """A plain connection; the caller closes it. For root by the socket."""
        where: dict[str, Any] = {"host": "127.0.0.1", "port": self.port}
        if user == "root":
            where = {"unix_socket": f"{self.folder}/server.sock"}
        return pymysql.connect(user=user, database=database, autocommit=True, charset="utf8mb4", **where, **options)

    def ask(
        self, sql: str, parameters: Any = None, *, user: str = "tester", database: str | None = "jobs"
    ) -> list[tuple[Any, ...]]:
        """One statement on a connection of its own."""
        with closing(self.connect(user, database)) as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall())

    def end_connections(self) -> int:
        """End those of all clients; how many."""
        with closing(self.connect("root", None)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE user = 'tester'")
            pids = [pid for (pid,) in cursor.fetchall()]
            for pid in pids:
                with suppress(pymysql.err.OperationalError):  # it has ended by itself
                    cursor.execute(f"KILL {int(pid)}")
            return len(pids)

    def empty(self, prefix: str = "outwork_") -> None:
        """Forget all jobs, if there are tables."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            if cursor.execute("SHOW TABLES LIKE %s", [f"{prefix}job"]):
                for table in TABLES:
                    cursor.execute(f"DELETE FROM {prefix}{table}")
                cursor.execute(f"DELETE FROM {prefix}meta WHERE name = 'outbox'")


@cache
def shared_mariadb() -> MariaDBServer:
    """The server that the tests of this process share."""
    server = MariaDBServer()
    atexit.register(server.clean_up)
    return server
