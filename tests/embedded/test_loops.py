"""Event loops that end before their process does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from outwork import Outwork
from outwork.serving import asgi
from support.waiting import until

app = Outwork("thread:")
seen: list[asyncio.AbstractEventLoop] = []
TOO_LONG = 3600.0


@app.task
async def look(seconds: float = 0.0) -> None:
    seen.append(asyncio.get_running_loop())
    await asyncio.sleep(seconds)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    app.close()
    seen.clear()


async def request(seconds: float) -> asyncio.AbstractEventLoop:
    """A request to a server that has no lifespan; returns when the task that it enqueued has begun."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await look.aenqueue(seconds)

    before = len(seen)
    await asgi(application, app)({"type": "http"}, nothing, nothing)
    await asyncio.to_thread(until, lambda: len(seen) > before, "the start of the task")
    return asyncio.get_running_loop()


async def nothing(*message: Any) -> Any:
    return None


def test_the_next_tasks_run_on_a_loop_that_turns() -> None:
    first = asyncio.run(request(0.0))
    assert seen == [first]
    second = asyncio.run(request(0.0))
    third = asyncio.run(request(0.0))
    assert seen[1] is seen[2]
    assert seen[1] not in (first, second, third)


def test_a_worker_outlives_the_loop_on_which_a_task_ran() -> None:
    asyncio.run(request(TOO_LONG))
    app.stop_worker()
    assert app.broker.workers() == []
