"""Sleeping until the server has something to say, or somebody in this process does.

For work: BLPOP on the bells of the queues. A bell is a list of at most one element, which carries nothing; the server
hands it to one of those who wait, so one job wakes one worker. Nothing is sent while nothing happens.

For results: a subscription to a channel of our own. It stays open between two waits, and costs nothing while it does.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Collection, Sequence
from typing import Final

import redis

from outwork.brokers.redis.connections import Wire
from outwork.brokers.redis.faults import PASSING
from outwork.brokers.redis.server import Server
from outwork.errors import BrokerUnavailable, OutworkError

GRACE: Final = 5.0
"""Seconds that the server may answer a BLPOP too late. It looks at its timeouts ten times a second."""
PATIENCE: Final = 10.0
"""Seconds for which somebody who waits for a result does not notice that the server is away."""
PAUSE: Final = 0.2

logger = logging.getLogger("outwork")


class Alarm:
    """Rung from any thread, it ends one sleep: the running or the next one. Once closed, it ends all."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._lock = threading.Lock()
        self._rung = False
        self._closed = False

    def __del__(self) -> None:
        os.close(self._read)
        os.close(self._write)

    def ring(self) -> None:
        with self._lock:
            if not self._rung and not self._closed:
                self._rung = True
                os.write(self._write, b"!")

    def taken(self) -> bool:
        """Whether it was rung; if so, it is quiet again."""
        with self._lock:
            if self._closed:
                return True
            if self._rung:
                self._rung = False
                os.read(self._read, 1)
                return True
            return False

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                os.write(self._write, b"!")  # nobody reads it any more, so it ends every sleep

    def sleep(self, wire: Wire | None, timeout: float) -> bool:
        """Until the connection has something to read (True), the alarm is rung, or the time is over (False)."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        if wire is None:
            poll.poll(timeout * 1000)
            return False
        handle = wire.fileno()
        poll.register(handle, select.POLLIN)
        return any(ready == handle for ready, _ in poll.poll(max(0.0, timeout) * 1000))


class Doorbell:
    """Waits for work."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.alarm = Alarm()

    def wait(self, offset: float, queues: Sequence[str], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not self.alarm.taken():
            answer = self._server.run("look", offset, *queues)
            left = deadline - time.monotonic()
            if answer == b"now":
                return True
            if left <= 0:
                return False
            due = float(answer) if answer else left
            if self._sleep(queues, min(left, due), exact=due < left):
                return True
            if self.alarm.taken():
                self._pass_on(offset, queues)
                return False
        return False

    def _sleep(self, queues: Sequence[str], seconds: float, *, exact: bool) -> bool:
        """BLPOP: whether the bell was rung. The server ends it up to 0.1 s late; where that matters (`exact`) it is cut
        off, with its connection."""
        if not queues:
            self.alarm.sleep(None, seconds)
            return False
        wire = self._server.take()
        try:
            bells = [self._server.name(f"bell:{queue}") for queue in queues]
            wire.send(("BLPOP", *bells, f"{seconds + exact:.3f}"))
            answered = self.alarm.sleep(wire, seconds + (0.0 if exact else GRACE))
            rung = answered and wire.reply() is not None
        except (redis.RedisError, OSError) as error:
            wire.close()
            fault = self._server.fault(error, wire)
            if fault.word in PASSING:
                return True  # whoever exchanges now finds out what it is
            raise fault.as_error() from error
        if answered:
            self._server.connections.give(wire)
        else:
            wire.close()
        return rung

    def _pass_on(self, offset: float, queues: Sequence[str]) -> None:
        """The ring that may have come in the moment we stopped belongs to somebody else."""
        try:
            self._server.run("pass_on", offset, *queues)
        except OutworkError as error:  # nobody can be woken by a server that is away, and each tend rings anyway
            logger.debug("a ring could not be passed on: %s", error)


class Announcements:
    """Waits for results, for any number of threads: each has a subscription of its own while it waits."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._idle: list[tuple[Wire, str]] = []
        self._lock = threading.Lock()
        self.alarm = Alarm()

    def wait(self, offset: float, ids: Collection[str], timeout: float) -> set[str]:
        deadline = time.monotonic() + timeout
        away_since: float | None = None
        while not self.alarm.taken():
            try:
                ended = self._round(offset, ids, deadline)
                away_since = None
            except BrokerUnavailable:
                now = time.monotonic()
                away_since = away_since or now
                if now - away_since > PATIENCE or now > deadline:
                    raise
                self.alarm.sleep(None, PAUSE)
                continue
            if ended or time.monotonic() >= deadline:
                return ended
        return set()

    def _round(self, offset: float, ids: Collection[str], deadline: float) -> set[str]:
        """Ask, and if none has ended, sleep until something is announced."""
        wire, channel = self._subscription()
        try:
            ended: list[bytes] = self._server.run("watch", offset, channel, *ids)
            if not ended and self.alarm.sleep(wire, deadline - time.monotonic()):
                while wire.pending():
                    wire.reply()
        except (redis.RedisError, OSError) as error:
            wire.close()
            raise self._server.fault(error, wire).as_error() from error
        except BaseException:
            wire.close()
            raise
        with self._lock:
            self._idle.append((wire, channel))
        return {job_id.decode() for job_id in ended}

    def close(self) -> None:
        self.alarm.close()
        with self._lock:
            for wire, _ in self._idle:
                wire.close()
            self._idle.clear()

    def _subscription(self) -> tuple[Wire, str]:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        channel = os.urandom(4).hex()

        def subscribe(wire: Wire) -> None:
            wire.send(("SUBSCRIBE", self._server.name(f"ended:{channel}")))
            wire.reply()

        return self._server.claim(subscribe), channel
