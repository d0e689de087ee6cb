"""Finding the server, also by Sentinel or in a Cluster, and keeping connections to it.

redis-py's connection class is used for what it knows (login, TLS, parsing), its clients and pools are not: the clients
send a write again when its reply is lost, and cost 20 us a command. All keys of a namespace are in one slot, so in a
Cluster the one node that has this slot is all we talk to.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from socket import socket
from typing import Any, Final, Protocol, TypeAlias, cast

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from outwork.brokers.redis.faults import Fault, explain
from outwork.brokers.redis.options import Address, Options

IDLE: Final = 8
"""Connections kept that nobody uses. More are opened while more threads call at once."""
SPARE: Final = 20.0
"""Seconds after which a connection beside the last one is closed that nobody needed."""
READ_SIZE: Final = 131_072
"""Bytes read at once: the reply to an exchange of 200 small jobs has 60 KB."""

Argument: TypeAlias = str | bytes | int | float
Command: TypeAlias = tuple[Argument, ...]


class Link(Protocol):
    """The part of redis-py's connections that is used here; it is the same in versions 6 to 8."""

    _sock: Any

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def pack_command(self, *args: Argument) -> list[bytes]: ...
    def send_packed_command(self, command: list[bytes], check_health: bool = ...) -> None: ...
    def read_response(self) -> Any: ...
    def can_read(self, timeout: float = ...) -> bool: ...


class Wire:
    """An open connection. `fresh`: nothing was sent on it yet, so it cannot have gone stale while it lay idle.
    `used_at`: when it was given back last, by the monotonic clock."""

    __slots__ = ("_link", "era", "fresh", "used_at")

    def __init__(self, link: Link, era: int) -> None:
        self._link = link
        self.era = era
        self.fresh = True
        self.used_at = 0.0

    def send(self, *commands: Command) -> None:
        """Write the commands in one piece."""
        pack = self._link.pack_command
        pieces = [piece for command in commands for piece in pack(*command)]
        self._link.send_packed_command(pieces if len(pieces) == 1 else [b"".join(pieces)], check_health=False)

    def reply(self) -> Any:
        """The next reply; an error of the server is raised, after which the connection is still good."""
        return self._link.read_response()

    def pending(self) -> bool:
        """Whether a reply has begun to arrive."""
        return self._link.can_read(0)

    @property
    def socket(self) -> socket:
        """For who reads and writes it by himself, on an event loop."""
        found: socket = self._link._sock
        return found

    def fileno(self) -> int:
        handle: int = self._link._sock.fileno()
        return handle

    def close(self) -> None:
        self._link.disconnect()


