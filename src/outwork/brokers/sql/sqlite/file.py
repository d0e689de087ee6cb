"""A SQLite database file: opening it, its locks and clocks, and what to say when it cannot be used."""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from outwork.brokers.sql.connections import Connections, Role
from outwork.brokers.sql.dialect import Bell, Database, Statement, Transaction
from outwork.brokers.sql.migrate import Standing, Step, standing, steps, todo
from outwork.brokers.sql.sqlite.bell import SQLiteBell
from outwork.brokers.sql.sqlite.moves import SQLiteTransaction, placed_insertion
from outwork.brokers.sql.sqlite.statements import statements
from outwork.errors import BrokerFull, BrokerRefused, BrokerUnavailable, OutworkError, SchemaError
from outwork.job import Job, Moment, admit

T = TypeVar("T")

FIRST_PAUSE: Final = 0.0001
LONGEST_PAUSE: Final = 0.01
VOID_LEASE: Final = -1e18
"""A lease of an earlier boot: monotonic clocks start anew, so nothing can be said of it but that it is over."""
RESERVE: Final = 8 * 1024 * 1024
"""Bytes of disk that an enqueue leaves free (at most an eighth of it), so that what is running can still be settled."""

AMPLE: Final = 256 * 1024 * 1024
LOOK_AGAIN: Final = 0.5
"""Seconds between two looks at the file's identity, and at an ample disk: a tenth of an enqueue went into them."""

NETWORK: Final = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFE534D42: "SMB",
    0xFF534D42: "CIFS",
    0x01021997: "9p",
    0x5346414F: "AFS",
    0x00C36400: "CephFS",
    0x0BD00BD0: "Lustre",
    0x01161970: "GFS2",
    0x47504653: "GPFS",
    0x73757245: "Coda",
    0x65735546: "FUSE",
}
"""The magic numbers of statfs(2) for file systems whose locks and shared memory do not reach other machines."""
FUSE: Final = 0x65735546
LOCAL_FUSE: Final = frozenset({"fuseblk", "fuse.fuse-overlayfs", "fuse.ntfs-3g", "fuse.lxcfs"})


def file_system_magic(directory: str) -> int:
    """`f_type` of statfs(2): the first word of its struct on Linux. 0 where it cannot be asked."""
    if not sys.platform.startswith("linux"):
        return 0
    buffer = ctypes.create_string_buffer(256)
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(directory), buffer) != 0:
        return 0
    return int(ctypes.c_long.from_buffer(buffer).value) & 0xFFFFFFFF


def refuse_network(path: str, magic_of: Callable[[str], int] = file_system_magic) -> None:
    """Raise BrokerRefused for a file on a network file system: write-ahead logging needs memory shared by all users."""
    directory = os.path.dirname(path)
    magic = magic_of(directory)
    kind = NETWORK.get(magic)
    if kind is None or (magic == FUSE and mount_type(directory) in LOCAL_FUSE):
        return
    raise BrokerRefused(
        f"{path} is on a network file system ({kind}), where SQLite's locks cannot be trusted and jobs would be lost. "
        "Put the file on a local disk, or use postgresql://, mysql:// or redis:// to share a queue between machines"
    )


def mount_type(directory: str, table: str = "/proc/self/mounts") -> str:
    """The file system type of the mount that holds a directory, as the kernel names it; empty if unknown."""
    try:
        lines = Path(table).read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for line in lines:
        _, point, name, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        inside = directory == point or directory.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, name
    return kind


