"""Sleeping until MySQL or MariaDB says KILL QUERY."""

from __future__ import annotations

import random
import select
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Final, Protocol

from outwork.brokers.sql.connections import Role
from outwork.brokers.sql.mysql.session import Session
from outwork.brokers.sql.mysql.statements import among
from outwork.brokers.sql.pipe_bell import PipeBell

LOOK_EVERY: Final = 1.0
"""Seconds between two looks of a sleeper: jobs of a transaction that is not ours arrive without a ring."""


class Lender(Protocol):
    """Lends the connection of a role."""

    def lend(self, role: Role) -> AbstractContextManager[Session]: ...


class MySQLBell(PipeBell):
    """The first sleeper of all sits in `SELECT SLEEP`, where KILL QUERY wakes it; the others wait for its place."""

    def __init__(self, lender: Lender, lock: Callable[[], str], doze: str) -> None:
        super().__init__()
        self._lender = lender
        self._lock = lock
        self._doze = doze

    def mark(self) -> None:
        with self._in_use:
            if self._closed:
                return
            with self._lender.lend(Role.LISTEN) as session:
                if not session.doorman:
                    session.begin("SELECT GET_LOCK(%s, 0)", [self._lock()])
                    session.doorman = [*(session.finish() or ())] == [(1,)]  # a late ring may interrupt it

    def wait(self, seconds: float, queues: Collection[str] = ()) -> bool | None:
        pause = min(seconds, LOOK_EVERY * random.uniform(0.75, 1.0))
        with self._in_use:
            if self._closed or self._rung:
                return None
            with self._lender.lend(Role.LISTEN) as session:
                return self._doze_off(session, pause, queues) if session.doorman else self._queue_up(session, pause)

    def _doze_off(self, session: Session, pause: float, queues: Collection[str]) -> bool:
        session.begin(self._doze.replace("{ids}", among([*queues])), [pause, *queues, *queues])
        if self._asleep(session, pause + 1.0):
            session.close()  # told to end: the statement dies with its connection
            return False
        slept = session.finish()
        # Not waited for: who is woken has something better to do. All of them: a late ring may have interrupted the
        # release before, and a lock that is had twice has to be given back twice.
        session.mention("SELECT RELEASE_ALL_LOCKS()", [])
        session.doorman = False
        return slept is None or [*slept] != [(0,)]  # interrupted (1 is how MySQL says it), or no need to sleep

    def _queue_up(self, session: Session, pause: float) -> bool:
        session.begin("SELECT GET_LOCK(%s, %s)", [self._lock(), pause])
        if self._asleep(session, pause + 1.0):
            session.close()
            return False
        session.finish()
        # It has the place now, if the answer came early; it looks first.
        session.doorman = session.rows("SELECT IS_USED_LOCK(%s) = CONNECTION_ID()", [self._lock()]) == [(1,)]
        return False

    def _asleep(self, session: Session, seconds: float) -> bool:
        """Wait for the answer; True if there is none, because somebody rang."""
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        poll.register(session.fileno(), select.POLLIN)
        deadline = time.monotonic() + seconds
        while not self._rung and not self._closed:
            left = deadline - time.monotonic()
            if left <= 0 or any(handle != self._read_end for handle, _ in poll.poll(left * 1000)):
                return False
        return True
