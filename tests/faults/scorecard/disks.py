"""Brokers on a disk of their own, which can be full."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from faults.scorecard.grounds import Ground, MySQLGround, PostgresGround, RabbitGround, RedisGround, SQLiteGround
from support.disks import SmallDisk
from support.mariadb_server import MariaDBServer
from support.postgres_server import PostgresServer
from support.rabbitmq_server import RabbitServer
from support.redis_server import RedisServer
from support.workers import alive


class OnDisk(Ground):
    """Everything of the server is there."""

    megabytes: int
    disk: SmallDisk

    def __init__(self, folder: Path) -> None:
        self.disk = SmallDisk(self.megabytes)
        try:
            self.form(self.disk.path)
        except BaseException:
            self.disk.close()
            raise

    def form(self, place: Path) -> None:
        """Start the server in there."""
        super().__init__(place)

    def revive(self) -> bool:
        """Start the server if it has ended, as PostgreSQL and MariaDB may; whether it had."""
        if all(map(alive, self.pids()[:1])):
            return False
        self.kill()  # collects what has ended
        self.start()
        return True

    def close(self) -> None:
        super().close()
        self.disk.close()


class SQLiteOnDisk(OnDisk, SQLiteGround):
    megabytes = 40


class PostgresOnDisk(OnDisk, PostgresGround):
    """With its write-ahead log, so that it gives up when that does not grow."""

    megabytes = 240

    def form(self, place: Path) -> None:
        self._server = PostgresServer(place, max_wal_size="'64MB'")
        self.port = self._server.port


class MySQLOnDisk(OnDisk, MySQLGround):
    megabytes = 320

    def form(self, place: Path) -> None:
        self._server = MariaDBServer(place, innodb_log_file_size="32M")
        self.port = self._server.port


class RedisOnDisk(OnDisk, RedisGround):
    """Where it synchronises once a second, as it does by default: with `always` it ends when it cannot."""

    megabytes = 60

    def form(self, place: Path) -> None:
        self._server = RedisServer(place / "redis", appendonly="yes")
        self.port = self._server.port


class RabbitOnDisk(OnDisk, RabbitGround):
    """Its quorum queues stay away when their log could not grow, until it is restarted."""

    megabytes = 400

    def form(self, place: Path) -> None:
        self._prefix = ""
        self._server = RabbitServer(place / "node", {"disk_free_limit.absolute": "100MB"})
        self.port = self._server.port

    def revive(self) -> bool:
        self.kill()
        self.start()
        return True


ON_DISK: Final[dict[str, type[OnDisk]]] = {
    ground.name: ground for ground in (SQLiteOnDisk, PostgresOnDisk, MySQLOnDisk, RedisOnDisk, RabbitOnDisk)
}
