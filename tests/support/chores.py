"""The tasks that workers run in the fault tests: each writes its starts and ends into the ledger."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from typing import Literal

from outwork import Outwork, TaskContext
from support import ledger

app = Outwork()

Death = Literal["exit", "segv", "kill"]


def _die(how: Death) -> None:
    match how:
        case "exit":
            os._exit(9)
        case "segv":
            ctypes.string_at(0)
        case "kill":  # as the kernel does when memory runs out
            os.kill(os.getpid(), signal.SIGKILL)


@app.task
def step(key: str, seconds: float = 0.02) -> str:
    ledger.write("S", key)
    time.sleep(seconds)
    ledger.write("E", key)
    return key


@app.task
def relay(key: str) -> None:
    """Enqueues another one."""
    ledger.write("S", key)
    step.enqueue(f"after-{key}", 0.0)
    ledger.write("E", key)


@app.task
async def coroutine(key: str, seconds: float = 0.02) -> str:
    ledger.write("S", key)
    await asyncio.sleep(seconds)
    ledger.write("E", key)
    return key


@app.task
async def rude(key: str, seconds: float = 0.1) -> None:
    """Blocks the event loop that it runs on."""
    ledger.write("S", key)
    time.sleep(seconds)
    ledger.write("E", key)


@app.task(executor="process", takes_context=True)
def count_up(context: TaskContext, to: int) -> int:
    """Says each step that it takes."""
    for step in range(1, to + 1):
        context.progress(step, to)
    return to


@app.task(executor="process")
def heavy(key: str, seconds: float = 0.02) -> None:
    """Holds the interpreter's lock of its own process."""
    ledger.write("S", key)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))
    ledger.write("E", key)


@app.task(executor="process", timeout=1.0, retry=None)
def stubborn(key: str) -> None:
    """Takes no notice of SIGTERM, nor of the time."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ledger.write("S", key)
    while True:
        time.sleep(60)


@app.task(executor="process", retry=None)
def fatal_to_its_child(key: str, how: Death) -> None:
    ledger.write("S", key)
    _die(how)


@app.task
def poison(key: str, how: Death) -> None:
    """Kills its worker each time."""
    ledger.write("S", key)
    _die(how)


@app.task(delivery="at_most_once")
def once(key: str, seconds: float = 0.02) -> None:
    ledger.write("S", key)
    time.sleep(seconds)
    ledger.write("E", key)


@app.task(retry=None)
def failing(key: str) -> None:
    ledger.write("S", key)
    raise ValueError("as asked")


@app.task(takes_context=True)
def tells_its_attempt(context: TaskContext, key: str) -> int:
    ledger.write("S", key)
    ledger.write("E", key)
    return context.attempt


@app.task(unique_key="draft")
def save(key: str) -> None:
    ledger.write("S", key)
    ledger.write("E", key)


@app.task(queue_name="b")
def from_b(key: str, seconds: float = 0.02) -> None:
    ledger.write("S", key)
    time.sleep(seconds)
    ledger.write("E", key)


@app.task
def follow(before: str, key: str, seconds: float = 0.02) -> str:
    ledger.write("S", key)
    time.sleep(seconds)
    ledger.write("E", key)
    return f"{before}>{key}"


@app.task
async def follow_on_the_loop(before: str, key: str) -> str:
    ledger.write("S", key)
    await asyncio.sleep(0)
    ledger.write("E", key)
    return f"{before}>{key}"


@app.task(executor="process")
def follow_in_a_child(before: list[str], key: str) -> str:
    ledger.write("S", key)
    ledger.write("E", key)
    return f"{'+'.join(before)}>{key}"


@app.task
def gather(before: list[str], key: str, seconds: float = 0.02) -> list[str]:
    ledger.write("S", key)
    time.sleep(seconds)
    ledger.write("E", key)
    return before


@app.task
def echo(number: int) -> int:
    return number


@app.task
def add_up(numbers: list[int]) -> int:
    return sum(numbers)
