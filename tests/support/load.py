"""The tasks of the standard load of the fault scorecard. Every line of the ledger names the claim, the attempt and the
crashes before it, so that the ledger can be replayed."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import os
import resource
import threading
import time
from pathlib import Path
from typing import Final, Literal

from outwork import Outwork, Retry, TaskContext
from support import ledger

app = Outwork()
SOON: Final = Retry(max_attempts=5, delay=0.2, factor=1.0)
CRASHES: Final = 40
"""A load that is killed ten times loses nobody to `max_crashes`; `poison` has the usual limit."""

CLOCK: Final = "WORKER_CLOCK"
"""The environment variable that names a file with the seconds by which the clock of a worker is wrong."""

Death = Literal["exit", "segv", "memory"]


def _note(context: TaskContext) -> str:
    return f"{context._claimed.claim_id} {context.attempt} {context.crashes} {context.failed_attempts}"


def _end(context: TaskContext, key: str, fails: bool) -> None:
    """Write its end: it fails once where it is asked to."""
    if fails and not context.failed_attempts:
        ledger.write("F", key, _note(context))
        raise RuntimeError("once, as asked")
    ledger.write("E", key, _note(context))


@app.task(takes_context=True, retry=SOON, max_crashes=CRASHES)
def work(context: TaskContext, key: str, seconds: float, fails: bool) -> None:
    ledger.write("S", key, _note(context))
    time.sleep(seconds)
    _end(context, key, fails)


@app.task(takes_context=True, retry=SOON, max_crashes=CRASHES)
async def async_work(context: TaskContext, key: str, seconds: float, fails: bool) -> None:
    ledger.write("S", key, _note(context))
    await asyncio.sleep(seconds)
    _end(context, key, fails)


@app.task(takes_context=True, executor="process", retry=SOON, max_crashes=CRASHES)
def child_work(context: TaskContext, key: str, seconds: float, fails: bool) -> None:
    ledger.write("S", key, _note(context))
    time.sleep(seconds)
    _end(context, key, fails)


@app.task
def pulse(seconds: float) -> None:
    """Measures whether all slots are at work."""
    time.sleep(seconds)


@app.task
def heavy(text: str) -> None:
    """Takes room while it waits."""


def _die(how: Death) -> None:
    if how == "exit":
        os._exit(9)
    if how == "segv":
        ctypes.string_at(0)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))
    heap = [bytes(1 << 20)]
    try:
        while True:
            heap.append(bytes(1 << 24))
    except MemoryError:
        os._exit(9)  # nothing could be told to anybody any more


@app.task(retry=None)
def poison(key: str, how: Death) -> None:
    """Kills its worker each time."""
    ledger.write("S", key)
    _die(how)


def _hold(seconds: float) -> None:
    """Keep the interpreter's lock, in calls into C that do not let go of it."""
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        pow(3, 4_000_000)
        hashlib.sha256(b"").digest()


@app.task(takes_context=True)
def greedy(context: TaskContext, key: str, seconds: float) -> None:
    ledger.write("S", key, _note(context))
    _hold(seconds)
    ledger.write("E", key, _note(context))


@app.task(takes_context=True, executor="process", max_crashes=CRASHES)
def greedy_child(context: TaskContext, key: str, seconds: float) -> None:
    ledger.write("S", key, _note(context))
    _hold(seconds)
    ledger.write("E", key, _note(context))


@app.task(takes_context=True, max_crashes=CRASHES)
async def rude(context: TaskContext, key: str, seconds: float) -> None:
    """Blocks the event loop that it runs on."""
    ledger.write("S", key, _note(context))
    time.sleep(seconds)
    ledger.write("E", key, _note(context))


def _follow(path: Path) -> None:
    """Make the clock of this process wrong by the seconds in this file."""
    clock, wrong = time.time, [float(path.read_text())]
    time.time = lambda: clock() + wrong[0]
    while True:
        time.sleep(0.02)
        wrong[0] = float(path.read_text() or wrong[0])


if CLOCK in os.environ:
    threading.Thread(target=_follow, args=(Path(os.environ[CLOCK]),), name="clock", daemon=True).start()
