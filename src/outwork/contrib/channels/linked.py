"""What the sessions and the stores of servers have in common: one connection for a loop, and those that loops left."""

from __future__ import annotations

import asyncio
import os
import select
from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from outwork.contrib.channels.link import Link
from outwork.contrib.channels.pipes import Listener

IDLE: Final = 8
"""Connections that a process keeps for its next event loops."""


class Connection(Protocol):
    """Outside of any loop."""

    def fileno(self) -> int: ...
    def close(self) -> None: ...


C = TypeVar("C", bound=Connection)
L = TypeVar("L", bound=Link)


class Spares(Generic[C]):
    """Connections without a loop, on which nothing is under way and nobody listens. For all threads. `disown`: what a
    child does with its copy of one of its parent's, which must not be told to the server."""

    def __init__(self, disown: Callable[[C], object]) -> None:
        self._disown = disown
        self._kept: deque[C] = deque()
        self._pid = os.getpid()

    def take(self) -> C | None:
        """One that is in good order."""
        self._mind_fork()
        while (connection := self._next()) is not None:
            poll = select.poll()
            poll.register(connection.fileno(), select.POLLIN)
            if not poll.poll(0):
                return connection
            # Something is to be read although nothing was asked: the server has closed it.
            connection.close()
        return None

    def keep(self, connection: C) -> None:
        self._mind_fork()
        if len(self._kept) < IDLE:
            self._kept.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        self._mind_fork()
        while (connection := self._next()) is not None:
            connection.close()

    def _next(self) -> C | None:
        try:
            return self._kept.pop()
        except IndexError:
            return None

    def _mind_fork(self) -> None:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            while (connection := self._next()) is not None:
                self._disown(connection)


class LinkedSession(ABC, Generic[L, C]):
    """The connection is made when it is needed, and again when it is lost and somebody asks."""

    def __init__(self, spares: Spares[C], loop: AbstractEventLoop, listener: Listener) -> None:
        self._spares = spares
        self._loop = loop
        self._listener = listener
        self._stream: L | None = None
        self._connecting: asyncio.Task[L] | None = None

    def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        stream, self._stream = self._stream, None
        if stream is None or stream.broken:
            return
        connection = None if self._is_listening() else self._detached(stream)
        if connection is None:
            stream.close()
        else:
            self._spares.keep(connection)

    @abstractmethod
    async def _open(self) -> C:
        """A new connection. Raises BrokerUnavailable, BrokerRefused."""

    @abstractmethod
    def _begin(self, connection: C) -> L:
        """Use it in this loop."""

    @abstractmethod
    def _detached(self, stream: L) -> C | None:
        """The connection without its loop, if nothing is under way on it."""

    @abstractmethod
    def _is_listening(self) -> bool:
        """Whether the server tells this connection of parcels."""

    @abstractmethod
    def _stop_listening(self) -> None:
        """It is another connection, which the server tells nothing yet."""

    async def _connected(self) -> L:
        """The connection, made if necessary; who asks together gets the same one."""
        stream = self._stream
        if stream is not None and not stream.broken:
            return stream
        if self._connecting is None:
            spare = self._spares.take()
            if spare is not None:
                return self._use(spare)
            self._connecting = asyncio.ensure_future(self._connect())
            self._connecting.add_done_callback(self._forget)
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> L:
        return self._use(await self._open())

    def _use(self, connection: C) -> L:
        self._stop_listening()
        self._stream = self._begin(connection)
        return self._stream

    def _forget(self, task: asyncio.Task[L]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # whoever waited has it

    def _was_lost(self, stream: L) -> None:
        if stream is self._stream:
            self._stream = None
            self._stop_listening()
            self._loop.call_soon(self._listener.rung, None)


async def opened(open_: Callable[[], C]) -> C:
    """Call it on a thread. What it opens when nobody wants it any more is closed."""
    opening = asyncio.get_running_loop().run_in_executor(None, open_)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_it)
        raise


def _close_it(opening: Future[C]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
