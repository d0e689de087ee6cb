"""Redis as one event loop uses it: one connection, on which everything is said and heard."""

from __future__ import annotations

import asyncio
import os
import struct
from asyncio import AbstractEventLoop, Future
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import hiredis
import redis
from redis.exceptions import MovedError

from outwork.brokers.redis.connections import Wire
from outwork.brokers.redis.faults import Fault
from outwork.contrib.channels.linked import LinkedSession
from outwork.contrib.channels.pipes import Limits, Listener, Parcel, Seen
from outwork.contrib.channels.redis.scripts import script
from outwork.contrib.channels.redis.stream import Broken, Stream

if TYPE_CHECKING:
    from outwork.contrib.channels.redis.store import RedisStore

STAMP: Final = struct.Struct(">d")
ATTEMPTS: Final = 3
"""How often a command is tried that the server has certainly not executed."""
PAUSE: Final = 0.05


class RedisSession(LinkedSession[Stream, Wire]):
    """Parcels for somebody who waits are published to a name of this session's own."""

    def __init__(self, store: RedisStore, loop: AbstractEventLoop, listener: Listener) -> None:
        super().__init__(store.spares, loop, listener)
        self._store = store
        self._id = os.urandom(8).hex()
        self._listens = False
        self._calls: dict[str, tuple[Any, ...]] = {}

    # ---- the verbs --------------------------------------------------------------------------------------------------

    async def push(self, key: str, content: bytes, room: int, expiry: float) -> float | None:
        age: int = await self._run("push", key, content, room, expiry)
        return None if age < 0 else age / 1000

    async def take(self, key: str, limit: int) -> list[Parcel]:
        if not self._listens:
            await self._listen()
        return [_parcel(raw) for raw in await self._run("take", key, limit, self._id)]

    def mute(self, key: str) -> None:
        if self._stream is not None and not self._stream.broken:
            self._send(self._stream, "leave_off", (key, self._id)).add_done_callback(_ignore)

    async def put_back(self, key: str, parcels: Sequence[Parcel]) -> None:
        await self._run("put_back", key, *(STAMP.pack(parcel.expires) + parcel.content for parcel in parcels))

    async def attend(self, keys: Sequence[str]) -> None:
        await self._run("attend", *keys)

    async def join(self, group: str, channel: str, expiry: float) -> None:
        await self._run("join", group, channel, expiry)

    async def leave(self, group: str, channel: str) -> None:
        await self._run("leave", group, channel)

    async def members(self, group: str) -> list[str]:
        return [name.decode("ascii") for name in await self._run("members", group)]

    async def spread(self, group: str | None, members: Sequence[str], body: bytes, limits: Limits) -> int:
        exceptions = [word for name, room in limits.exceptions.items() for word in (name, room)]
        count = len(limits.exceptions)
        full: int = await self._run(
            "spread", group or "", body, limits.room, limits.expiry, count, *exceptions, *members
        )
        return full

    async def flush(self) -> None:
        await self._run("flush", f"{self._store.prefix}*")

    async def survey(self) -> list[Seen]:
        rows = await self._run("survey")
        found = [
            Seen(name.decode("ascii"), unread, _seconds(looked), _seconds(sent)) for name, unread, looked, sent in rows
        ]
        return sorted(found)

    # ---- saying -----------------------------------------------------------------------------------------------------

    async def _run(self, name: str, *arguments: Any) -> Any:
        """The reply of a script. What the server has certainly not executed is tried again; nothing else is."""
        for attempt in range(1, ATTEMPTS + 1):
            stream = await self._connected()
            try:
                return await self._send(stream, name, arguments)
            except hiredis.ReplyError as error:
                text = str(error)
                if text.startswith("NOSCRIPT"):
                    # After a restart. EVAL loads the script as it runs it, so no further right is needed.
                    source = script(name)[0]
                    try:
                        return await stream.call(("EVAL", source, 1, self._store.prefix, *arguments))
                    except (hiredis.ReplyError, Broken) as second:
                        raise self._explained(second, stream).as_error() from second
                fault = self._explained(error, stream)
                if attempt == ATTEMPTS or fault.word not in ("MOVED", "READONLY", "LOADING", "CLUSTERDOWN"):
                    raise fault.as_error() from error
                if fault.word != "LOADING":
                    self._drop(stream)
                await asyncio.sleep(PAUSE * attempt)
            except Broken as error:
                raise self._explained(error, stream).as_error() from error
        raise AssertionError("the last attempt raises or returns")

    def _send(self, stream: Stream, name: str, arguments: tuple[Any, ...]) -> Future[Any]:
        call = self._calls.get(name)
        if call is None:
            call = self._calls[name] = ("EVALSHA", script(name)[1], 1, self._store.prefix)
        return stream.call(call + arguments)

    def _explained(self, error: Exception, stream: Stream) -> Fault:
        if isinstance(error, Broken):
            plain: Exception = redis.TimeoutError(str(error)) if error.silent else redis.ConnectionError(str(error))
        else:
            text = str(error)
            plain = redis.ResponseError(text)
            if text.startswith("MOVED "):
                plain = MovedError(text.removeprefix("MOVED "))
        return self._store.explained(plain, stream.wire)

    # ---- the connection ---------------------------------------------------------------------------------------------

    async def _open(self) -> Wire:
        return await self._store.connect()

    def _begin(self, connection: Wire) -> Stream:
        return Stream(connection, self._loop, self._store.options.timeout, self._heard, self._was_lost)

    def _detached(self, stream: Stream) -> Wire | None:
        return stream.detach()

    def _is_listening(self) -> bool:
        return self._listens

    def _stop_listening(self) -> None:
        self._listens = False

    async def _listen(self) -> None:
        """Begin to hear what is published to this session."""
        stream = await self._connected()
        if self._listens:
            return
        try:
            await stream.call(("SUBSCRIBE", f"{self._store.prefix}s:{self._id}"))
        except (hiredis.ReplyError, Broken) as error:
            raise self._explained(error, stream).as_error() from error
        if stream is self._stream:
            self._listens = True

    def _heard(self, words: list[Any]) -> None:
        if words[0] == b"message":
            key, _, raw = words[2].partition(b"\n")
            self._listener.arrived(key.decode("ascii"), _parcel(raw))

    def _was_lost(self, stream: Stream) -> None:
        if stream is self._stream:
            self._store.connections.lost(stream.wire.era)
        super()._was_lost(stream)

    def _drop(self, stream: Stream) -> None:
        """It leads to a server that is not the right one any more."""
        stream.close()
        self._was_lost(stream)


def _parcel(raw: bytes) -> Parcel:
    return Parcel(0, STAMP.unpack_from(raw)[0], raw[STAMP.size :])


def _seconds(thousandths: int) -> float | None:
    return None if thousandths < 0 else thousandths / 1000


def _ignore(future: Future[Any]) -> None:
    """Nobody waits for this one; what breaks it is seen by others."""
    if not future.cancelled():
        future.exception()