def boot_id() -> str:
    """What tells this boot of the host from every other; leases of another one are void."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


class FileConnection(sqlite3.Connection):
    """A connection that knows which file it opened, and is told from the one that it replaces."""

    inode: tuple[int, int] = (0, 0)
    serial: int = 0
    looked_at: float = 0.0


class SQLiteFile(Database):
    """The connections to one file. Its tables are made, and brought up to date, when it is first opened.

    `guest`: the file is an application's, so it is not made here, and its journal mode stays as it is.
    """

    dialect: ClassVar[str] = "sqlite"

    def __init__(
        self, path: str, prefix: str, busy_timeout: float, clock: Callable[[], Moment], *, guest: bool = False
    ) -> None:
        self.path = path
        self._guest = guest
        self._prefix = prefix
        self._busy_timeout = busy_timeout
        self._clock = clock
        self._sql = statements(prefix)
        self._connections = Connections(self._open, FileConnection.close)
        self._serials = itertools.count(1)
        self._roomy_until = 0.0

    # ---- transactions -----------------------------------------------------------------------------------------------

    def _transaction(self, connection: FileConnection) -> SQLiteTransaction:
        tx = SQLiteTransaction(connection, self._sql, self._clock())
        tx.pace = self.pace
        return tx

    def write(self, role: Role, work: Callable[[Transaction], T]) -> T:
        def transact(connection: FileConnection) -> T:
            with immediate(connection):
                return work(self._transaction(connection))

        return self._patiently(role, transact)

    def accept(self, jobs: Sequence[tuple[Job, bytes]]) -> None:
        def transact(connection: FileConnection) -> None:
            with immediate(connection):
                tx = self._transaction(connection)
                tx.insert_free([admit(job, body, tx.now) for job, body in jobs])

        self._patiently(Role.ACCEPT, transact)

    def insertion(self, jobs: Sequence[tuple[Job, bytes]]) -> list[Statement]:
        now = self._clock()
        return list(placed_insertion(self._sql, [admit(job, body, now) for job, body in jobs], self.pace))

    def probes(self) -> tuple[Statement, Statement]:
        meta = f"{self._prefix}meta"
        return (
            Statement("SELECT name FROM sqlite_master WHERE type = 'table' AND name = ?", (meta,)),
            Statement(f"SELECT value FROM {meta} WHERE name = 'id'", ()),
        )

    def read(self, role: Role, work: Callable[[Transaction], T]) -> T:
        return self._patiently(role, lambda connection: work(self._transaction(connection)))

    def _patiently(self, role: Role, run: Callable[[FileConnection], T]) -> T:
        def attempt() -> T:
            with self._connections.borrow(role, self._usable) as connection:
                return run(connection)

        try:
            return self._retrying(attempt)
        except sqlite3.Error as error:
            if primary(error) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                self._connections.discard(role)
            raise self.explained(error) from error

    def _retrying(self, attempt: Callable[[], T]) -> T:
        """Try again while the file is locked. SQLite's own wait sleeps for whole milliseconds, in fixed steps."""
        deadline = time.monotonic() + self._busy_timeout
        pause = FIRST_PAUSE
        while True:
            try:
                return attempt()
            except sqlite3.OperationalError as error:
                locked = primary(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                if not locked or time.monotonic() > deadline:
                    raise
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def data_version(self, role: Role) -> tuple[int, int]:
        """Something that differs when another connection has committed since."""

        def ask(connection: FileConnection) -> tuple[int, int]:
            return connection.serial, int(connection.execute("PRAGMA data_version").fetchone()[0])

        return self._patiently(role, ask)

    def bell(self, role: Role) -> Bell:
        wal = not self._guest or self._patiently(role, _is_wal)
        return SQLiteBell(self.path + ("-wal" if wal else "-journal"), lambda: self.data_version(role))

    def relieve(self) -> None:
        def checkpoint(connection: FileConnection) -> None:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

        with suppress(BrokerFull):  # it moves what it can
            self._patiently(Role.WORK, checkpoint)

    # ---- connections ------------------------------------------------------------------------------------------------

    def _open(self, role: Role) -> FileConnection:
        self._refuse_what_cannot_work()
        connection = self._connect()
        try:
            if role is Role.ACCEPT:
                connection.execute("PRAGMA synchronous = FULL")
            self._bring_up_to_date(connection, role)
        except BaseException:
            connection.close()
            raise
        connection.inode = self._inode()
        connection.serial = next(self._serials)
        return connection

    def _connect(self, mode: str = "rwc") -> FileConnection:
        mode = "rw" if self._guest else mode
        connection = sqlite3.connect(
            f"{Path(self.path).as_uri()}?mode={mode}",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            factory=FileConnection,
        )
        try:
            connection.execute("PRAGMA cache_size = -8000")  # KiB, at most; the index pages of a million jobs
            connection.execute("PRAGMA secure_delete = OFF")  # some systems build SQLite with it on
            if mode == "rwc":
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
            safe = not self._guest or _is_wal(connection)
            connection.execute(f"PRAGMA synchronous = {'NORMAL' if safe else 'FULL'}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _inode(self) -> tuple[int, int]:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return 0, 0
        return status.st_dev, status.st_ino

    def _usable(self, connection: FileConnection) -> bool:
        """Whether the file that it has open is still the one of that name: jobs in a deleted file are lost."""
        now = time.monotonic()
        if now - connection.looked_at > LOOK_AGAIN:
            connection.looked_at = now
            return connection.inode == self._inode()
        return True

    def _refuse_what_cannot_work(self) -> None:
        directory = os.path.dirname(self.path)
        if not os.path.isdir(directory):
            raise BrokerRefused(missing_directory(self.path))
        refuse_network(self.path)
        if os.path.isdir(self.path):
            raise BrokerRefused(f"{self.path} is a directory. Name a file in it, for example {self.path}/tasks.db")
        if os.path.exists(self.path) and not os.access(self.path, os.R_OK | os.W_OK):
            raise BrokerRefused(f"{self.path} cannot be written by this user ({user()}). Change its owner or its mode")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise BrokerRefused(
                f"the directory {directory} cannot be written by this user ({user()}), and SQLite keeps its log "
                "beside the database. Change the directory's owner or its mode"
            )

    def reserve(self, size: int) -> None:
        now = time.monotonic()
        if now < self._roomy_until and size < AMPLE // 8:
            return
        room = self._room()
        if room > AMPLE:
            self._roomy_until = now + LOOK_AGAIN
        if room < size:
            self.relieve()
            if self._room() + self._patiently(Role.READ, unused_bytes) < size:
                raise BrokerFull(
                    f"the disk of {self.path} is full: what is left of it is kept for finishing what is running. "
                    "Nothing was enqueued. Free some space; nothing has to be restarted"
                )

    def _room(self) -> int:
        """How many bytes of new jobs the disk takes, if what is in the log is moved to the database as well."""
        try:
            disk = os.statvfs(os.path.dirname(self.path))
        except OSError:
            return sys.maxsize  # opening the file says better what is wrong
        try:
            log = os.path.getsize(self.path + "-wal")
        except FileNotFoundError:
            log = 0
        free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        return (free - log - min(RESERVE, total // 8)) // 2  # a new page goes to the log first, to the database later

    # ---- schema -----------------------------------------------------------------------------------------------------

    def steps(self) -> list[Step]:
        return steps(self.dialect, self._prefix)

    def standing(self) -> Standing:
        if not os.path.exists(self.path):
            return standing({})
        try:
            connection = self._connect("rw")
            try:
                return self._standing(connection)
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise self.explained(error) from error

    def apply(self, to: int | None) -> list[Step]:
        def attempt() -> list[Step]:
            self._refuse_what_cannot_work()
            connection = self._connect()
            try:
                return self._migrate(connection, to)
            finally:
                connection.close()

        try:
            return self._retrying(attempt)
        except sqlite3.Error as error:
            raise self.explained(error) from error

    def identity(self) -> str:
        def ask(connection: FileConnection) -> str:
            return str(connection.execute(f"SELECT value FROM {self._prefix}meta WHERE name = 'id'").fetchone()[0])

        return self._patiently(Role.READ, ask)

    def _standing(self, connection: FileConnection) -> Standing:
        known = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", [f"{self._prefix}meta"]
        ).fetchone()
        return standing(dict(connection.execute(f"SELECT name, value FROM {self._prefix}meta")) if known else {})

    def _bring_up_to_date(self, connection: FileConnection, role: Role) -> None:
        if todo(self.steps(), self._standing(connection), self.path):
            self._migrate(connection, None)
        self._agree_on_outbox(connection)
        if role is Role.READ:  # who only reads does not wait for a transaction of the caller's on the same file
            return
        boot = connection.execute(f"SELECT value FROM {self._prefix}meta WHERE name = 'boot'").fetchone()
        if boot and boot[0] == boot_id():
            return
        with immediate(connection):
            changed = connection.execute(
                f"INSERT INTO {self._prefix}meta VALUES ('boot', ?) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE value <> excluded.value",
                [boot_id()],
            ).rowcount
            if changed:
                connection.execute(f"UPDATE {self._prefix}running SET lease_until = ?", [VOID_LEASE])
                connection.execute(
                    f"UPDATE {self._prefix}bound SET lease_until = ? WHERE lease_until IS NOT NULL", [VOID_LEASE]
                )

    def _agree_on_outbox(self, connection: FileConnection) -> None:
        kept = self._transaction(connection).kept_pace()
        if self.pace is None:
            self.pace = kept
        elif self.pace != kept:
            with immediate(connection):
                self._transaction(connection).keep_outbox(self.pace)

    def _migrate(self, connection: FileConnection, to: int | None) -> list[Step]:
        """Apply what is missing in one transaction: the write lock keeps all others out, and it is whole or nothing."""
        with immediate(connection):
            missing = todo(self.steps(), self._standing(connection), self.path, to)
            for step in missing:
                for statement in step.statements:
                    connection.execute(statement)
        return missing

    def close(self) -> None:
        self._connections.close()

    # ---- what went wrong --------------------------------------------------------------------------------------------

    def explained(self, error: sqlite3.Error) -> OutworkError:
        """SQLite's error in one line: what, why, and what to do next."""
        match primary(error):
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return BrokerUnavailable(
                    f"{self.path} is locked: another process has been writing to it for {self._busy_timeout:g} s. "
                    f"Find it with: fuser -v {self.path}"
                )
            case sqlite3.SQLITE_FULL:
                return BrokerFull(f"the disk of {self.path} is full. Free some space; nothing has to be restarted")
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
                return BrokerRefused(f"{self.path} cannot be written ({error}). Change its owner or its mode")
            case sqlite3.SQLITE_CANTOPEN:
                return BrokerRefused(f"{self.path} cannot be opened ({error}). Check its directory and its mode")
            case sqlite3.SQLITE_NOTADB:
                return BrokerRefused(
                    f"{self.path} is not a SQLite database. Name another file; this one was not changed"
                )
            case sqlite3.SQLITE_CORRUPT:
                return BrokerRefused(
                    f"{self.path} is damaged ({error}). Stop all users, then: "
                    f"sqlite3 {self.path} .recover | sqlite3 recovered.db"
                )
            case sqlite3.SQLITE_IOERR if disk_full(self.path):
                return BrokerFull(f"the disk of {self.path} is full. Free some space; nothing has to be restarted")
            case sqlite3.SQLITE_ERROR if "no such" in str(error):
                return SchemaError(
                    f"{self.path}: {error}. The tables are not as this release needs them: outwork migrate"
                )
            case _:
                return BrokerUnavailable(f"{self.path}: {error} ({getattr(error, 'sqlite_errorname', 'no code')})")


@contextmanager
def immediate(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that takes the write lock at its start: no deadlock between readers that become writers."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite ends it by itself when the disk is full
            connection.execute("ROLLBACK")
        raise


def unused_bytes(connection: sqlite3.Connection) -> int:
    """How much room deleted jobs have left in the file."""
    pages, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size"))
    return int(pages) * int(size)


def primary(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for an error of the driver itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def disk_full(path: str) -> bool:
    room = os.statvfs(os.path.dirname(path))
    return room.f_bavail * room.f_frsize < 64 * 1024


def user() -> str:
    return f"uid {os.geteuid()}" if hasattr(os, "geteuid") else "this account"


def missing_directory(path: str, spelled: str | None = None) -> str:
    """What to say of a path whose directory is not there; `spelled` is the relative path as the URL had it."""
    said = f"the directory {os.path.dirname(path)} does not exist"
    if spelled and os.path.isdir(os.path.dirname("/" + spelled)):
        return f"{said}. An absolute path has four slashes: sqlite:////{spelled}"
    return f"{said}. Create it: mkdir -p {os.path.dirname(path)}"


def _is_wal(connection: sqlite3.Connection) -> bool:
    """Whether the file is in WAL mode, in which one is safe from corruption without waiting for the disk each time."""
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0]).lower() == "wal"
