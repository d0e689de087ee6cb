"""The verbs as transactions on one SQLite connection. Times are of CLOCK_MONOTONIC, which a host's processes share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Final

from outwork.brokers.sql.sqlite.file import boot_id
from outwork.contrib.channels.pipes import Limits, Parcel, Seen, by_pipe, is_inbox, packed
from outwork.contrib.channels.room import Room

PRUNE_EVERY: Final = 60.0
DAY: Final = 86_400.0

TABLES: Final = """
    CREATE TABLE IF NOT EXISTS {p}channel_message (
        id INTEGER PRIMARY KEY AUTOINCREMENT, pipe TEXT NOT NULL, expires REAL NOT NULL, content BLOB NOT NULL);
    CREATE INDEX IF NOT EXISTS {p}channel_message_pipe ON {p}channel_message (pipe, id);
    CREATE TABLE IF NOT EXISTS {p}channel_member (
        team TEXT NOT NULL, channel TEXT NOT NULL, expires REAL NOT NULL, PRIMARY KEY (team, channel)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS {p}channel_reader (pipe TEXT PRIMARY KEY, looked REAL, sent REAL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS {p}channel_boot (id TEXT NOT NULL)"""


class Pipes:
    """For the one thread of a session. Every verb raises sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection, prefix: str, tables: str) -> None:
        self.connection = connection
        self._prefix = f"{prefix}/"
        self._message = f"{tables}channel_message"
        self._member = f"{tables}channel_member"
        self._reader = f"{tables}channel_reader"
        self._boot = f"{tables}channel_boot"
        self._pruned = monotonic()
        self._room = Room()
        self._seen = self._version()
        self._forget_earlier_boots()

    def push(self, key: str, content: bytes, room: int, expiry: float) -> float | None:
        now, pipe = monotonic(), self._prefix + key
        with self._transaction():
            self._prune(now)
            if self._room.is_to_be_counted(pipe, room):
                held = self._held(pipe, now, room)
                if held >= room:
                    return None
                self._room.counted(pipe, held, room)
            self._insert(pipe, now + expiry, content)
            if is_inbox(key):
                return 0.0
            row = self._run(f"SELECT coalesce(looked, sent) FROM {self._reader} WHERE pipe = ?", pipe).fetchone()
            if row is None:
                self._run(f"INSERT INTO {self._reader} (pipe, sent) VALUES (?, ?)", pipe, now)
            return 0.0 if row is None else now - row[0]

    def take(self, key: str, limit: int) -> list[Parcel]:
        now, pipe = monotonic(), self._prefix + key
        found: list[Parcel] = []
        fixed = not is_inbox(key)
        something = self._run(f"SELECT 1 FROM {self._message} WHERE pipe = ? LIMIT 1", pipe).fetchone()
        if something is None:
            if fixed and self._unattended(pipe, now):
                self.attend([key])
            return []
        with self._transaction():
            rows = self._run(f"SELECT id, expires, content FROM {self._message} WHERE pipe = ? ORDER BY id", pipe)
            last = None
            for last, expires, content in rows:
                if expires > now:
                    found.append(Parcel(last, expires, content))
                    if len(found) == limit:
                        break
            self._run(f"DELETE FROM {self._message} WHERE pipe = ? AND id <= ?", pipe, last)
            if fixed and self._unattended(pipe, now):
                self._attend(pipe, now)
        return found

    def put_back(self, key: str, parcels: Sequence[Parcel]) -> None:
        pipe = self._prefix + key
        with self._transaction():
            for parcel in parcels:
                self._run(
                    f"INSERT OR IGNORE INTO {self._message} (id, pipe, expires, content) VALUES (?, ?, ?, ?)",
                    *(parcel.place, pipe, parcel.expires, parcel.content),
                )

    def attend(self, keys: Sequence[str]) -> None:
        now = monotonic()
        with self._transaction():
            for key in keys:
                self._attend(self._prefix + key, now)

    def join(self, group: str, channel: str, expiry: float) -> None:
        with self._transaction():
            self._run(
                f"INSERT INTO {self._member} (team, channel, expires) VALUES (?, ?, ?) "
                "ON CONFLICT (team, channel) DO UPDATE SET expires = excluded.expires",
                *(self._prefix + group, channel, monotonic() + expiry),
            )

    def leave(self, group: str, channel: str) -> None:
        with self._transaction():
            self._run(f"DELETE FROM {self._member} WHERE team = ? AND channel = ?", self._prefix + group, channel)

    def members(self, group: str) -> list[str]:
        rows = self._run(
            f"SELECT channel FROM {self._member} WHERE team = ? AND expires > ?", self._prefix + group, monotonic()
        )
        return [channel for (channel,) in rows]

    def spread(self, group: str | None, members: Sequence[str], body: bytes, limits: Limits) -> tuple[int, list[str]]:
        """Pipes that were full, and the keys of the others."""
        now = monotonic()
        full, rung = 0, []
        with self._transaction():
            self._prune(now)
            for key, locals_ in by_pipe(members if group is None else self.members(group)).items():
                room = limits.exceptions.get(key + locals_[0], limits.room)
                if self._held(self._prefix + key, now, room) >= room:
                    full += 1
                else:
                    self._insert(self._prefix + key, now + limits.expiry, packed(locals_, body))
                    rung.append(key)
        return full, rung

    def flush(self) -> None:
        with self._transaction():
            for table, column in ((self._message, "pipe"), (self._member, "team"), (self._reader, "pipe")):
                self._run(f"DELETE FROM {table} WHERE substr({column}, 1, ?) = ?", len(self._prefix), self._prefix)

    def survey(self) -> list[Seen]:
        now, cut = monotonic(), len(self._prefix)
        rows = self._run(
            f"SELECT pipe, looked, sent FROM {self._reader} WHERE substr(pipe, 1, ?) = ? "
            "AND coalesce(looked, sent) > ? ORDER BY pipe",
            *(cut, self._prefix, now - DAY),
        ).fetchall()
        return [
            Seen(
                pipe[cut:],
                self._held(pipe, now, -1),
                None if looked is None else now - looked,
                None if sent is None else now - sent,
            )
            for pipe, looked, sent in rows
        ]

    def news(self) -> list[str]:
        """The keys of the pipes that hold something, if another connection has changed the file since the last time."""
        version = self._version()
        if version == self._seen:
            return []
        self._seen = version
        cut = len(self._prefix)
        # From each pipe to the next one: DISTINCT would read every message.
        least = f"SELECT min(pipe) FROM {self._message}"
        rows = self._run(
            f"WITH RECURSIVE found (pipe) AS ({least} UNION ALL "
            f"SELECT ({least} WHERE pipe > found.pipe) FROM found WHERE pipe IS NOT NULL) "
            "SELECT pipe FROM found WHERE substr(pipe, 1, ?) = ?",
            *(cut, self._prefix),
        )
        return [pipe[cut:] for (pipe,) in rows]

    # ---- within -----------------------------------------------------------------------------------------------------

    def _run(self, sql: str, *values: object) -> sqlite3.Cursor:
        return self.connection.execute(sql, values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise

    def _version(self) -> int:
        version: int = self._run("PRAGMA data_version").fetchone()[0]
        return version

    def _held(self, pipe: str, now: float, most: int) -> int:
        row = self._run(
            f"SELECT count(*) FROM (SELECT 1 FROM {self._message} WHERE pipe = ? AND expires > ? LIMIT ?)",
            *(pipe, now, most),
        ).fetchone()
        held: int = row[0]
        return held

    def _insert(self, pipe: str, expires: float, content: bytes) -> None:
        self._run(f"INSERT INTO {self._message} (pipe, expires, content) VALUES (?, ?, ?)", pipe, expires, content)

    def _attend(self, pipe: str, now: float) -> None:
        self._run(
            f"INSERT INTO {self._reader} (pipe, looked) VALUES (?, ?) "
            "ON CONFLICT (pipe) DO UPDATE SET looked = excluded.looked, sent = NULL",
            *(pipe, now),
        )

    def _unattended(self, pipe: str, now: float) -> bool:
        """A second is exact enough, and saves a write at each look."""
        row = self._run(f"SELECT looked FROM {self._reader} WHERE pipe = ?", pipe).fetchone()
        return row is None or row[0] is None or row[0] < now - 1

    def _prune(self, now: float) -> None:
        """Inside a transaction, now and then: what nobody read in time, members whose time is over."""
        if now - self._pruned < PRUNE_EVERY:
            return
        self._pruned = now
        self._run(f"DELETE FROM {self._message} WHERE expires < ?", now)
        self._run(f"DELETE FROM {self._member} WHERE expires < ?", now)
        self._run(f"DELETE FROM {self._reader} WHERE coalesce(looked, sent) < ?", now - DAY)

    def _forget_earlier_boots(self) -> None:
        """The clock began anew with the host, and so do the pipes: nothing of an earlier boot is still of use."""
        boot = boot_id()
        row = self._run(f"SELECT id FROM {self._boot}").fetchone()
        if row == (boot,):
            return
        with self._transaction():
            for table in (self._message, self._member, self._reader, self._boot):
                self._run(f"DELETE FROM {table}")
            self._run(f"INSERT INTO {self._boot} (id) VALUES (?)", boot)
