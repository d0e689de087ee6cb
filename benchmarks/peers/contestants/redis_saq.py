"""SAQ on Redis."""

from __future__ import annotations

import os

import course
from saq import Queue

PEER = "SAQ"
BROKER = "redis"
REQUIREMENTS = ["saq[redis,hiredis]", "typing_extensions"]
SETTINGS = (
    "concurrency 20 (10 is its default), async tasks, jobs with retries=3 (with its default of 1 a killed worker's "
    "jobs are aborted), results kept for 10 minutes (its default). A killed worker's jobs come back with the sweep, "
    "every 60 s (its default), once they are older than their timeout of 10 s (its default)."
)
ACKS = "after"
BULK = False
WORKER = ["{bin}/saq", "{name}.settings"]


async def noop(context: object, *, number: int, text: str) -> int:
    return course.noop(number, text)


async def slow(context: object, *, number: int) -> int:
    return await course.aslow(number)


async def stamp(context: object) -> None:
    course.stamp()


queue = Queue.from_url(os.environ["BENCH_URL"])
settings = {"queue": queue, "functions": [noop, slow, stamp], "concurrency": 20}


class Producer(course.Producer):
    async def open(self) -> None:
        await queue.connect()

    async def noop(self, number: int) -> None:
        await queue.enqueue("noop", number=number, text="hello", retries=3)

    async def slow(self, number: int) -> None:
        await queue.enqueue("slow", number=number, retries=3)

    async def stamp(self) -> None:
        await queue.enqueue("stamp", retries=3)

    async def close(self) -> None:
        await queue.disconnect()
