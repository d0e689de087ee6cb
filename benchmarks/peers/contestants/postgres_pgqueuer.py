"""PgQueuer on PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import course
import pgqueuer
import uvloop
from pgqueuer import Job, PgQueuer, Queries

PEER = "PgQueuer"
BROKER = "postgresql"
REQUIREMENTS = ["pgqueuer[asyncpg]", "uvloop"]
SETTINGS = (
    "Its worker on uvloop, by pgqueuer.run, as its guide shows (`pgq run` of 1.6.0 ends with an error beside the "
    "newest typer); asyncpg with a pool, batch_size 1,000 (least processor time here of 50 to 5,000; 10 is its "
    "default), durable tables (its default) and its autovacuum settings; async jobs on the event loop, without a "
    "limit (its default). It acknowledges after the job; a killed worker's jobs come back once their heartbeat is "
    "30 s old (its default). Bulk in lists of 1,000."
)
ACKS = "after"
BULK = True
WORKER = ["{python}", "{produce}", "{name}", "worker"]


@asynccontextmanager
async def manager() -> AsyncIterator[PgQueuer]:
    async with asyncpg.create_pool(os.environ["BENCH_URL"], min_size=2, max_size=10) as pool:
        one = PgQueuer.from_asyncpg_pool(pool)

        @one.entrypoint("noop")
        async def noop(job: Job) -> None:
            course.noop(*json.loads(job.payload or b""))

        @one.entrypoint("slow")
        async def slow(job: Job) -> None:
            await asyncio.to_thread(course.slow, *json.loads(job.payload or b""))

        @one.entrypoint("stamp")
        async def stamp(job: Job) -> None:
            course.stamp()

        yield one


def worker() -> None:
    uvloop.run(pgqueuer.run(manager, batch_size=1000))


class Producer(course.Producer):
    async def open(self) -> None:
        self.connection = await asyncpg.connect(os.environ["BENCH_URL"])
        self.queries = Queries.from_asyncpg_connection(self.connection)

    async def setup(self) -> None:
        await self.queries.install()
        await self.queries.optimize_autovacuum()

    async def noop(self, number: int) -> None:
        await self.queries.enqueue("noop", json.dumps([number, "hello"]).encode())

    async def bulk(self, numbers: range) -> None:
        for start in range(0, len(numbers), 1000):
            payloads = [json.dumps([number, "hello"]).encode() for number in numbers[start : start + 1000]]
            await self.queries.enqueue(["noop"] * len(payloads), payloads, [0] * len(payloads))

    async def slow(self, number: int) -> None:
        await self.queries.enqueue("slow", json.dumps([number]).encode())

    async def stamp(self) -> None:
        await self.queries.enqueue("stamp", None)

    async def close(self) -> None:
        await self.connection.close()
