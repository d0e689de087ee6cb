"""The producer of every contestant, in a process of its own: `python produce.py CONTESTANT COMMAND [COUNT]`.

It runs inside the peer's virtual environment and prints one line of JSON, the last of its output. The contestant is a
module that declares its tasks and a class `Producer`, whose methods are either all plain or all `async`:

    open()         connect, declare; before anything else, and not timed
    setup()        make tables and queues, once for each space on the server
    noop(number)   enqueue one no-op job with (number, "hello")
    bulk(numbers)  enqueue one for each number of the range, in the batches that the peer likes best (if it can)
    slow(number)   enqueue one job of 20 ms
    stamp()        enqueue one job that says when it was entered
    close()

and, if its worker is not a command of the peer's own, a function `worker()`.

    setup
    enqueue COUNT   enqueues COUNT no-op jobs one at a time, of which all but the first are timed: {"count", "seconds",
                    "cpu"}, on the clock and of this process
    bulk COUNT      the same, in bulk
    slow COUNT
    stamps COUNT    {"called", "returned"}: seconds from the call of the enqueue, and from its return, until each job
                    was entered, 20 ms apart; before them one that is not counted, which waits for the worker
    worker
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import select
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

PAUSE = 0.02
START = 60.0
"""Seconds that the first job may take, since the worker may have to start."""
PATIENCE = 10.0
"""Seconds that each later one may take."""


async def done(answer: Any) -> None:
    if inspect.isawaitable(answer):
        await answer


async def timed(enqueue: Callable[[range], Any], count: int) -> dict[str, float]:
    """The first job is enqueued before the clock starts: it connects."""
    await done(enqueue(range(1)))
    began, used = time.perf_counter(), time.process_time()
    await done(enqueue(range(1, count)))
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    return {"count": count - 1, "seconds": seconds, "cpu": cpu}


def one_by_one(enqueue: Callable[[int], Any], asynchronous: bool) -> Callable[[range], Any]:
    """Enqueues one for each number, one after the other."""

    async def awaiting(numbers: range) -> None:
        for number in numbers:
            await enqueue(number)

    def plainly(numbers: range) -> None:
        for number in numbers:
            enqueue(number)

    return awaiting if asynchronous else plainly


async def readable(handle: int, seconds: float) -> None:
    """Wait without holding up the event loop, which may have work of the peer's."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, ready.set)
    try:
        await asyncio.wait_for(ready.wait(), seconds)
    finally:
        loop.remove_reader(handle)


def first_since(moment: float, lines: bytes) -> float | None:
    """The first time after this. One before it is of the job before, which some peers may run twice."""
    return next((time for time in map(float, lines.split()) if time >= moment), None)


async def stamps(enqueue: Callable[[], Any], count: int, asynchronous: bool) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"called": [], "returned": []}
    handle = os.open(os.environ["BENCH_STAMPS"], os.O_RDWR)  # its own writing end, so that it is never at an end
    for number in range(count + 1):
        patience = PATIENCE if number else START
        called = time.monotonic()
        answer = enqueue()
        if asynchronous:
            await answer
        returned = time.monotonic()
        entered: float | None = None
        while entered is None:
            if asynchronous:
                await readable(handle, patience)
            elif not select.select([handle], [], [], patience)[0]:
                raise TimeoutError(f"job {number} was not entered within {patience:g} s")
            entered = first_since(called, os.read(handle, 4096))
        if number:
            times["called"].append(entered - called)
            times["returned"].append(entered - returned)
        if asynchronous:
            await asyncio.sleep(PAUSE)
        else:
            time.sleep(PAUSE)
    os.close(handle)
    return times


async def run(producer: Any, command: str, count: int, asynchronous: bool) -> object:
    await done(producer.open())
    try:
        if command == "setup":
            await done(producer.setup())
            return {}
        if command == "bulk":
            return await timed(producer.bulk, count)
        if command == "stamps":
            return await stamps(producer.stamp, count, asynchronous)
        return await timed(one_by_one(getattr(producer, COMMANDS[command]), asynchronous), count)
    finally:
        await done(producer.close())


COMMANDS = {"enqueue": "noop", "slow": "slow"}


def finish(coroutine: Coroutine[Any, Any, object], asynchronous: bool) -> object:
    """Run it on an event loop, the fastest that this environment has; a plain producer never waits for one, and runs
    without, as in a plain program."""
    if asynchronous:
        try:
            import uvloop
        except ImportError:
            return asyncio.run(coroutine)
        return uvloop.run(coroutine)
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a plain producer waited for something")


def main(name: str, command: str, count: str = "0") -> None:
    contestant = importlib.import_module(name)
    if command == "worker":
        contestant.worker()
        return
    producer = contestant.Producer()
    asynchronous = inspect.iscoroutinefunction(producer.noop)
    print(json.dumps(finish(run(producer, command, int(count), asynchronous), asynchronous)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
