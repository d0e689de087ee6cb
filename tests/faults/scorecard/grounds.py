"""The brokers of the scorecard, each with a server that may be harmed: what is done to it, and what is seen of it."""

from __future__ import annotations

import secrets
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import redis

from outwork.brokers.redis.scripts import KEYS
from support.mariadb_server import MariaDBServer
from support.postgres_server import PostgresServer
from support.rabbitmq_server import RabbitServer
from support.redis_server import RedisServer
from support.workers import descendants, send

RECORDS: Final = frozenset(
    {"job", "body", "errors", "result", "ended", "ids", "ties", "counts", "watch", "workers", "alive", "pace"}
)
"""What Redis keeps of jobs that have ended, of workers, and of a RabbitMQ beside it."""
HOT: Final = ("ready", "scheduled", "running", "outbox", "bound", "cell")
"""The tables that have nothing of a job that has ended."""


class Ground:
    """A broker. The servers start once for all cells; each cell begins with it empty."""

    name: str
    keeps: bool = True
    """Whether it has records, so that states can be looked up."""
    port: int | None = None

    def __init__(self, folder: Path) -> None:
        """Start the server, if there is one, in an empty folder."""

    def url(self) -> str:
        """An empty place for jobs, with short leases."""
        raise NotImplementedError

    def at_rest(self) -> int:
        """How many rows, keys or messages there are beside the records of ended jobs."""
        raise NotImplementedError

    def look(self) -> str:
        """What else may tell why something is missing."""
        return ""

    def kill_connections(self) -> None:
        """End all connections of workers and producers, on the server's side."""

    def pids(self) -> list[int]:
        """The processes of the server."""
        return []

    def stop(self) -> None:
        """As its operator would."""

    def kill(self) -> None:
        """`kill -9` of all of it."""

    def start(self) -> None: ...

    def freeze(self, frozen: bool = True) -> None:
        for pid in self.pids():
            send(pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def snapshot(self) -> Any:
        """A connection with a transaction that goes on until it is closed."""
        raise NotImplementedError

    def close(self) -> None: ...


class SQLiteGround(Ground):
    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "none"

    def url(self) -> str:
        self._path = self._folder / f"{secrets.token_hex(4)}.db"
        return f"sqlite:///{self._path}?lease=3"

    def at_rest(self) -> int:
        with closing(sqlite3.connect(self._path, timeout=30)) as connection:
            return sum(connection.execute(f"SELECT count(*) FROM outwork_{t}").fetchone()[0] for t in HOT)

    def snapshot(self) -> Any:
        connection = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM outwork_job").fetchone()
        return connection


class PostgresGround(Ground):
    name = "postgresql"

    def __init__(self, folder: Path) -> None:
        self._server = PostgresServer()
        self.port = self._server.port

    def url(self) -> str:
        self._server.empty()
        return self._server.url(lease="3")

    def at_rest(self) -> int:
        return sum(self._server.ask(f"SELECT count(*) FROM outwork_{table}")[0][0] for table in HOT)

    def kill_connections(self) -> None:
        self._server.end_connections()

    def pids(self) -> list[int]:
        process = self._server._process
        return [] if process is None else [process.pid, *descendants(process.pid)]

    def stop(self) -> None:
        self._server.stop(signal.SIGINT)

    def kill(self) -> None:
        self.freeze()
        pids = self.pids()
        for pid in pids[1:]:
            send(pid, signal.SIGKILL)
        self._server.stop(signal.SIGKILL)

    def start(self) -> None:
        self._server.start()

    def snapshot(self) -> Any:
        connection = self._server.connect(autocommit=False)
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM outwork_job")
        return connection

    def close(self) -> None:
        self._server.clean_up()


class MySQLGround(Ground):
    name = "mysql"

    def __init__(self, folder: Path) -> None:
        self._server = MariaDBServer()
        self.port = self._server.port

    def url(self) -> str:
        self._server.empty()
        return self._server.url(lease="3")

    def at_rest(self) -> int:
        return sum(self._server.ask(f"SELECT count(*) FROM outwork_{table}")[0][0] for table in HOT)

    def kill_connections(self) -> None:
        self._server.end_connections()

    def pids(self) -> list[int]:
        return [] if self._server._process is None else [self._server._process.pid]

    def stop(self) -> None:
        self._server.stop(signal.SIGTERM)

    def kill(self) -> None:
        self._server.stop(signal.SIGKILL)

    def start(self) -> None:
        self._server.start()

    def snapshot(self) -> Any:
        connection = self._server.connect()
        with connection.cursor() as cursor:
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            cursor.execute("SELECT count(*) FROM outwork_job")
        return connection

    def close(self) -> None:
        self._server.clean_up()


class RedisGround(Ground):
    name = "redis"

    def __init__(self, folder: Path) -> None:
        self._server = RedisServer(folder, appendonly="yes", appendfsync="always")
        self.port = self._server.port

    def url(self) -> str:
        self._server.ask("FLUSHALL")
        return self._server.url(lease="3")

    def at_rest(self) -> int:
        """The sizes of all keys of the namespace but those with records."""
        return sum(self._sizes().values())

    def look(self) -> str:
        return str(self._sizes())

    def _sizes(self) -> dict[str, int]:
        """By the name of the key."""
        sizes: dict[str, int] = {}
        with self._server.client() as client:
            for key in client.scan_iter(count=1000):
                name = key.decode().rpartition(":")[2]
                if name in KEYS and name not in RECORDS:
                    sizes[name] = _size(client, key)
        return sizes

    def kill_connections(self) -> None:
        with self._server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def pids(self) -> list[int]:
        return [] if self._server._process is None else [self._server.pid]

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        self._server.kill()

    def start(self) -> None:
        self._server.start()

    def memory(self, most: int) -> None:
        """Give it so many bytes more than it has now, 0: as much as it wants."""
        used = int(self._server.ask("INFO", "memory")["used_memory"]) if most else 0
        self._server.ask("CONFIG", "SET", "maxmemory", used + most)

    def close(self) -> None:
        self._server.stop()


def _size(client: redis.Redis, key: bytes) -> int:
    counts: dict[Any, Any] = {b"zset": client.zcard, b"hash": client.hlen, b"list": client.llen}
    count: Any = counts.get(client.type(key))
    return int(count(key)) if count else 0


class RabbitGround(Ground):
    name = "rabbitmq"
    keeps = False

    def __init__(self, folder: Path) -> None:
        self._server = RabbitServer(folder)
        self.port = self._server.port
        self._prefix = ""

    def url(self) -> str:
        self._prefix = f"s{secrets.token_hex(5)}"
        return self._server.url(prefix=self._prefix, lease=3)

    def at_rest(self) -> int:
        counts = self._server.messages(self._prefix)
        return sum(count for name, count in counts.items() if not name.endswith(".dead"))

    def dead_letters(self) -> int:
        """How many jobs of this run have ended FAILED."""
        return self._server.messages(self._prefix).get(f"{self._prefix}.dead", 0)

    def look(self) -> str:
        """Its queues, who consumes them, and how the delayed messages go from one to the next."""
        asked = (
            ("list_queues", "name", "messages", "messages_ready", "consumers", "state"),
            ("list_consumers", "queue_name", "channel_pid", "consumer_tag", "active", "activity_status"),
            ("list_bindings",),
        )
        lines = [line for words in asked for line in self._server.ctl(*words).splitlines() if self._prefix in line]
        return "\n".join(
            [*lines, self._server.ctl("list_channels", "pid", "consumer_count", "messages_unacknowledged")]
        )

    def kill_connections(self) -> None:
        self._server.ctl("close_all_connections", "the scorecard")

    def pids(self) -> list[int]:
        process = self._server._process
        return [] if process is None else [process.pid, *descendants(process.pid)]

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        self._server.kill()

    def start(self) -> None:
        self._server.start()

    def memory(self, most: int) -> None:
        self._server.ctl("set_vm_memory_high_watermark", "0" if most else "0.6")

    def close(self) -> None:
        self._server.close()


GROUNDS: Final[dict[str, type[Any]]] = {
    ground.name: ground for ground in (SQLiteGround, PostgresGround, MySQLGround, RedisGround, RabbitGround)
}
