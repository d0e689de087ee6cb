"""Docket on Redis."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

import course
from docket import Docket, Worker

PEER = "pydocket"
BROKER = "redis"
REQUIREMENTS = ["pydocket", "hiredis"]
SETTINGS = (
    "concurrency 10 (its default), minimum_check_interval 5 ms (with its default, 100 ms, it takes 10 jobs every "
    "100 ms), async tasks, results kept for 15 minutes (its default). A killed worker's jobs come back after the "
    "redelivery timeout of 5 minutes (its default)."
)
ACKS = "after"
BULK = True
WORKER = ["{python}", "{produce}", "{name}", "worker"]


async def noop(number: int, text: str) -> int:
    return course.noop(number, text)


async def slow(number: int) -> int:
    return await course.aslow(number)


async def stamp() -> None:
    course.stamp()


tasks = [noop, slow, stamp]


class Producer(course.Producer):
    async def open(self) -> None:
        self._docket = await Docket(name="bench", url=os.environ["BENCH_URL"]).__aenter__()

    async def noop(self, number: int) -> None:
        await self._docket.add(noop)(number, "hello")

    async def bulk(self, numbers: range) -> None:
        await self._docket.add_many(self._docket.call(noop)(number, "hello") for number in numbers)

    async def slow(self, number: int) -> None:
        await self._docket.add(slow)(number)

    async def stamp(self) -> None:
        await self._docket.add(stamp)()

    async def close(self) -> None:
        await self._docket.__aexit__(None, None, None)


def worker() -> None:
    often = timedelta(milliseconds=5)
    where = os.environ["BENCH_URL"]
    asyncio.run(Worker.run("bench", where, minimum_check_interval=often, tasks=["redis_pydocket:tasks"]))
