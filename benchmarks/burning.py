"""Two applications with the same CPU-bound task; child processes load this module."""

from __future__ import annotations

from outwork import Outwork

threads = Outwork("thread:?concurrency=2")
processes = Outwork("process:?children=2")


@threads.task(name="bench.burn")
def burn_on_threads(size: int) -> int:
    """Keeps the interpreter busy."""
    return sum(number * number for number in range(size))


@processes.task(name="bench.burn")
def burn_in_processes(size: int) -> int:
    """The same."""
    return sum(number * number for number in range(size))
