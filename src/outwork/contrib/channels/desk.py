"""The desk of one event loop: who waits there for which pipe, and the asking that this makes necessary.

One session serves all pipes. A pipe is asked while somebody waits for it; when it is empty, the session tells the desk
when something comes. In case it does not (a store that was restarted, a notification lost with its connection) the desk
looks again every few seconds. So nobody is deaf for longer than that, and an idle pipe costs one look in that time.
"""

from __future__ import annotations

import asyncio
import logging
import random
from asyncio import AbstractEventLoop, Future, Task
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from time import monotonic
from typing import Any, Final, Protocol

from outwork.contrib.channels.pipes import Parcel, Session, Store, is_inbox, unpacked
from outwork.contrib.channels.stash import Stash, Waiter
from outwork.errors import BrokerFull, BrokerUnavailable

LOOK_AGAIN: Final = 5.0
"""Seconds between two looks into a pipe that somebody waits for and nothing is heard of."""
AT_ONCE: Final = 128
"""Parcels taken at once for an inbox, which nobody else reads."""
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 5.0
LINE_EVERY: Final = 60.0
PATIENCE: Final = 2.0
"""Seconds for which a loop that ends waits for what is under way."""

logger = logging.getLogger("outwork.channels")


class Room(Protocol):
    """How many messages a channel may hold."""

    def of(self, channel: str) -> int: ...


class Moved(Exception):
    """This desk is closing: there is another one."""


class Errand(Task[Any]):
    """A take or a putting back. A loop that ends cancels all its tasks; but the parcels of a take without an end would
    be lost, so this one is cancelled a little later."""

    def cancel(self, msg: Any = None) -> bool:
        self.get_loop().call_later(PATIENCE, super().cancel, msg)
        return True


class Reader:
    """Somebody who waits for up to `limit` parcels of a fixed channel."""

    __slots__ = ("future", "limit")

    def __init__(self, future: Future[list[Parcel]], limit: int) -> None:
        self.future = future
        self.limit = limit


class Line:
    """A pipe that is, or was, waited for. `asking`: a take is under way; `empty`: it found nothing, and nothing was
    heard since."""

    __slots__ = ("asking", "empty", "key", "readers", "rung", "waiting")

    def __init__(self, key: str) -> None:
        self.key = key
        self.readers: deque[Reader] = deque()
        self.waiting = 0
        self.asking: Future[list[Parcel]] | None = None
        self.empty = False
        self.rung = False


