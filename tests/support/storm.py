"""The tasks of the storm of the fault scorecard; `support.storm_producer` enqueues them.

A job's key begins with its kind. A line of a start or an end has the words that the replay reads (see `support.load`),
then the job's id and its worker's.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from outwork import Concurrency, Outwork, Retry, TaskContext
from support import ledger

app = Outwork()
SOON: Final = Retry(max_attempts=1000, delay=0.1, factor=1.5, max_delay=1.0)
MOST: Final = 2
"""So many jobs of a line run at a time."""
CRASHES: Final = 1000
"""Nobody is buried for what the storm does."""


class AsAsked(Exception):
    """An attempt that fails because it is asked to."""


def _note(context: TaskContext) -> str:
    claimed = context._claimed
    counts = f"{context.attempt} {context.crashes} {context.failed_attempts}"
    return f"{claimed.claim_id} {counts} {context.job_id} {context.worker_id}"


def _end(context: TaskContext, key: str, fails: int = 0) -> str:
    """Write its end: the first attempts fail where they are asked to. It returns its claim."""
    if context.failed_attempts < fails:
        ledger.write("F", key, _note(context))
        raise AsAsked
    ledger.write("E", key, _note(context))
    assert context._claimed.claim_id is not None
    return context._claimed.claim_id


@app.task(takes_context=True, retry=SOON, max_crashes=CRASHES)
def work(context: TaskContext, key: str, seconds: float, fails: int = 0) -> str:
    ledger.write("S", key, _note(context))
    time.sleep(seconds)
    return _end(context, key, fails)


@app.task(takes_context=True, retry=SOON, max_crashes=CRASHES)
async def async_work(context: TaskContext, key: str, seconds: float, fails: int = 0) -> str:
    ledger.write("S", key, _note(context))
    await asyncio.sleep(seconds)
    return _end(context, key, fails)


@app.task(takes_context=True, executor="process", retry=SOON, max_crashes=CRASHES)
def child_work(context: TaskContext, key: str, seconds: float, fails: int = 0) -> str:
    ledger.write("S", key, _note(context))
    time.sleep(seconds)
    return _end(context, key, fails)


@app.task(takes_context=True, delivery="at_most_once")
def once(context: TaskContext, key: str, seconds: float) -> str:
    ledger.write("S", key, _note(context))
    time.sleep(seconds)
    return _end(context, key)


@app.task(takes_context=True, retry=SOON, max_crashes=CRASHES, limit=Concurrency(MOST, key=lambda line, **_: line))
def narrow(context: TaskContext, key: str, seconds: float, line: str, fails: int = 0) -> str:
    ledger.write("S", key, _note(context))
    time.sleep(seconds)
    return _end(context, key, fails)


@app.task(takes_context=True, retry=SOON, max_crashes=CRASHES, unique_key=lambda name, **_: name)
def alone(context: TaskContext, key: str, seconds: float, name: str) -> str:
    ledger.write("S", key, _note(context))
    time.sleep(seconds)
    return _end(context, key)


@app.task(takes_context=True, retry=SOON, max_crashes=CRASHES)
def follow(context: TaskContext, before: str, key: str, seconds: float) -> str:
    ledger.write("S", key, _note(context))
    time.sleep(seconds)
    return _end(context, key)


@app.task(takes_context=True, retry=SOON, max_crashes=CRASHES)
def gather(context: TaskContext, before: list[str], key: str) -> str:
    ledger.write("S", key, _note(context))
    return _end(context, key)
