"""A connection to a server in one event loop, whatever is spoken on it: calls under way, their time, its end.

Its socket is read and written here, without tasks and streams: a call costs a future and a system call at most.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop, Future, TimerHandle
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple, TypeAlias

Lost: TypeAlias = Callable[[Any], None]


class Call(NamedTuple):
    """What is under way, until when an answer is awaited, and which statement it was."""

    future: Future[Any]
    until: float
    name: str


class Link(ABC):
    """Answers come in the order of the calls. `lost` is called once, when the connection has broken by itself."""

    def __init__(self, loop: AbstractEventLoop, handle: int, timeout: float, lost: Lost) -> None:
        self.broken = False
        self._loop = loop
        self._handle = handle
        self._timeout = timeout
        self._lost = lost
        self._calls: deque[Call] = deque()
        self._timer: TimerHandle | None = None
        self._writing = False
        loop.add_reader(handle, self._read)

    def close(self) -> None:
        """At once. What is under way fails."""
        calls = list(self._calls)
        self._leave()
        self._hang_up()
        if self._loop.is_running():
            _fail(calls, self._failure("it was closed"))

    # ---- for those who speak ----------------------------------------------------------------------------------------

    @abstractmethod
    def _read(self) -> None:
        """The socket has something."""

    @abstractmethod
    def _write(self) -> None:
        """The socket takes something."""

    @abstractmethod
    def _hang_up(self) -> None:
        """Close the connection."""

    @abstractmethod
    def _failure(self, why: str, *, silent: bool = False) -> Exception:
        """What a call fails with that gets no answer."""

    def _call(self, name: str) -> Future[Any]:
        """The answer to what is sent next; it has failed where nothing can be."""
        future: Future[Any] = self._loop.create_future()
        if self.broken:
            future.set_exception(self._failure("it is closed"))
            return future
        self._calls.append(Call(future, monotonic() + self._timeout, name))
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout, self._check_time)
        return future

    def _write_more(self, more: bool) -> None:
        """Whether something is left that the socket did not take."""
        if more == self._writing:
            return
        self._writing = more
        if more:
            self._loop.add_writer(self._handle, self._write)
        else:
            self._loop.remove_writer(self._handle)

    def _break(self, error: Exception) -> None:
        if self.broken:
            return
        calls = list(self._calls)
        self._leave()
        self._hang_up()
        _fail(calls, error)
        self._lost(self)

    def _leave(self) -> None:
        """The loop has nothing more to do with it."""
        self.broken = True
        self._calls.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._loop.is_closed():
            self._loop.remove_reader(self._handle)
            self._write_more(False)

    def _check_time(self) -> None:
        self._timer = None
        if not self._calls:
            return
        left = self._calls[0].until - monotonic()
        if left <= 0:
            self._break(self._failure(f"no answer within {self._timeout:g} s", silent=True))
        else:
            self._timer = self._loop.call_later(left, self._check_time)


def _fail(calls: list[Call], error: Exception) -> None:
    for call in calls:
        if not call.future.done():
            call.future.set_exception(error)
