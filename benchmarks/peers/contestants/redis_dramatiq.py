"""Dramatiq on Redis."""

from __future__ import annotations

import os

import course
import dramatiq
from dramatiq.brokers.redis import RedisBroker

PEER = "Dramatiq"
BROKER = "redis"
REQUIREMENTS = ["dramatiq[redis]", "hiredis"]
SETTINGS = (
    "--processes 1 --threads 8 (its default), dramatiq_queue_prefetch 1000 (its default of 2 a thread drains "
    "slower), results off (its default). It acknowledges after the job; a killed worker's jobs come back once its "
    "heartbeat is 60 s old (its default), looked for at about one in a thousand of its fetches."
)
ACKS = "after"
BULK = False
WORKER = [
    "env",
    "dramatiq_queue_prefetch=1000",
    "{bin}/dramatiq",
    "{name}",
    "--processes",
    "1",
    "--threads",
    "8",
    "--skip-logging",
]

broker = RedisBroker(url=os.environ["BENCH_URL"])
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name="bench")
def noop(number: int, text: str) -> None:
    course.noop(number, text)


@dramatiq.actor(queue_name="bench")
def slow(number: int) -> None:
    course.slow(number)


@dramatiq.actor(queue_name="bench")
def stamp() -> None:
    course.stamp()


class Producer(course.Producer):
    def noop(self, number: int) -> None:
        noop.send(number, "hello")

    def slow(self, number: int) -> None:
        slow.send(number)

    def stamp(self) -> None:
        stamp.send()

    def close(self) -> None:
        broker.close()
