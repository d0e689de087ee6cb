"""One thing for each event loop, made at first use, closed with its loop."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable
from types import MethodType
from typing import Any, Generic, Protocol, TypeVar


class Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=Closable)


class ByLoop(Generic[T]):
    """Event loops come and go: `async_to_sync` and tests make one for each call."""

    def __init__(self, make: Callable[[AbstractEventLoop], T]) -> None:
        self._make = make
        self._made: dict[AbstractEventLoop, T] = {}
        self._watched: set[AbstractEventLoop] = set()

    def here(self) -> T:
        """That of the running loop."""
        loop = asyncio.get_running_loop()
        made = self._made.get(loop)
        if made is None:
            self._sweep()
            made = self._made[loop] = self._make(loop)
            self._close_with(loop)
        return made

    def pop_here(self) -> T | None:
        """That of the running loop, if there is one, to be closed; the next use makes another one."""
        return self._made.pop(asyncio.get_running_loop(), None)

    def __len__(self) -> int:
        return len(self._made)

    def _close_with(self, loop: AbstractEventLoop) -> None:
        """asyncio tells nobody that a loop is closed, so its `close` is wrapped, once."""
        if loop in self._watched:
            return
        original = loop.close

        def close(_: Any) -> None:
            self._watched.discard(loop)
            made = self._made.pop(loop, None)
            if made is not None:
                made.close()
            loop.close = original  # type: ignore[method-assign]
            original()

        try:
            loop.close = MethodType(close, loop)  # type: ignore[method-assign]
        except AttributeError:  # a loop whose methods cannot be replaced: `_sweep` finds it later
            return
        self._watched.add(loop)

    def _sweep(self) -> None:
        """Other threads come, go and sweep meanwhile."""
        for loop in list(self._made):
            if loop.is_closed() and (made := self._made.pop(loop, None)) is not None:
                made.close()
