"""chancy on PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
import os

import course
from chancy import Chancy, Queue, job

PEER = "chancy"
BROKER = "postgresql"
REQUIREMENTS = ["chancy[cli]", "psycopg[binary]"]
SETTINGS = (
    "AsyncExecutor (processes are its default), concurrency 1,000 (100 is its default) with eager_polling, since "
    "otherwise it asks for no more than that each 5 s; psycopg in C, its default plugins. It acknowledges after the "
    "job and writes that each second (its default), so that its drain ends before its last results are written; a "
    "killed worker's jobs come back when its heartbeat is 90 s old, which it looks for each minute (its defaults). "
    "Bulk in batches of 1,000 (its default)."
)
ACKS = "after"
BULK = True
WORKER = ["{bin}/chancy", "--app={name}.app", "worker", "start"]

QUEUE = Queue("default", executor=Chancy.Executor.Async, concurrency=1000, eager_polling=True)
app = Chancy(os.environ["BENCH_URL"], log=logging.getLogger("chancy"))


@job()
async def noop(*, number: int, text: str) -> None:
    course.noop(number, text)


@job()
async def slow(*, number: int) -> None:
    await asyncio.to_thread(course.slow, number)


@job()
async def stamp() -> None:
    course.stamp()


class Producer(course.Producer):
    def open(self) -> None:
        app.sync_pool.open()

    def setup(self) -> None:
        async def prepare() -> None:
            async with app:
                await app.migrate()
                await app.declare(QUEUE, upsert=True)

        asyncio.run(prepare())

    def noop(self, number: int) -> None:
        app.sync_push(noop.job.with_kwargs(number=number, text="hello"))

    def bulk(self, numbers: range) -> None:
        jobs = [noop.job.with_kwargs(number=number, text="hello") for number in numbers]
        for _ in app.sync_push_many(jobs):
            pass

    def slow(self, number: int) -> None:
        app.sync_push(slow.job.with_kwargs(number=number))

    def stamp(self) -> None:
        app.sync_push(stamp.job)

    def close(self) -> None:
        app.sync_pool.close()
