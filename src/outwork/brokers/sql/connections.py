"""Which verb uses which connection, one user at a time each, and what happens to them when the process forks."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

C = TypeVar("C")

FORK_PATIENCE: Final = 1.0
"""Seconds a fork waits at most for the verbs that are under way in other threads."""


class Role(Enum):
    """What a connection is for. They are apart so that no verb waits for another one's lock or durability."""

    ACCEPT = "accept"
    """Enqueue and steering: durable when the verb returns."""
    WORK = "work"
    """The worker's exchange: what a power cut takes back is run again."""
    KEEP = "keep"
    """Leases and housekeeping: never behind a busy exchange."""
    LISTEN = "listen"
    """The listener's `wait`."""
    RESULT = "result"
    """Whoever waits for results."""
    READ = "read"


class _Link(Generic[C]):
    """A place for one connection and the lock of whoever uses it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection: C | None = None


class Connections(Generic[C]):
    """At most one connection for each role, opened at first use, of this process only."""

    def __init__(self, connect: Callable[[Role], C], disconnect: Callable[[C], None]) -> None:
        self._connect = connect
        self._disconnect = disconnect
        self._by_pid: dict[int, dict[Role, _Link[C]]] = {}
        self._held: list[_Link[C]] = []
        _everywhere.add(self)

    @contextmanager
    def borrow(self, role: Role, usable: Callable[[C], bool]) -> Iterator[C]:
        """The connection of a role, for one thread at a time; replaced if it is not `usable` any more."""
        link = self._links()[role]
        with link.lock:
            if link.connection is not None and not usable(link.connection):
                self._drop(link)
            if link.connection is None:
                link.connection = self._connect(role)
            yield link.connection

    def discard(self, role: Role) -> None:
        """Close the connection of a role: the next user opens a new one."""
        link = self._links()[role]
        with link.lock:
            self._drop(link)

    def close(self) -> None:
        for role in Role:
            self.discard(role)

    def _links(self) -> dict[Role, _Link[C]]:
        # The pid is checked for processes that were forked behind Python's back; setdefault is atomic, so two first
        # users agree on one set.
        pid = os.getpid()
        links = self._by_pid.get(pid)
        if links is None:
            links = self._by_pid.setdefault(pid, {role: _Link[C]() for role in Role})
        return links

    def _drop(self, link: _Link[C]) -> None:
        connection, link.connection = link.connection, None
        if connection is not None:
            self._disconnect(connection)

    def before_fork(self) -> None:
        """Close what is idle, and wait for what is not: SQLite keeps its locks in memory that a fork copies, so a child
        born in the middle of a transaction, or whose parent then exits, would trust locks that nobody holds.
        """
        until = time.monotonic() + FORK_PATIENCE
        for link in self._by_pid.get(os.getpid(), {}).values():
            if link.lock.acquire(timeout=max(0.0, until - time.monotonic())):
                self._held.append(link)
                self._drop(link)

    def after_fork_in_parent(self) -> None:
        for link in self._held:
            link.lock.release()
        self._held.clear()

    def after_fork_in_child(self) -> None:
        """Forget the parent's connections without closing them: closing would end what the parent is doing."""
        for links in self._by_pid.values():
            for link in links.values():
                if link.connection is not None:
                    keep_for_ever(link.connection)
        self._by_pid.clear()
        self._held.clear()


def keep_for_ever(connection: object) -> None:
    """Leak an object on purpose, so that no garbage collection in a child closes what belongs to its parent."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


_everywhere: WeakSet[Connections[Any]] = WeakSet()


def _before_fork() -> None:
    for connections in list(_everywhere):
        connections.before_fork()


def _after_fork_in_parent() -> None:
    for connections in list(_everywhere):
        connections.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for connections in list(_everywhere):
        connections.after_fork_in_child()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
