"""Pipes in the memory of this process: the executable specification, and what tests use."""

from __future__ import annotations

import asyncio
import threading
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Final

from outwork.contrib.channels.pipes import Limits, Listener, Parcel, Seen, by_pipe, is_inbox, packed

SWEEP_EVERY: Final = 1024
"""Messages after which pipes are forgotten that hold nothing but what has expired."""
LONGEST_MEMORY: Final = 86_400.0
"""Seconds after which a channel is forgotten that nobody sends to or reads."""


class MemoryStore:
    """Shared by the event loops of a process, which may run in several threads."""

    def __init__(self, url: str = "memory:") -> None:
        self.url = url
        self.lock = threading.Lock()
        self.pipes: dict[str, deque[Parcel]] = {}
        self.groups: dict[str, dict[str, float]] = {}
        self.looked: dict[str, float] = {}
        self.sent: dict[str, float] = {}
        self.sessions: list[MemorySession] = []
        self._pushes = 0

    def open(self, loop: AbstractEventLoop, listener: Listener) -> MemorySession:
        session = MemorySession(self, loop, listener)
        with self.lock:
            self.sessions.append(session)
        return session

    def close(self) -> None:
        return

    def append(self, key: str, content: bytes, room: int, expiry: float) -> bool:
        """Under the lock: whether there was room."""
        now = monotonic()
        self._pushes += 1
        if self._pushes % SWEEP_EVERY == 0:
            for name in [name for name, line in self.pipes.items() if not line or line[-1].expires <= now]:
                del self.pipes[name]
            for group in list(self.groups):
                self.members_of(group, now)
        pipe = self.pipes.setdefault(key, deque())
        while pipe and pipe[0].expires <= now:
            pipe.popleft()
        if len(pipe) >= room:
            return False
        pipe.append(Parcel(0, now + expiry, content))
        return True

    def members_of(self, group: str, now: float) -> list[str]:
        """Under the lock: those whose time is not over; the others are forgotten."""
        members = self.groups.get(group, {})
        for channel in [channel for channel, expires in members.items() if expires <= now]:
            del members[channel]
        if not members:
            self.groups.pop(group, None)
        return list(members)

    def ring(self, key: str) -> None:
        with self.lock:
            sessions = list(self.sessions)
        for session in sessions:
            session.ring(key)


class MemorySession:
    """Nothing here takes time, so nothing is awaited but what the contract says."""

    def __init__(self, store: MemoryStore, loop: AbstractEventLoop, listener: Listener) -> None:
        self._store = store
        self._loop = loop
        self._listener = listener

    def ring(self, key: str) -> None:
        """From any thread."""
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._listener.rung(key)
        else:
            with suppress(RuntimeError):  # that loop was closed, and nobody waits there
                self._loop.call_soon_threadsafe(self._listener.rung, key)

    async def push(self, key: str, content: bytes, room: int, expiry: float) -> float | None:
        store, now = self._store, monotonic()
        with store.lock:
            if not store.append(key, content, room, expiry):
                return None
            unserved = 0.0
            if not is_inbox(key):
                since = store.looked.get(key) or store.sent.setdefault(key, now)
                unserved = now - since
        store.ring(key)
        return unserved

    async def take(self, key: str, limit: int) -> list[Parcel]:
        store, now = self._store, monotonic()
        found: list[Parcel] = []
        with store.lock:
            if not is_inbox(key):
                store.looked[key] = now
                store.sent.pop(key, None)
            pipe = store.pipes.get(key)
            while pipe and len(found) < limit:
                parcel = pipe.popleft()
                if parcel.expires > now:
                    found.append(parcel)
            if pipe is not None and not pipe:
                del store.pipes[key]
        return found

    def mute(self, key: str) -> None:
        return  # parcels stay in their pipe until they are taken

    async def put_back(self, key: str, parcels: Sequence[Parcel]) -> None:
        with self._store.lock:
            self._store.pipes.setdefault(key, deque()).extendleft(reversed(parcels))
        self._store.ring(key)

    async def attend(self, keys: Sequence[str]) -> None:
        with self._store.lock:
            for key in keys:
                self._store.looked[key] = monotonic()
                self._store.sent.pop(key, None)

    async def join(self, group: str, channel: str, expiry: float) -> None:
        with self._store.lock:
            self._store.groups.setdefault(group, {})[channel] = monotonic() + expiry

    async def leave(self, group: str, channel: str) -> None:
        with self._store.lock:
            members = self._store.groups.get(group, {})
            members.pop(channel, None)
            if not members:
                self._store.groups.pop(group, None)

    async def members(self, group: str) -> list[str]:
        with self._store.lock:
            return self._store.members_of(group, monotonic())

    async def spread(self, group: str | None, members: Sequence[str], body: bytes, limits: Limits) -> int:
        names = members if group is None else await self.members(group)
        full = 0
        for key, locals_ in by_pipe(names).items():
            room = limits.exceptions.get(key + locals_[0], limits.room)
            with self._store.lock:
                kept = self._store.append(key, packed(locals_, body), room, limits.expiry)
            if kept:
                self._store.ring(key)
            else:
                full += 1
        return full

    async def flush(self) -> None:
        store = self._store
        with store.lock:
            for everything in (store.pipes, store.groups, store.looked, store.sent):
                everything.clear()

    async def survey(self) -> list[Seen]:
        store, now = self._store, monotonic()
        with store.lock:
            for times in (store.looked, store.sent):
                for key in [key for key, then in times.items() if now - then > LONGEST_MEMORY]:
                    del times[key]
            keys = {key for key in (*store.pipes, *store.looked, *store.sent) if not is_inbox(key)}
            return [
                Seen(
                    key,
                    sum(parcel.expires > now for parcel in store.pipes.get(key, ())),
                    now - store.looked[key] if key in store.looked else None,
                    now - store.sent[key] if key in store.sent else None,
                )
                for key in sorted(keys)
            ]

    def close(self) -> None:
        with self._store.lock:
            if self in self._store.sessions:
                self._store.sessions.remove(self)
