"""Huey on Redis."""

from __future__ import annotations

import os

import course
from huey import RedisHuey

PEER = "Huey"
BROKER = "redis"
REQUIREMENTS = ["huey", "redis", "hiredis"]
SETTINGS = (
    "RedisHuey with its blocking pop (its default), -k thread -w 4, results kept until they are read (its default). "
    "It takes the job out of the queue before it runs, and has no setting that would acknowledge it afterwards."
)
ACKS = "before"
BULK = False
WORKER = ["{bin}/huey_consumer", "{name}.huey", "-k", "thread", "-w", "4", "-q"]

huey = RedisHuey("bench", url=os.environ["BENCH_URL"])


@huey.task()
def noop(number: int, text: str) -> int:
    return course.noop(number, text)


@huey.task()
def slow(number: int) -> int:
    return course.slow(number)


@huey.task()
def stamp() -> None:
    course.stamp()


class Producer(course.Producer):
    def noop(self, number: int) -> None:
        noop(number, "hello")

    def slow(self, number: int) -> None:
        slow(number)

    def stamp(self) -> None:
        stamp()
