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

    def here(self) -> T:
        """That of the running loop."""
        loop = asyncio.get_running_loop()
        made = self._made.get(loop)
        if made is None:
            self._sweep()
            made = self._made[loop] = self._make(loop)
            self._close_with(loop)
        return made

    def close_here(self) -> None:
        """Close that of the running loop; the next use makes another one."""
        made = self._made.pop(asyncio.get_running_loop(), None)
        if made is not None:
            made.close()

    def __len__(self) -> int:
        return len(self._made)

    def _close_with(self, loop: AbstractEventLoop) -> None:
        """asyncio tells nobody that a loop is closed, so its `close` is wrapped."""
        original = loop.close

        def close(_: Any) -> None:
            made = self._made.pop(loop, None)
            if made is not None:
                made.close()
            loop.close = original  # type: ignore[method-assign]
            original()

        try:
            loop.close = MethodType(close, loop)  # type: ignore[method-assign]
        except AttributeError:  # a loop whose methods cannot be replaced: `_sweep` finds it later
            return

    def _sweep(self) -> None:
        for loop in [loop for loop in self._made if loop.is_closed()]:
            self._made.pop(loop).close()
