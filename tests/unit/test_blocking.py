"""Who blocks an event loop is told so, once, where it took long."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence

import pytest

from outwork import Outwork, ResultTimeout
from outwork.brokers.base import Accepted
from outwork.brokers.memory import MemoryBroker
from outwork.client import blocking
from outwork.job import Job


@pytest.fixture(autouse=True)
def untold() -> Iterator[None]:
    blocking._told.clear()
    yield
    blocking._told.clear()


class Slow(MemoryBroker):
    """A server behind a slow line."""

    def enqueue(self, jobs: Sequence[Job]) -> list[Accepted]:
        time.sleep(blocking.SLOW)
        return super().enqueue(jobs)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_slow_enqueue_in_a_coroutine_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    app = Outwork(broker=Slow.from_url("dummy:"))

    @app.task
    def work() -> None: ...

    async def main() -> None:
        work.enqueue()
        work.enqueue()

    asyncio.run(main())
    assert said(caplog) == ["outwork: enqueue() blocked the event loop; in a coroutine write  await ….aenqueue(...)"]


def test_a_task_that_runs_in_its_caller_counts(caplog: pytest.LogCaptureFixture) -> None:
    app = Outwork()

    @app.task
    def work() -> None:
        time.sleep(blocking.SLOW)

    async def main() -> None:
        work.enqueue()

    asyncio.run(main())
    assert "enqueue() blocked" in said(caplog)[0]


def test_nothing_is_told_without_a_loop_or_when_it_was_quick(caplog: pytest.LogCaptureFixture) -> None:
    slow, quick = Outwork(broker=Slow.from_url("dummy:")), Outwork("dummy:")

    def work() -> None: ...

    async def main() -> None:
        quick.task(work).enqueue()
        await slow.tasks[task.name].aenqueue()

    task = slow.task(work)
    task.enqueue()
    asyncio.run(main())
    slow.close()
    assert said(caplog) == []


def test_a_wait_that_blocks_the_loop_is_told_while_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    app = Outwork("dummy:")

    @app.task
    def work() -> None: ...

    async def main() -> None:
        result = work.enqueue()
        with pytest.raises(ResultTimeout, match=r"still ready after 0\.2 s"):
            result.get(timeout=0.2)

    asyncio.run(main())
    app.close()
    assert said(caplog) == ["outwork: get() blocked the event loop; in a coroutine write  await ….aget(...)"]
