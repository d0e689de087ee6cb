"""Pipes on Redis or Valkey: every verb is one script, every message one publication to a reader who waits for it."""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop
from typing import Final, Self

import redis
from msgspec.structs import replace

from outwork.brokers.redis.connections import Connections, Wire
from outwork.brokers.redis.faults import Fault, explain
from outwork.brokers.redis.options import Options, read_options
from outwork.contrib.channels.linked import Spares, opened
from outwork.contrib.channels.pipes import Listener
from outwork.contrib.channels.redis.session import RedisSession

OLDEST: Final = (6, 2)


class RedisStore:
    """The connections of one process to one server, of whatever layout."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.url = options.url
        self.connections = Connections(options)
        self.prefix = f"{{{options.namespace}}}:"
        self.spares: Spares[Wire] = Spares(_disown)

    @classmethod
    def from_url(cls, url: str, prefix: str) -> Self:
        """Raises InvalidURL."""
        return cls(replace(read_options(url, None), namespace=prefix))

    def open(self, loop: AbstractEventLoop, listener: Listener) -> RedisSession:
        return RedisSession(self, loop, listener)

    def close(self) -> None:
        self.spares.close()

    async def connect(self) -> Wire:
        """A new connection. Raises BrokerUnavailable, BrokerRefused."""
        try:
            return await opened(self._connect)
        except Fault as fault:
            raise fault.as_error() from fault

    def _connect(self) -> Wire:
        wire = self.connections.open()
        try:
            wire.send(("PING",), ("HELLO", 3))
            wire.reply()  # who may not say PING is told why in plainer words than who may not say HELLO
            hello = wire.reply()
            if isinstance(hello, list):  # this parser has not changed to the new protocol yet
                hello = dict(zip(hello[::2], hello[1::2], strict=False))
            version = tuple(int(part) for part in hello[b"version"].decode().split(".")[:2])
        except (redis.RedisError, OSError) as error:
            wire.close()
            raise self.explained(error, wire) from error
        if version < OLDEST:
            wire.close()
            text = f"the server at {self.connections.place} has version {version}; 6.2 or newer is needed. Upgrade it"
            raise Fault("REFUSED", f"{self.url}: {text}")
        return wire

    def explained(self, error: Exception, wire: Wire | None) -> Fault:
        """What this error means; a server that is not, or no longer, the right one is looked for anew."""
        fault = explain(error, self.connections.place, self.options, connecting=False)
        if wire is not None and fault.word not in ("BUSY", "OOM", "NOREPLICAS", "NOPERM", "WRONGTYPE"):
            self.connections.lost(wire.era, fault.place if self.options.layout == "cluster" else None)
        return fault


def _disown(wire: Wire) -> None:
    """A child closes its copies of the parent's sockets, which does the parent no harm."""
    os.close(wire.socket.detach())