class Desk:
    """Belongs to one event loop and its thread."""

    def __init__(self, store: Store, loop: AbstractEventLoop, stash: Stash, room: Room) -> None:
        self._loop = loop
        self._url = store.url
        self._stash = stash
        self._room = room
        self._lines: dict[str, Line] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._failures = 0
        self._told = 0.0
        self._closed = False
        self._errands: set[Future[Any]] = set()
        self._own: set[Waiter] = set()
        self.session: Session = store.open(loop, self)

    # ---- receiving --------------------------------------------------------------------------------------------------

    async def read(self, key: str, limit: int) -> list[Parcel]:
        """Up to `limit` parcels of a fixed channel, at least one. A cancelled call puts back what it was given. Raises
        Moved, BrokerRefused."""
        line = self._line(key)
        reader = Reader(self._loop.create_future(), limit)
        line.readers.append(reader)
        self._want(line)
        try:
            return await reader.future
        except BaseException:
            await asyncio.shield(self._depart(line, reader))
            raise
        finally:
            self._forget_if_idle(line)

    async def _depart(self, line: Line, reader: Reader) -> None:
        """A reader was cancelled: what it has, or is being fetched for it alone, goes back."""
        future = reader.future
        if reader in line.readers:
            line.readers.remove(reader)
        if future.done() and not future.cancelled() and future.exception() is None:
            await self.put_back(line.key, future.result())
        while line.asking is not None and not line.readers:
            await asyncio.wait([line.asking])
            await asyncio.sleep(0)  # now it has been answered, too
        if self._errands:
            await asyncio.wait(self._errands)

    async def read_own(self, channel: str, key: str) -> bytes:
        """The body of the next message of a channel of this process. Raises Moved."""
        waiter = Waiter(self._loop, self._loop.create_future())
        body = self._stash.wait(channel, waiter)
        if body is not None:
            return body
        line = self._line(key)
        line.waiting += 1
        self._own.add(waiter)
        self._want(line)
        try:
            return await waiter.future
        except BaseException:
            waiter.future.cancel()
            self._stash.leave(channel, waiter)
            raise
        finally:
            line.waiting -= 1
            self._own.discard(waiter)
            self._forget_if_idle(line)

    async def put_back(self, key: str, parcels: list[Parcel]) -> None:
        """Into the store, whose trouble is logged: there is nobody who could be told."""
        if not parcels:
            return
        try:
            await self.session.put_back(key, parcels)
        except (BrokerUnavailable, BrokerFull) as error:
            logger.error("%d messages of %s are lost, because they could not be put back: %s", len(parcels), key, error)

    # ---- what the session says --------------------------------------------------------------------------------------

    def rung(self, key: str | None) -> None:
        for line in [self._lines.get(key)] if key is not None else list(self._lines.values()):
            if line is not None:
                line.empty = False
                line.rung = True
                self._want(line)

    def arrived(self, key: str, parcel: Parcel) -> None:
        line = self._lines.get(key)
        if is_inbox(key):
            self._distribute(key, [parcel])
            if line is not None and not line.waiting and line.empty:
                line.empty = False
                self.session.mute(key)  # so that unread messages fill the pipe, and not this process
            return
        if line is None or not line.readers:
            if line is not None:
                line.empty = False
            self._later(self.put_back(key, [parcel]))
            return
        # The store tells each reader once; and what a take under way has found may be older than this.
        line.empty, line.rung = False, True
        self._serve(line, [parcel])
        self._want(line)

    # ---- asking -----------------------------------------------------------------------------------------------------

    def _line(self, key: str) -> Line:
        return self._lines.get(key) or self._lines.setdefault(key, Line(key))

    def _forget_if_idle(self, line: Line) -> None:
        """A name that is not read any more leaves nothing behind; one that is known to be empty is remembered while
        its store may still tell of it."""
        if not (line.readers or line.waiting or line.asking or line.empty):
            self._lines.pop(line.key, None)

    def _wanted(self, line: Line) -> int:
        if line.waiting:
            return AT_ONCE
        return sum(reader.limit for reader in line.readers)

    def _want(self, line: Line) -> None:
        """Ask, if somebody waits, nobody has asked, and it is not known that nothing is there."""
        limit = self._wanted(line)
        if not limit or line.asking is not None or line.empty or self._closed:
            return
        if self._timer is None:
            self._watch(LOOK_AGAIN)
        line.rung = False
        line.asking = Errand(self._take(line.key, limit), loop=self._loop)
        line.asking.add_done_callback(lambda asked: self._answered(line, asked))

    async def _take(self, key: str, limit: int) -> list[Parcel]:
        return await self.session.take(key, limit)

    def _answered(self, line: Line, asked: Future[list[Parcel]]) -> None:
        line.asking = None
        if self._closed or asked.cancelled():
            return
        error = asked.exception()
        if error is not None:
            self._failed(line, error)
            return
        if self._failures:
            logger.info("connected again to %s", self._url)
            self._failures, self._told = 0, 0.0
        parcels = asked.result()
        inbox = is_inbox(line.key)
        line.empty = not line.rung and (not parcels or (inbox and len(parcels) < AT_ONCE))
        if inbox:
            self._distribute(line.key, parcels)
        else:
            self._serve(line, parcels)
        self._want(line)

    def _failed(self, line: Line, error: BaseException) -> None:
        """A store that is away is asked again for ever. One that says no is not: its readers are told; but consumers,
        who wait for messages of their own, are not ended by it."""
        if not isinstance(error, BrokerUnavailable | BrokerFull):
            while line.readers:
                reader = line.readers.popleft()
                if not reader.future.done():
                    reader.future.set_exception(error)
            if not line.waiting:
                return
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10))
        self._failures += 1
        if not self._told or monotonic() - self._told >= LINE_EVERY:
            self._told = monotonic()
            logger.error("%s: %s. Trying again", self._url, error)
        self._loop.call_later(longest * random.uniform(0.5, 1.0), self.rung, line.key)

    def _serve(self, line: Line, parcels: list[Parcel]) -> None:
        """Give them to the readers, in their order; what is left goes back."""
        left = deque(parcels)
        while left and line.readers:
            reader = line.readers.popleft()
            if not reader.future.done():
                reader.future.set_result([left.popleft() for _ in range(min(reader.limit, len(left)))])
        if left:
            self._later(self.put_back(line.key, list(left)))

    def _distribute(self, key: str, parcels: list[Parcel]) -> None:
        for parcel in parcels:
            locals_, body = unpacked(parcel.content)
            for local in locals_:
                channel = key + local
                self._stash.put(channel, body, room=self._room.of(channel))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin what nobody waits for; kept here, because the loop itself holds its tasks weakly."""
        task = Errand(work, loop=self._loop)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    # ---- looking again ----------------------------------------------------------------------------------------------

    def _watch(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds * random.uniform(0.75, 1.0), self._look)

    def _look(self) -> None:
        self._timer = None
        for line in list(self._lines.values()):
            if line.readers or line.waiting:
                line.empty = False
                self._want(line)
                if self._timer is None:
                    self._watch(LOOK_AGAIN)
            elif line.asking is None:
                del self._lines[line.key]

    # ---- the end ----------------------------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Send everybody who waits to the next desk, and let end what is under way."""
        for line in self._lines.values():
            while line.readers:
                _send_away(line.readers.popleft().future)
        for waiter in self._own:
            _send_away(waiter.future)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while under_way := {*self._errands, *(line.asking for line in self._lines.values() if line.asking)}:
                    await asyncio.wait(under_way)
                    await asyncio.sleep(0)

    def close(self) -> None:
        """The loop ends, or everybody has left."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.session.close()


def _send_away(future: Future[Any]) -> None:
    if not future.done():
        future.set_exception(Moved())
