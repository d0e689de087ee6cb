"""The way to the server: one I/O thread with up to two connections, made when they are needed and made again when they
are lost.

What publishes and what consumes are kept apart: when RabbitMQ runs out of memory or disk it stops reading from the
connections that publish, and a worker's acknowledgements must not be stuck behind that.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from functools import partial
from threading import RLock
from typing import Any, Final, TypeVar

from outwork.brokers.rabbitmq.driver import Channel, Connection, Loop, Refusal, parameters
from outwork.brokers.rabbitmq.intake import Intake
from outwork.brokers.rabbitmq.options import Options
from outwork.brokers.rabbitmq.publisher import Publisher
from outwork.brokers.rabbitmq.talk import REPLY_TIMEOUT, Request, Talk, explained, open_channel, open_connection
from outwork.brokers.rabbitmq.topology import Queue, Topology, token
from outwork.errors import BrokerUnavailable

T = TypeVar("T")

MakeIntake = Callable[[Loop, Connection, Channel], Intake]

_abandoned: Final[list[object]] = []
"""What a fork copied from its parent: kept, because letting it go would run code meant for the parent's sockets."""


class Link:
    """The sessions of one process with the server."""

    def __init__(self, options: Options, topology: Topology, make_intake: MakeIntake) -> None:
        self.pid = os.getpid()
        self.topology = topology
        self.version: tuple[int, ...] = ()
        self._options = options
        self._make_intake = make_intake
        self._lock = RLock()
        self._loop: Loop | None = None
        self._publisher: Publisher | None = None
        self._intake: Intake | None = None
        self._desk: Talk | None = None
        self._declared: set[str] = set()
        self._closed = False

    def abandon(self) -> None:
        """After a fork, in the child: forget all, touch nothing."""
        _abandoned.append(self)

    # ---- sessions ---------------------------------------------------------------------------------------------------

    @property
    def open_publisher(self) -> Publisher | None:
        """The publisher, if there is one that lives."""
        publisher = self._publisher
        alive = publisher is not None and publisher.ended is None and publisher.channel.is_open
        return publisher if alive else None

    @property
    def open_intake(self) -> Intake | None:
        """The intake, if there is one that lives."""
        intake = self._intake
        return intake if intake is not None and intake.ended is None else None

    def publisher(self) -> Publisher:
        """The publisher; connects if need be. Raises BrokerUnavailable, BrokerRefused."""
        found = self.open_publisher
        if found is not None:
            return found
        with self._lock:
            if self.open_publisher is None:
                connection, channel = self._connect("publishes")
                self._declared.clear()
                self._desk = None
                self.version = connection.version
                assert self._loop is not None
                made = Publisher(self._loop, connection, channel)
                self._settled(made.start)
                self._publisher = made
            assert self._publisher is not None
            return self._publisher

    def intake(self) -> Intake:
        """The intake; connects if need be. Raises BrokerUnavailable, BrokerRefused."""
        found = self.open_intake
        if found is not None:
            return found
        with self._lock:
            if self.open_intake is None:
                connection, channel = self._connect("consumes")
                assert self._loop is not None
                self._intake = self._make_intake(self._loop, connection, channel)
            assert self._intake is not None
            return self._intake

    def _connect(self, purpose: str) -> tuple[Connection, Channel]:
        options = self._options
        if self._closed:
            raise BrokerUnavailable(f"{options.shown}: this broker object is closed")
        if self._loop is None or self._loop.died is not None:
            self._loop = Loop()
        name = f"outwork {socket.gethostname()}:{self.pid} {purpose}"
        hosts = [
            parameters(
                host,
                port,
                user=options.user,
                password=options.password,
                vhost=options.vhost,
                heartbeat=options.heartbeat,
                timeout=options.connection_timeout,
                ssl=options.tls,
                name=name,
            )
            for host, port in options.hosts
        ]
        timeout = (options.connection_timeout + 5) * len(hosts) + 5
        loop = self._loop

        def connect() -> tuple[Connection, Channel]:
            connection = open_connection(loop, hosts).result(timeout)
            return connection, open_channel(loop, connection).result(REPLY_TIMEOUT)

        return self._settled(connect)

    def _settled(self, work: Callable[[], T], what: str = "") -> T:
        """Do this; whatever goes wrong is raised as one of our errors."""
        try:
            return work()
        except TimeoutError as error:
            raise BrokerUnavailable(f"{self._options.shown} does not answer") from error
        except Exception as error:
            raise explained(error, self._options, what) from error

    def close(self) -> None:
        """Close the connections and end the thread."""
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
            sessions = [self._intake, self._publisher]
            self._intake = self._publisher = self._desk = None
        if loop is None:
            return
        for session in sessions:
            if session is not None and loop.died is None:
                session.connection.close_now(loop).result(REPLY_TIMEOUT)
        loop.stop()

    # ---- declaring --------------------------------------------------------------------------------------------------

    def forget(self, queue: str) -> None:
        """It is gone: declare it again when it is next needed. The I/O thread calls this, too: it waits for no lock."""
        self._declared.discard(queue)

    def is_declared(self, queue: str) -> bool:
        return queue in self._declared

    def declare(self, queues: Iterable[Queue]) -> None:
        """See to it that these queues exist. Raises BrokerRefused with what is wrong."""
        missing = [queue for queue in queues if queue.name not in self._declared]
        if not missing:
            return
        with self._lock:
            self.publisher()
            for queue in missing:
                if queue.name not in self._declared:
                    self._order([partial(_declare, queue), *self._last_step(queue.name)], f"the queue {queue.name!r}")
                    self._declared.add(queue.name)

    def declare_way(self, target: str, levels: list[int]) -> None:
        """See to it that a message can come to this queue, which is declared, by way of these levels."""
        ladder = self.topology
        first = levels[0]
        key = f"{ladder.rung(first)} > {target}"
        needed = [ladder.rung_queue(level) for level in levels]
        if key in self._declared and all(f"rung {queue.name}" in self._declared for queue in needed):
            return
        with self._lock:
            self.publisher()
            for level in range(first + 1):
                name, below = ladder.rung(level), ladder.below(level)
                if f"exchange {name}" not in self._declared:
                    asked: list[Request] = [partial(_exchange, name), partial(_pass, below, name, ladder, level)]
                    self._order(asked, f"the exchange {name!r}")
                    self._declared.add(f"exchange {name}")
            for level, queue in zip(levels, needed, strict=True):
                if f"rung {queue.name}" not in self._declared:
                    asked = [partial(_declare, queue), partial(_bind, queue.name, queue.name, ladder.pattern(level, 1))]
                    self._order(asked, f"the queue {queue.name!r}")
                    self._declared.add(f"rung {queue.name}")
            self._declared.add(key)

    def _last_step(self, target: str) -> list[Request]:
        """What leads delayed messages that are due to their queue. Whoever declares it sees to that: it may have been
        deleted, and those who send such messages do not hear of it."""
        topology = self.topology
        if target == topology.dead or topology.is_parked(target):
            return []
        due = topology.due
        return [partial(_exchange, due), partial(_bind, target, due, f"#.{token(target)}")]

    def administer(self, request: Request, what: str) -> Any:
        """One request on the channel for such things."""
        return self._order([request], what)[0]

    def further_channel(self) -> tuple[Loop, Connection, Channel]:
        """A channel for the caller alone, who closes it."""
        publisher = self.publisher()
        loop, connection = publisher.loop, publisher.connection
        return loop, connection, self._settled(lambda: open_channel(loop, connection).result(REPLY_TIMEOUT))

    def _order(self, requests: list[Request], what: str) -> list[Any]:
        with self._lock:
            publisher = self.publisher()

            def send() -> list[Any]:
                if self._desk is None or self._desk.ended is not None:
                    channel = open_channel(publisher.loop, publisher.connection).result(REPLY_TIMEOUT)
                    self._desk = Talk(publisher.loop, publisher.connection, channel)
                futures = [self._desk.ask(request) for request in requests]
                return [future.result(REPLY_TIMEOUT) for future in futures]

            try:
                return self._settled(send, what)
            except BrokerUnavailable:
                if isinstance(publisher.ended, Refusal):
                    raise explained(publisher.ended, self._options, what) from publisher.ended
                raise


def _declare(queue: Queue, channel: Channel, reply: Callable[[Any], None]) -> None:
    channel.declare_queue(queue.name, queue.arguments, reply)


def _bind(queue: str, exchange: str, key: str, channel: Channel, reply: Callable[[Any], None]) -> None:
    channel.bind_queue(queue, exchange, key, reply)


def _exchange(name: str, channel: Channel, reply: Callable[[Any], None]) -> None:
    channel.declare_exchange(name, "topic", reply)


def _pass(below: str, name: str, ladder: Topology, level: int, channel: Channel, reply: Callable[[Any], None]) -> None:
    channel.bind_exchange(below, name, ladder.pattern(level, 0), reply)
