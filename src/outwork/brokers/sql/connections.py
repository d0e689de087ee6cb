"""Which verb uses which connection, one user at a time each, and what happens to them when the process forks."""

from __future__ import annotations

import ctypes
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

from outwork.errors import BrokerUnavailable

C = TypeVar("C")

FORK_PATIENCE: Final = 1.0
"""Seconds a fork waits at most for the verbs that are under way in other threads."""
SPARE: Final = 20.0
"""Seconds after which a connection of a role is closed that nobody needed beside the first one: what a rush opened, or
a server that stood still, would count against the server's limit for ever."""


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
        self.used_at = 0.0

    @property
    def spare(self) -> bool:
        """Whether nobody needed its connection for a while."""
        return self.connection is not None and time.monotonic() - self.used_at >= SPARE


class Connections(Generic[C]):
    """The connections of this process: one for each role unless `most` says more, opened when it is first needed and
    closed when it is not any more.

    `shared` names roles that use another one's. `quiet_forks`: idle connections are closed before a fork, and those in
    use are waited for.
    """

    def __init__(
        self,
        connect: Callable[[Role], C],
        disconnect: Callable[[C], None],
        *,
        most: Mapping[Role, int] | None = None,
        shared: Mapping[Role, Role] | None = None,
        quiet_forks: bool = True,
    ) -> None:
        self._connect = connect
        self._disconnect = disconnect
        self._most = most or {}
        self._shared = shared or {}
        self._quiet_forks = quiet_forks
        self._closed = False
        self._by_pid: dict[int, dict[Role, list[_Link[C]]]] = {}
        self._held: list[_Link[C]] = []
        _everywhere.add(self)

    @contextmanager
    def borrow(self, role: Role, usable: Callable[[C], bool], rather: Role | None = None) -> Iterator[C]:
        """A connection of a role, for one thread at a time; replaced if it is not `usable` any more. One that is open
        for another role is taken `rather`, if nobody uses it."""
        link = (rather and self._acquire_open(rather)) or self._acquire(role)
        try:
            if link.connection is not None and not usable(link.connection):
                self._drop(link)
            if link.connection is None:
                if self._closed:
                    raise BrokerUnavailable("the broker was closed in this process")
                link.connection = self._connect(role)
            yield link.connection
        finally:
            link.used_at = time.monotonic()
            link.lock.release()
            self._drop_spares(role)

    def discard(self, role: Role) -> None:
        """Close the connections of a role: the next user opens a new one."""
        for link in self._links(role):
            with link.lock:
                self._drop(link)

    def close(self) -> None:
        """Close all; none is opened again."""
        self._closed = True
        for role in Role:
            self.discard(role)

    def _acquire(self, role: Role) -> _Link[C]:
        """The first connection that nobody uses, so that no more are opened than are needed; if all are in use, the
        turn at one of them."""
        links = self._links(role)
        if len(links) > 1:
            for link in links:
                if link.lock.acquire(blocking=False):
                    return link
        link = random.choice(links) if len(links) > 1 else links[0]
        link.lock.acquire()
        return link

    def _acquire_open(self, role: Role) -> _Link[C] | None:
        for link in self._links(role):
            if link.connection is not None and link.lock.acquire(blocking=False):
                return link
        return None

    def _drop_spares(self, role: Role) -> None:
        for link in self._links(role)[1:]:
            if link.spare and link.lock.acquire(blocking=False):
                try:
                    if link.spare:  # nobody was faster
                        self._drop(link)
                finally:
                    link.lock.release()

    def _links(self, role: Role) -> list[_Link[C]]:
        # The pid is checked for processes that were forked behind Python's back; setdefault is atomic, so two first
        # users agree on one set.
        pid = os.getpid()
        links = self._by_pid.get(pid)
        if links is None:
            new = {role: [_Link[C]() for _ in range(self._most.get(role, 1))] for role in Role}
            links = self._by_pid.setdefault(pid, new)
        return links[self._shared.get(role, role)]

    def _drop(self, link: _Link[C]) -> None:
        connection, link.connection = link.connection, None
        if connection is not None:
            self._disconnect(connection)

    def _all(self) -> list[_Link[C]]:
        """The links of this process."""
        return [link for links in self._by_pid.get(os.getpid(), {}).values() for link in links]

    def before_fork(self) -> None:
        """Close what is idle, and wait for what is not: SQLite keeps its locks in memory that a fork copies, so a child
        born in the middle of a transaction, or whose parent then exits, would trust locks that nobody holds.
        """
        if not self._quiet_forks:
            return
        until = time.monotonic() + FORK_PATIENCE
        for link in self._all():
            if link.lock.acquire(timeout=max(0.0, until - time.monotonic())):
                self._held.append(link)
                self._drop(link)

    def after_fork_in_parent(self) -> None:
        for link in self._held:
            link.lock.release()
        self._held.clear()

    def after_fork_in_child(self) -> None:
        """Forget the parent's connections without closing them: closing would end what the parent is doing."""
        for roles in self._by_pid.values():
            for link in (link for links in roles.values() for link in links):
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
