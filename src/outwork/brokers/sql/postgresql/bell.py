"""Sleeping until PostgreSQL says NOTIFY."""

from __future__ import annotations

import random
import select
import threading
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol

from outwork.brokers.sql.connections import Role
from outwork.brokers.sql.pipe_bell import PipeBell
from outwork.brokers.sql.postgresql.session import Session
from outwork.brokers.sql.postgresql.statements import ENDED_BELL, READY_BELL

READY: Final = "ready"
ENDED: Final = "ended"

LOOK_AGAIN: Final = (0.01, 0.1)
"""Seconds after which a sleeper looks again: an enqueue may have asked whether anybody sleeps just before it lay down,
and have been written just after it looked."""
SAFETY_LOOK: Final = 10.0
"""Seconds between two looks of one who hears nothing: a notification can be lost with the connection."""


class Ring(NamedTuple):
    """Where one kind of news is told: the channel, and the advisory lock of those who sleep for it."""

    channel: str
    key: int
    whom: int


def ring_of(identity: str, whom: str) -> Ring:
    """Both carry the random id of our tables, so that several sets of tables in one database do not wake each other."""
    key = int.from_bytes(bytes.fromhex(identity[:8]), "big", signed=True)
    return Ring(f"outwork_{whom}_{identity[:16]}", key, READY_BELL if whom == READY else ENDED_BELL)


class Lender(Protocol):
    """Lends the connection of a role."""

    def lend(self, role: Role) -> AbstractContextManager[Session]: ...


class PostgreSQLBell(PipeBell):
    """Listens on the connection of its role, on which its owner looks, too."""

    def __init__(self, lender: Lender, role: Role, ring: Callable[[], Ring]) -> None:
        super().__init__()
        self._lender = lender
        self._role = role
        self._ring = ring
        self._looks = iter(LOOK_AGAIN)
        self._seen = threading.local()

    def start(self) -> None:
        self._looks = iter(LOOK_AGAIN)

    def mark(self) -> None:
        with self._in_use:
            if self._closed:
                return
            with self._lender.lend(self._role) as session:
                session.lie_down(*self._ring())
                self._seen.news = session.hear()

    def wait(self, seconds: float, queues: Collection[str] = ()) -> bool | None:
        safety = next(self._looks, SAFETY_LOOK) * random.uniform(0.75, 1.0)
        deadline = time.monotonic() + min(seconds, safety)
        last = seconds <= safety
        with self._in_use:
            return None if self._closed else self._wait(deadline, last, queues)

    def _wait(self, deadline: float, last: bool, queues: Collection[str]) -> bool:
        with self._lender.lend(self._role) as session:
            seen: int = getattr(self._seen, "news", session.news)
            heard = self._sleep(session, deadline, seen)
            if heard or last or self._rung or self._closed:
                _, key, whom = self._ring()
                session.stand_up(key, whom)
            return not session.said_since(seen).isdisjoint("+" + queue for queue in queues)

    def _sleep(self, session: Session, deadline: float, seen: int) -> bool:
        """Whether something was heard."""
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        poll.register(session.connection.fileno(), select.POLLIN)
        while not self._rung and not self._closed and session.asleep:
            if session.hear() != seen:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poll.poll(left * 1000)
        return False
