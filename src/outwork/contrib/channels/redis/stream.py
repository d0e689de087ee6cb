"""One connection in one event loop: commands go out one after the other, replies and messages come in.

The connection is made by the code of the Redis broker, which knows logins, TLS, Sentinel and Cluster; then its socket
is read and written here, without tasks and streams: a command costs a future, a packing in C and half a system call.
"""

from __future__ import annotations

import ssl
from asyncio import AbstractEventLoop, Future, TimerHandle
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, TypeAlias

import hiredis

from outwork.brokers.redis.connections import Wire

READ_SIZE: Final = 262_144
NOTHING: Final = object()

WANTS_MORE: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

Heard: TypeAlias = Callable[[list[Any]], None]
Lost: TypeAlias = Callable[["Stream"], None]


class Broken(Exception):
    """The connection broke, or the server gave no answer in time (`silent`)."""

    def __init__(self, text: str, *, silent: bool = False) -> None:
        super().__init__(text)
        self.silent = silent


class Stream:
    """`heard` gets what is published to us, `lost` is called once when the connection has broken."""

    def __init__(self, wire: Wire, loop: AbstractEventLoop, timeout: float, heard: Heard, lost: Lost) -> None:
        self.wire = wire
        self._loop = loop
        self._timeout = timeout
        self._heard = heard
        self._lost = lost
        self._socket = wire.socket
        self._socket.setblocking(False)
        self._handle = self._socket.fileno()
        self._parser = hiredis.Reader(notEnoughData=NOTHING)
        self._replies: deque[tuple[Future[Any], float]] = deque()
        self._out = bytearray()
        self._flushing = False
        self._writing = False
        self._timer: TimerHandle | None = None
        self.broken = False
        loop.add_reader(self._handle, self._read)

    def call(self, command: tuple[Any, ...]) -> Future[Any]:
        """Send a command; its reply. The future fails with Broken, or with the server's error as hiredis.ReplyError.

        When nothing is under way it is written at once; else together with what else is said in this turn of the loop.
        """
        future: Future[Any] = self._loop.create_future()
        if self.broken:
            future.set_exception(Broken("it is closed"))
            return future
        idle = not self._replies
        self._replies.append((future, monotonic() + self._timeout))
        self._out += hiredis.pack_command(command)
        if idle:
            self._write()
        elif not self._flushing and not self._writing:
            self._flushing = True
            self._loop.call_soon(self._write)
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout, self._check_time)
        return future

    def detach(self) -> Wire | None:
        """Leave the loop. The connection, if nothing is under way on it, for use in another loop."""
        idle = not self.broken and not self._replies and not self._out
        self._leave()
        if idle:
            return self.wire
        self.wire.close()
        return None

    def close(self) -> None:
        self._leave()
        self.wire.close()

    # ---- the loop calls ---------------------------------------------------------------------------------------------

    def _write(self) -> None:
        self._flushing = False
        if self.broken or not self._out:
            return
        try:
            sent = self._socket.send(self._out)
        except WANTS_MORE:
            sent = 0
        except OSError as error:
            self._break(Broken(str(error)))
            return
        if sent == len(self._out):
            self._out.clear()
            if self._writing:
                self._writing = False
                self._loop.remove_writer(self._handle)
            return
        del self._out[:sent]
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self._handle, self._write)

    def _read(self) -> None:
        while not self.broken:
            try:
                data = self._socket.recv(READ_SIZE)
            except WANTS_MORE:
                return
            except OSError as error:
                self._break(Broken(str(error)))
                return
            if not data:
                self._break(Broken("the server closed it"))
                return
            self._parser.feed(data)
            self._dispatch()
            if len(data) < READ_SIZE and not isinstance(self._socket, ssl.SSLSocket):
                return

    def _dispatch(self) -> None:
        gets = self._parser.gets
        while not self.broken:
            try:
                reply = gets()
            except hiredis.HiredisError as error:
                self._break(Broken(f"what came is not RESP: {error}"))
                return
            if reply is NOTHING:
                return
            if isinstance(reply, hiredis.PushNotification) and reply[0] != b"subscribe":
                self._heard(list(reply))
                continue
            if not self._replies:
                self._break(Broken("a reply came that nobody asked for"))
                return
            future, _ = self._replies.popleft()
            if future.done():
                continue
            if isinstance(reply, hiredis.ReplyError):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    def _check_time(self) -> None:
        self._timer = None
        if not self._replies:
            return
        left = self._replies[0][1] - monotonic()
        if left <= 0:
            self._break(Broken("no answer in time", silent=True))
        else:
            self._timer = self._loop.call_later(left, self._check_time)

    def _break(self, error: Broken) -> None:
        if self.broken:
            return
        replies = list(self._replies)
        self.close()
        for future, _ in replies:
            if not future.done():
                future.set_exception(error)
        self._lost(self)

    def _leave(self) -> None:
        self.broken = True
        self._replies.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._loop.is_closed():
            self._loop.remove_reader(self._handle)
            if self._writing:
                self._loop.remove_writer(self._handle)
