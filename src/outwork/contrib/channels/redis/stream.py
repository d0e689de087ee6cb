"""One connection in one event loop: commands go out one after the other, replies and messages come in.

The connection is made by the code of the Redis broker, which knows logins, TLS, Sentinel and Cluster.
"""

from __future__ import annotations

import ssl
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import hiredis

from outwork.brokers.redis.connections import Wire
from outwork.contrib.channels.link import Link, Lost

READ_SIZE: Final = 262_144
NOTHING: Final = object()

WANTS_MORE: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

Heard: TypeAlias = Callable[[list[Any]], None]


class Broken(Exception):
    """The connection broke, or the server gave no answer in time (`silent`)."""

    def __init__(self, text: str, *, silent: bool = False) -> None:
        super().__init__(text)
        self.silent = silent


class Stream(Link):
    """`heard` gets what is published to us."""

    def __init__(self, wire: Wire, loop: AbstractEventLoop, timeout: float, heard: Heard, lost: Lost) -> None:
        self.wire = wire
        self._heard = heard
        self._socket = wire.socket
        self._socket.setblocking(False)
        self._parser = hiredis.Reader(notEnoughData=NOTHING)
        self._out = bytearray()
        self._flushing = False
        super().__init__(loop, self._socket.fileno(), timeout, lost)

    def call(self, command: tuple[Any, ...]) -> Future[Any]:
        """Send a command; its reply. The future fails with Broken, or with the server's error as hiredis.ReplyError.

        When nothing is under way it is written at once; else together with what else is said in this turn of the loop.
        """
        idle = not self._calls
        future = self._call("")
        if self.broken:
            return future
        self._out += hiredis.pack_command(command)
        if idle:
            self._write()
        elif not self._flushing and not self._writing:
            self._flushing = True
            self._loop.call_soon(self._write)
        return future

    def detach(self) -> Wire | None:
        """Leave the loop. The connection, if nothing is under way on it, for use in another loop."""
        if self.broken or self._calls or self._out:
            return None
        self._leave()
        return self.wire

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
        else:
            del self._out[:sent]
        self._write_more(bool(self._out))

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
            if not self._calls:
                self._break(Broken("a reply came that nobody asked for"))
                return
            future = self._calls.popleft().future
            if future.done():
                continue
            if isinstance(reply, hiredis.ReplyError):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    def _hang_up(self) -> None:
        self.wire.close()

    def _failure(self, why: str, *, silent: bool = False) -> Broken:
        return Broken(why, silent=silent)
