"""Functions for executors: plain ones, as code on `concurrent.futures` has them."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from datetime import datetime
from os import system  # noqa: F401 - defined elsewhere, so never to be run by name
from pathlib import Path
from typing import Any

from support import ledger


def add(x: int, y: int = 10) -> int:
    return x + y


def later(moment: datetime, days: int) -> datetime:
    return moment.replace(day=moment.day + days)


def fail(text: str) -> None:
    raise ValueError(text)


def nothing() -> None:
    return None


def where() -> int:
    return os.getpid()


def gated(key: str, gate: str) -> str:
    """Runs until the gate is open."""
    ledger.write("S", key)
    while not Path(gate).exists():
        time.sleep(0.01)
    ledger.write("E", key)
    return key


def crash() -> None:
    os._exit(3)


def spin(n: int) -> int:
    """Computes, and nothing else."""
    return sum(number * number for number in range(n)) % 1000


def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


@logged
def decorated(x: int) -> int:
    return -x


async def coroutine() -> None: ...
