"""Several stores that share the channels among them, as the field's Redis layer does with several hosts."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from binascii import crc32
from collections.abc import Sequence
from typing import Final

from outwork.contrib.channels.pipes import Limits, Listener, Parcel, Seen, Session, Store, pipe_of

RING: Final = 4096


class SharedOutStore:
    """A pipe, and a group's list of members, is in the store that its name leads to: all processes need the same
    stores in the same order."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = stores
        self.url = ", ".join(store.url for store in stores)

    def open(self, loop: AbstractEventLoop, listener: Listener) -> SharedOutSession:
        return SharedOutSession([store.open(loop, listener) for store in self._stores])

    def close(self) -> None:
        for store in self._stores:
            store.close()


class SharedOutSession:
    """Each verb goes to the store that has the pipe."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = sessions

    def _of(self, name: str) -> Session:
        return self._sessions[(crc32(name.encode("ascii")) % RING) * len(self._sessions) // RING]

    async def push(self, key: str, content: bytes, room: int, expiry: float) -> float | None:
        return await self._of(key).push(key, content, room, expiry)

    async def take(self, key: str, limit: int) -> list[Parcel]:
        return await self._of(key).take(key, limit)

    def mute(self, key: str) -> None:
        self._of(key).mute(key)

    async def put_back(self, key: str, parcels: Sequence[Parcel]) -> None:
        await self._of(key).put_back(key, parcels)

    async def attend(self, keys: Sequence[str]) -> None:
        for key in keys:
            await self._of(key).attend([key])

    async def join(self, group: str, channel: str, expiry: float) -> None:
        await self._of(group).join(group, channel, expiry)

    async def leave(self, group: str, channel: str) -> None:
        await self._of(group).leave(group, channel)

    async def members(self, group: str) -> list[str]:
        return await self._of(group).members(group)

    async def spread(self, group: str | None, members: Sequence[str], body: bytes, limits: Limits) -> int:
        names = members if group is None else await self.members(group)
        shares: dict[Session, list[str]] = {}
        for name in names:
            shares.setdefault(self._of(pipe_of(name)[0]), []).append(name)
        full = 0
        for session, share in shares.items():
            full += await session.spread(None, share, body, limits)
        return full

    async def flush(self) -> None:
        for session in self._sessions:
            await session.flush()

    async def survey(self) -> list[Seen]:
        return sorted([seen for session in self._sessions for seen in await session.survey()])

    def close(self) -> None:
        for session in self._sessions:
            session.close()
