"""taskiq on Redis, with its broker on streams."""

from __future__ import annotations

import os

import course
from taskiq_redis import RedisStreamBroker

PEER = "taskiq"
BROKER = "redis"
REQUIREMENTS = ["taskiq", "taskiq-redis", "hiredis", "uvloop"]
SETTINGS = (
    "RedisStreamBroker, the one of its brokers on Redis that acknowledges; --workers 1, --ack-type when_executed, "
    "--max-async-tasks 100 (its default), async tasks on uvloop, no result backend (its default). A killed worker's "
    "jobs come back after 10 minutes (its default)."
)
ACKS = "after"
BULK = False
WORKER = [
    "{bin}/taskiq",
    "worker",
    "{name}:broker",
    "--workers",
    "1",
    "--ack-type",
    "when_executed",
    "--log-level",
    "WARNING",
]

broker = RedisStreamBroker(os.environ["BENCH_URL"])


@broker.task
async def noop(number: int, text: str) -> int:
    return course.noop(number, text)


@broker.task
async def slow(number: int) -> int:
    return await course.aslow(number)


@broker.task
async def stamp() -> None:
    course.stamp()


class Producer(course.Producer):
    async def open(self) -> None:
        await broker.startup()

    async def noop(self, number: int) -> None:
        await noop.kiq(number, "hello")

    async def slow(self, number: int) -> None:
        await slow.kiq(number)

    async def stamp(self) -> None:
        await stamp.kiq()

    async def close(self) -> None:
        await broker.shutdown()
