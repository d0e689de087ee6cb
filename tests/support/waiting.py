"""Waiting for something to become true, with a deadline: no test sleeps and hopes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(look: Callable[[], T], what: str, *, seconds: float = 60.0, pause: float = 0.01) -> T:
    """The first answer of `look` that is true; fails after `seconds`, saying `what` did not happen."""
    deadline = time.monotonic() + seconds
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what} (the last look gave {answer!r})")
        time.sleep(pause)
