"""A word to those who block their event loop: once in a process, and only when it took long enough to be felt."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from concurrent.futures import Future
from time import perf_counter
from typing import Any, Final, TypeVar

R = TypeVar("R")

logger = logging.getLogger("outwork")

SLOW: Final = 0.1
"""Seconds. From here on asyncio itself speaks of a slow callback, in its debug mode. Most enqueues take a few
milliseconds, which scripts and notebooks may well spend on a loop: those are told nothing."""
_told: Final[set[str]] = set()


def loop_runs_here() -> bool:
    """Whether this thread is inside an event loop."""
    if "asyncio" not in sys.modules:
        return False
    from asyncio import _get_running_loop

    return _get_running_loop() is not None


def enqueueing(work: Callable[..., R], *args: Any) -> R:
    """Do it, and say so if it held up an event loop."""
    began = perf_counter()
    try:
        return work(*args)
    finally:
        if perf_counter() - began >= SLOW and loop_runs_here():
            _tell("enqueue()", "aenqueue(...)")


def wait_for(future: Future[None], timeout: float | None) -> None:
    """Wait, and say so while it holds up an event loop: what is waited for may need that very loop, and never come.

    Raises TimeoutError.
    """
    if not loop_runs_here() or (timeout is not None and timeout <= SLOW):
        future.result(timeout)
        return
    try:
        future.result(SLOW)
    except TimeoutError:
        if future.done():
            raise  # its own
        _tell("get()", "aget(...)")
        future.result(None if timeout is None else timeout - SLOW)


def _tell(name: str, instead: str) -> None:
    if name not in _told:
        _told.add(name)
        logger.warning("outwork: %s blocked the event loop; in a coroutine write  await ….%s", name, instead)
