"""PostgreSQL as one event loop uses it."""

from __future__ import annotations

import struct
from asyncio import AbstractEventLoop
from collections.abc import Iterable, Sequence
from hashlib import md5
from time import monotonic
from typing import TYPE_CHECKING, Final

import psycopg

from outwork.brokers.sql.postgresql.session import explained
from outwork.contrib.channels.linked import LinkedSession
from outwork.contrib.channels.pipes import Limits, Listener, Parcel, Seen, is_inbox
from outwork.contrib.channels.postgresql.stream import Opened, Row, Stream, Value
from outwork.contrib.channels.room import EXACT, Room, Seldom
from outwork.errors import BrokerUnavailable

if TYPE_CHECKING:
    from outwork.contrib.channels.postgresql.store import PostgreSQLStore

TIMEOUT: Final = 20.0
PRUNE_EVERY: Final = 60.0
ASK_EVERY: Final = 0.25
"""Seconds between two pushes to a channel that ask whether it is read."""
TELL_EVERY: Final = 1.0
"""Seconds between two takes that tell it."""
LONG: Final = struct.Struct(">q")
DOUBLE: Final = struct.Struct(">d")


class PostgreSQLSession(LinkedSession[Stream, Opened]):
    """The connection listens for the pipes that somebody has waited for."""

    def __init__(self, store: PostgreSQLStore, loop: AbstractEventLoop, listener: Listener) -> None:
        super().__init__(store.spares, loop, listener)
        self._store = store
        self._listens: set[str] = set()
        self._pruned = monotonic()
        self._room = Room()
        self._asked = Seldom(ASK_EVERY)
        self._told = Seldom(TELL_EVERY)

    # ---- the verbs --------------------------------------------------------------------------------------------------

    async def push(self, key: str, content: bytes, room: int, expiry: float) -> float | None:
        fixed = not is_inbox(key)
        pipe, spoken = self._name(key), key.encode("ascii")
        count = self._room.is_to_be_counted(key, room)
        if (count and room > EXACT) or (fixed and self._asked.is_due(key)):
            rows = await self._call(
                *("push", pipe, content, _text(room), _text(expiry), _bool(fixed), spoken, _bool(count)), binary=(1,)
            )
            if count and rows:
                self._room.counted(key, _long(rows[0][1]), room)
            age = rows[0][0] if rows else None
        else:
            rows = await self._call(
                "append", pipe, content, _text(room), _text(expiry), spoken, _bool(count), binary=(1,)
            )
            age = None
        await self._prune()
        if not rows:
            return None
        return 0.0 if age is None else max(0.0, _double(age))

    async def take(self, key: str, limit: int) -> list[Parcel]:
        stream = await self._connected()
        pipe = self._name(key)
        if key not in self._listens:
            try:
                await stream.say(f'LISTEN "outwork_{md5(pipe, usedforsecurity=False).hexdigest()}"')
            except psycopg.Error as error:
                raise explained(error, self._store.url) from error
            if stream is self._stream:
                self._listens.add(key)
        found: list[Parcel] = []
        looked = _bool(not is_inbox(key) and self._told.is_due(key))
        while not found:
            rows = await self._call("take", pipe, _text(limit), looked)
            found = [
                Parcel(_long(place), _double(expires), content or b"")
                for place, expires, content, good in rows
                if good == b"\x01"
            ]
            if len(rows) < limit:
                break
        return found

    def mute(self, key: str) -> None:
        return  # parcels stay in their pipe until they are taken

    async def put_back(self, key: str, parcels: Sequence[Parcel]) -> None:
        pipe, spoken = self._name(key), key.encode("ascii")
        for parcel in parcels:
            await self._call(
                "put_back", _text(parcel.place), pipe, _text(parcel.expires), parcel.content, spoken, binary=(3,)
            )

    async def attend(self, keys: Sequence[str]) -> None:
        await self._call("attend", _texts(self._store.prefix + key for key in sorted(keys)))

    async def join(self, group: str, channel: str, expiry: float) -> None:
        await self._call("join", self._name(group), channel.encode("ascii"), _text(expiry))

    async def leave(self, group: str, channel: str) -> None:
        await self._call("leave", self._name(group), channel.encode("ascii"))

    async def members(self, group: str) -> list[str]:
        return [(name or b"").decode("ascii") for [name] in await self._call("members", self._name(group))]

    async def spread(self, group: str | None, members: Sequence[str], body: bytes, limits: Limits) -> int:
        team = None if group is None else self._name(group)
        [[full, _]] = await self._call(
            "spread",
            *(team, _texts(members), self._store.prefix.encode("ascii"), body),
            *(_text(limits.expiry), _text(limits.room)),
            *(_texts(limits.exceptions), _texts(map(str, limits.exceptions.values()))),
            binary=(3,),
        )
        return _long(full)

    async def flush(self) -> None:
        self._asked.forget()
        self._told.forget()
        for name in ("forget_messages", "forget_members", "forget_readers"):
            await self._call(name, self._store.prefix.encode("ascii"))

    async def survey(self) -> list[Seen]:
        rows = await self._call("survey", self._store.prefix.encode("ascii"))
        cut = len(self._store.prefix)
        found = [
            Seen(
                (pipe or b"").decode("ascii")[cut:],
                _long(unread),
                None if looked is None else max(0.0, _double(looked)),
                None if sent is None else max(0.0, _double(sent)),
            )
            for pipe, unread, looked, sent in rows
        ]
        return sorted(found)

    # ---- saying -----------------------------------------------------------------------------------------------------

    def _name(self, key: str) -> bytes:
        return (self._store.prefix + key).encode("ascii")

    async def _call(self, name: str, *values: Value, binary: Sequence[int] = ()) -> list[Row]:
        stream = await self._connected()
        try:
            return await stream.call(name, *values, binary=binary)
        except psycopg.Error as error:
            raise explained(error, self._store.url) from error

    async def _prune(self) -> None:
        """Now and then: what nobody read in time, and members whose time is over."""
        now = monotonic()
        if now - self._pruned < PRUNE_EVERY:
            return
        self._pruned = now
        for name in ("prune_messages", "prune_members", "prune_readers"):
            try:
                await self._call(name)
            except BrokerUnavailable:  # the message was sent; whoever sends next prunes
                return

    # ---- the connection ---------------------------------------------------------------------------------------------

    async def _open(self) -> Opened:
        return await self._store.connect()

    def _begin(self, connection: Opened) -> Stream:
        store = self._store
        return Stream(connection, self._loop, store.statements, TIMEOUT, self._listener.rung, self._was_lost)

    def _detached(self, stream: Stream) -> Opened | None:
        return stream.detach()

    def _is_listening(self) -> bool:
        return bool(self._listens)

    def _stop_listening(self) -> None:
        self._listens.clear()


def _bool(value: bool) -> bytes:
    return b"t" if value else b"f"


def _text(value: object) -> bytes:
    return str(value).encode("ascii")


def _texts(values: Iterable[str]) -> bytes:
    """An array's literal; names hold nothing that would have to be escaped."""
    return ("{" + ",".join(f'"{value}"' for value in values) + "}").encode("ascii")


def _long(value: bytes | None) -> int:
    found: int = LONG.unpack(value or b"")[0]
    return found


def _double(value: bytes | None) -> float:
    found: float = DOUBLE.unpack(value or b"")[0]
    return found