class Connections:
    """Connections to the server that has our keys now; of one process only, for any number of threads."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._idle: deque[Wire] = deque()
        self._lock = threading.Lock()
        self._place: Address | None = None
        self._era = 0
        self._closed = False

    @property
    def place(self) -> Address:
        """Where the server is, as far as known: for messages."""
        return self._place or self._options.addresses[0]

    def take(self) -> Wire:
        """A connection on which nothing is under way. Raises Fault."""
        with suppress(IndexError):
            return self._idle.pop()
        return self.open()  # here: what it raises did not come of the lack

    def give(self, wire: Wire) -> None:
        """Keep a connection on which nothing is under way any more."""
        wire.fresh = False
        if self._closed or wire.era != self._era or len(self._idle) >= IDLE:
            wire.close()
        else:
            wire.used_at = time.monotonic()
            self._idle.append(wire)
            self._close_spare(wire.used_at - SPARE)

    def lost(self, era: int, place: Address | None = None) -> None:
        """The server of that era is not, or no longer, where we thought (but at `place`, if that is known)."""
        with self._lock:
            if era != self._era:
                return
            self._era += 1
            self._place = place
        self._close_idle()

    def close(self) -> None:
        self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:  # another thread took the last one
                return

    def _close_spare(self, then: float) -> None:
        """Close one that was not used since then: the last one given is the first one taken, so it lies at the left."""
        with suppress(IndexError):  # another thread took the last one
            if len(self._idle) > 1 and self._idle[0].used_at < then:
                self._idle.popleft().close()

    def open(self) -> Wire:
        """A new connection. Raises Fault."""
        known = self._place
        try:
            return self._connect(known or self._locate())
        except Fault:
            self.lost(self._era)
            if known is None or self._options.layout == "single":
                raise
        return self._connect(self._locate())  # it was there, but another one may have its part by now

    def _connect(self, place: Address) -> Wire:
        era, options = self._era, self._options
        link = _link(options, place, options.username, options.password, options.database)
        try:
            link.connect()
        except (redis.RedisError, OSError) as error:
            link.disconnect()
            raise explain(error, place, options) from error
        self._place = place
        return Wire(link, era)

    # ---- where the server is ----------------------------------------------------------------------------------------

    def _locate(self) -> Address:
        match self._options.layout:
            case "single":
                return self._options.addresses[0]
            case "sentinel":
                return self._first_answer(self._ask_sentinel)
            case "cluster":
                return self._first_answer(self._ask_node)

    def _first_answer(self, ask: Callable[[Address], Address]) -> Address:
        """What the first one says that can be asked. Raises Fault if nobody can."""
        faults: list[Fault] = []
        for address in self._options.addresses:
            try:
                return ask(address)
            except (Fault, redis.RedisError, OSError) as error:
                faults.append(explain(error, address, self._options))
        faults.sort(key=lambda fault: fault.word == "UNREACHABLE")  # what somebody said beats that others are away
        raise faults[0]

    def _ask_sentinel(self, address: Address) -> Address:
        options = self._options
        link = _link(options, address, options.sentinel_username, options.sentinel_password, 0)
        answer = _ask(link, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", options.service)
        if not answer:
            text = f"the sentinel at {address} does not monitor a service named {options.service!r}. Check the name"
            raise Fault("REFUSED", f"{options.url}: {text}")
        host, port = answer
        return Address(host.decode(), int(port))

    def _ask_node(self, address: Address) -> Address:
        options = self._options
        slot = key_slot(options.namespace.encode())
        for first, last, node, *_ in _ask(
            _link(options, address, options.username, options.password, 0), "CLUSTER", "SLOTS"
        ):
            if first <= slot <= last:
                host = (node[0] or b"").decode()
                return Address(address.host if host in ("", "?") else host, int(node[1]))
        raise Fault("CLUSTERDOWN", f"{options.url}: no node of the cluster has slot {slot}, where our keys belong")


def _ask(link: Link, *command: str) -> Any:
    try:
        link.connect()
        link.send_packed_command(link.pack_command(*command))
        return link.read_response()
    finally:
        link.disconnect()


def _link(options: Options, place: Address, username: str | None, password: str | None, database: int) -> Link:
    """A connection that is not yet open. It never sends anything twice, and waits only as long as it is told."""
    settings: dict[str, Any] = {
        "db": database,
        "username": username,
        "password": password,
        "socket_timeout": options.timeout,
        "socket_connect_timeout": options.connect_timeout,
        "socket_read_size": READ_SIZE,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "protocol": 2,
    }
    if not place.port:
        return _make(redis.UnixDomainSocketConnection, {"path": place.host, **settings})
    settings |= {"host": place.host, "port": place.port, "socket_keepalive": True}
    tls = options.tls
    if tls is None:
        return _make(redis.Connection, settings)
    settings |= {
        "ssl_ca_certs": tls.ca,
        "ssl_certfile": tls.cert,
        "ssl_keyfile": tls.key,
        "ssl_cert_reqs": "required" if tls.verify else "none",
        "ssl_check_hostname": tls.verify,
    }
    return _make(redis.SSLConnection, settings)


def _make(kind: Any, settings: dict[str, Any]) -> Link:
    return cast(Link, kind(**settings))
