"""streaq on Redis."""

from __future__ import annotations

import os

import course
from streaq import Worker

PEER = "streaq"
BROKER = "redis"
REQUIREMENTS = ["streaq", "uvloop"]
SETTINGS = (
    "concurrency 16 and prefetch the same (its defaults), async tasks on uvloop, results kept for 5 minutes (its "
    "default). A killed worker's jobs come back after the idle timeout of 60 s (its default)."
)
ACKS = "after"
BULK = True
WORKER = ["{bin}/streaq", "run", "{name}:worker"]

BATCH = 1000
worker = Worker(redis_url=os.environ["BENCH_URL"], anyio_kwargs={"use_uvloop": True})


@worker.task(silent=True)
async def noop(number: int, text: str) -> int:
    return course.noop(number, text)


@worker.task(silent=True)
async def slow(number: int) -> int:
    return await course.aslow(number)


@worker.task(silent=True)
async def stamp() -> None:
    course.stamp()


class Producer(course.Producer):
    async def open(self) -> None:
        await worker.__aenter__()

    async def noop(self, number: int) -> None:
        await noop.enqueue(number, "hello")

    async def bulk(self, numbers: range) -> None:
        for start in range(0, len(numbers), BATCH):
            await worker.enqueue_many([noop.enqueue(number, "hello") for number in numbers[start : start + BATCH]])

    async def slow(self, number: int) -> None:
        await slow.enqueue(number)

    async def stamp(self) -> None:
        await stamp.enqueue()

    async def close(self) -> None:
        await worker.__aexit__(None, None, None)
