"""The web application of these tests: as WSGI and as ASGI, plain, so that every server can serve it.

GET /                          "hello"
GET /enqueue?task=NAME&n=3...  enqueues one job of these arguments (or n, numbered); answers with the ids
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import outwork
from outwork import task
from outwork.serving import asgi, wsgi
from support import ledger

GATE = Path(os.environ.get("GATE", "gate"))
"""Tasks that wait for it end when this file is there."""
loops: list[asyncio.AbstractEventLoop] = []
"""The event loop of the application, once it is known."""

# ---- tasks -----------------------------------------------------------------------------------------------------------


@task
def step(key: str, seconds: float = 0.0) -> None:
    ledger.write("S", key)
    time.sleep(seconds)
    ledger.write("E", key)


@task
async def coroutine(key: str, seconds: float = 0.0) -> None:
    where = "application" if asyncio.get_running_loop() in loops else "own"
    ledger.write("S", key, where)
    await asyncio.sleep(seconds)
    ledger.write("E", key, where)


@task
def gated(key: str) -> None:
    """Runs until the gate is open."""
    ledger.write("S", key)
    while not GATE.exists():
        time.sleep(0.01)
    ledger.write("E", key)


@task
async def uses_an_executor(key: str) -> None:
    """As many coroutines do, also while they are drained."""
    ledger.write("S", key)
    await asyncio.sleep(0.5)
    await asyncio.to_thread(ledger.write, "E", key)


TASKS = {one.fn.__name__: one for one in (step, coroutine, gated, uses_an_executor)}


def answer(path: str, query: str) -> bytes:
    """What both applications do with a request."""
    if path != "/enqueue":
        return b"hello"
    words: dict[str, Any] = dict(parse_qsl(query))
    name, count = words.pop("task", "step"), int(words.pop("n", 0))
    if "seconds" in words:
        words["seconds"] = float(words["seconds"])
    keys = [f"{words['key']}-{number}" for number in range(count)] if count else [words["key"]]
    calls = [TASKS[name].bind(**(words | {"key": key})) for key in keys]
    return json.dumps([result.id for result in outwork.enqueue_many(calls)]).encode()


# ---- applications ----------------------------------------------------------------------------------------------------


def plain(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer(environ["PATH_INFO"], environ["QUERY_STRING"])]


wsgi_app = wsgi(plain)


async def respond(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """An application that knows of no lifespan."""
    if scope["type"] != "http":
        raise RuntimeError(f"what is {scope['type']}?")
    loops.append(asyncio.get_running_loop())
    body = answer(scope["path"], scope["query_string"].decode())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def with_lifespan(
    scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Needs what it opens at start-up; enqueues while it starts."""
    if scope["type"] != "lifespan":
        await respond(scope, receive, send)
        return
    assert (await receive())["type"] == "lifespan.startup"
    await coroutine.aenqueue(f"startup-{os.getpid()}")
    await asyncio.sleep(0.1)  # a worker that were started by that enqueue would run it now, on a loop of its own
    loops.append(asyncio.get_running_loop())
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    loops.clear()
    await send({"type": "lifespan.shutdown.complete"})


asgi_app = asgi(with_lifespan)
asgi_without_lifespan = asgi(respond)

if key := os.environ.get("AT_IMPORT"):
    step.enqueue(key)
