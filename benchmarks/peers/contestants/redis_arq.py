"""arq on Redis."""

from __future__ import annotations

import logging
import os

import course
from arq import create_pool
from arq.connections import RedisSettings

PEER = "arq"
BROKER = "redis"
REQUIREMENTS = ["arq", "hiredis"]
SETTINGS = (
    "max_jobs 20 (10 is its default), poll_delay 10 ms (its default, half a second, would be its latency), async "
    "tasks, results kept for an hour (its default). It has no bulk enqueue. A killed worker's jobs come back after "
    "job_timeout and 10 s, 310 s by default."
)
ACKS = "after"
BULK = False
WORKER = ["{bin}/arq", "{name}.WorkerSettings", "--custom-log-dict", "{name}.QUIET"]

QUIET = {"version": 1, "root": {"level": logging.WARNING}}


async def noop(context: object, number: int, text: str) -> int:
    return course.noop(number, text)


async def slow(context: object, number: int) -> int:
    return await course.aslow(number)


async def stamp(context: object) -> None:
    course.stamp()


class WorkerSettings:
    redis_settings = RedisSettings.from_dsn(os.environ["BENCH_URL"])
    functions = (noop, slow, stamp)
    max_jobs = 20
    poll_delay = 0.01


class Producer(course.Producer):
    async def open(self) -> None:
        self._pool = await create_pool(WorkerSettings.redis_settings)

    async def noop(self, number: int) -> None:
        await self._pool.enqueue_job("noop", number, "hello")

    async def slow(self, number: int) -> None:
        await self._pool.enqueue_job("slow", number)

    async def stamp(self) -> None:
        await self._pool.enqueue_job("stamp")

    async def close(self) -> None:
        await self._pool.aclose()
