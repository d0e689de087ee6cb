"""Pipes in a SQLite file, for the processes of one host. inotify on its log is the wake-up."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, Self, TypeVar

from outwork.brokers.sql.names import PREFIX, identifier
from outwork.brokers.sql.sqlite import file_path
from outwork.brokers.sql.sqlite.file import missing_directory, refuse_network
from outwork.brokers.sql.sqlite.inotify import FileWatch
from outwork.brokers.url import BrokerURL, seconds
from outwork.contrib.channels.pipes import Limits, Listener, Parcel, Seen
from outwork.contrib.channels.sqlite_pipes import TABLES, Pipes
from outwork.errors import BrokerFull, BrokerRefused, BrokerUnavailable, InvalidURL, OutworkError
from outwork.job import Terms

R = TypeVar("R")

BUSY_TIMEOUT: Final = 10.0
STEPS: Final = (0.0, 0.0005, 0.002, 0.005, 0.02, 0.1)
"""Seconds between the looks after the log was written: the commit becomes visible a moment later."""
POLL: Final = 0.05
"""Seconds between two looks where there is no inotify."""
LOST_WORDS: Final = ("locked", "busy")
FULL_WORDS: Final = ("full",)


class SQLiteStore:
    """A file, which is made if it is not there."""

    def __init__(self, path: str, prefix: str, tables: str, busy_timeout: float) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self.prefix = prefix
        self.tables = tables
        self._busy_timeout = busy_timeout

    @classmethod
    def from_url(cls, url: str, prefix: str) -> Self:
        """The options of the SQLite broker's URL, of which `table_prefix` and `busy_timeout` are heeded. Raises
        InvalidURL."""
        parts = BrokerURL(url)
        spelled = file_path(parts)
        parts.terms(Terms())
        tables = parts.option("table_prefix", identifier, PREFIX)
        busy_timeout = parts.option("busy_timeout", seconds, BUSY_TIMEOUT)
        for name in ("embedded", "concurrency", "threads", "children"):
            parts.option(name, str, "")
        parts.done()
        path = os.path.abspath(spelled)
        if not os.path.isdir(os.path.dirname(path)):
            raise InvalidURL(f"{parts.shown}: {missing_directory(path, spelled)}")
        return cls(path, prefix, tables, busy_timeout)

    def open(self, loop: AbstractEventLoop, listener: Listener) -> SQLiteSession:
        return SQLiteSession(self, loop, listener)

    def close(self) -> None:
        return

    def connect(self) -> sqlite3.Connection:
        """Raises sqlite3.Error, BrokerRefused."""
        refuse_network(self.path)
        connection = sqlite3.connect(
            self.path, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            for statement in TABLES.replace("{p}", self.tables).split(";"):
                connection.execute(statement)
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection


class SQLiteSession:
    """A connection, and the one thread that uses it, so that a lock held by another process stops no event loop."""

    def __init__(self, store: SQLiteStore, loop: AbstractEventLoop, listener: Listener) -> None:
        self._store = store
        self._loop = loop
        self._listener = listener
        self._thread = ThreadPoolExecutor(1, "outwork-channels")
        self._pipes: Pipes | None = None
        self._watch: FileWatch | None = None
        self._steps = iter(STEPS)
        self._timer: TimerHandle | None = None
        self._looking = False
        self._closed = False

    async def push(self, key: str, content: bytes, room: int, expiry: float) -> float | None:
        unserved = await self._do(lambda pipes: pipes.push(key, content, room, expiry))
        if unserved is not None:
            self._listener.rung(key)  # who waits here sees no change that this connection made
        return unserved

    async def take(self, key: str, limit: int) -> list[Parcel]:
        found = await self._do(lambda pipes: pipes.take(key, limit))
        self._listen()
        return found

    def mute(self, key: str) -> None:
        return  # parcels stay in their pipe until they are taken

    async def put_back(self, key: str, parcels: Sequence[Parcel]) -> None:
        await self._do(lambda pipes: pipes.put_back(key, parcels))
        self._listener.rung(key)

    async def attend(self, keys: Sequence[str]) -> None:
        await self._do(lambda pipes: pipes.attend(keys))

    async def join(self, group: str, channel: str, expiry: float) -> None:
        await self._do(lambda pipes: pipes.join(group, channel, expiry))

    async def leave(self, group: str, channel: str) -> None:
        await self._do(lambda pipes: pipes.leave(group, channel))

    async def members(self, group: str) -> list[str]:
        return await self._do(lambda pipes: pipes.members(group))

    async def spread(self, group: str | None, members: Sequence[str], body: bytes, limits: Limits) -> int:
        full, rung = await self._do(lambda pipes: pipes.spread(group, members, body, limits))
        for key in rung:
            self._listener.rung(key)
        return full

    async def flush(self) -> None:
        await self._do(lambda pipes: pipes.flush())

    async def survey(self) -> list[Seen]:
        return await self._do(lambda pipes: pipes.survey())

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._watch.fd)
            self._watch.close()
        self._thread.submit(self._hang_up)
        self._thread.shutdown()

    def _hang_up(self) -> None:
        if self._pipes is not None:
            self._pipes.connection.close()

    # ---- the thread -------------------------------------------------------------------------------------------------

    async def _do(self, work: Callable[[Pipes], R]) -> R:
        return await self._loop.run_in_executor(self._thread, self._work, work)

    def _work(self, work: Callable[[Pipes], R]) -> R:
        """On the thread. Raises what the contract says."""
        try:
            if self._pipes is None:
                store = self._store
                self._pipes = Pipes(store.connect(), store.prefix, store.tables)
            return work(self._pipes)
        except sqlite3.Error as error:
            if self._pipes is not None:
                with suppress(sqlite3.Error):
                    self._pipes.connection.close()
                self._pipes = None
            raise _explained(error, self._store) from error

    # ---- the bell ---------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if self._watch is not None or self._timer is not None or self._closed:
            return
        try:
            self._watch = FileWatch(f"{self._store.path}-wal")
        except OSError:  # not Linux, or no instance is left
            self._timer = self._loop.call_later(POLL, self._poll)
        else:
            self._loop.add_reader(self._watch.fd, self._written)

    def _poll(self) -> None:
        self._look()
        self._timer = self._loop.call_later(POLL, self._poll)

    def _written(self) -> None:
        if self._watch is not None and self._watch.drain():
            self._steps = iter(STEPS)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._look_soon()

    def _look_soon(self) -> None:
        pause = next(self._steps, None)
        if pause is not None and not self._closed:
            self._timer = self._loop.call_later(pause, self._step)

    def _step(self) -> None:
        self._timer = None
        self._look()

    def _look(self) -> None:
        """Whether another connection has changed the file: 8 µs on the thread."""
        if self._looking or self._closed:
            return
        self._looking = True
        # No coroutine: this timer may fire while the loop ends, when no task would be begun any more.
        asked = self._loop.run_in_executor(self._thread, self._work, _news)
        asked.add_done_callback(self._looked)

    def _looked(self, asked: asyncio.Future[list[str]]) -> None:
        self._looking = False
        if asked.cancelled() or self._closed:
            return
        error = asked.exception()
        keys = [] if error is not None else asked.result()
        for key in keys:
            self._listener.rung(key)
        if self._watch is not None and self._timer is None and not keys:
            self._look_soon()


def _news(pipes: Pipes) -> list[str]:
    return pipes.news()


def _explained(error: sqlite3.Error, store: SQLiteStore) -> OutworkError:
    text = str(error)
    if any(word in text for word in FULL_WORDS):
        return BrokerFull(f"{store.url} has no room: {text}. Free some; nothing has to be restarted here")
    if isinstance(error, sqlite3.OperationalError) and any(word in text for word in LOST_WORDS):
        return BrokerUnavailable(f"{store.url}: {text}. Another process holds the file for long")
    if isinstance(error, sqlite3.OperationalError):
        return BrokerUnavailable(f"{store.url}: {text}. Check that its directory is there, and may be written to")
    return BrokerRefused(f"{store.url}: {text}. It is no SQLite file, or damaged: name another one")
