"""RQ on Redis with its worker that does not fork."""

from __future__ import annotations

import os

import course
from redis import Redis
from rq import Queue, Retry, SimpleWorker

PEER = "RQ"
BROKER = "redis"
REQUIREMENTS = ["rq", "hiredis"]
SETTINGS = (
    "SimpleWorker, which runs the jobs in its own process; results kept for 500 s (its default). Retry(max=3): "
    "without it, the job of a killed worker is failed. It comes back when a worker cleans the registry of started "
    "jobs, every 10 minutes (its default)."
)
ACKS = "after"
BULK = True
WORKER = ["{python}", "{produce}", "{name}", "worker"]

BATCH = 1000
queue = Queue("bench", connection=Redis.from_url(os.environ["BENCH_URL"]))
retry = Retry(max=3)


def noop(number: int, text: str) -> int:
    return course.noop(number, text)


def slow(number: int) -> int:
    return course.slow(number)


def stamp() -> None:
    course.stamp()


class Producer(course.Producer):
    def noop(self, number: int) -> None:
        queue.enqueue(noop, number, "hello", retry=retry)

    def bulk(self, numbers: range) -> None:
        for start in range(0, len(numbers), BATCH):
            some = numbers[start : start + BATCH]
            queue.enqueue_many([Queue.prepare_data(noop, (number, "hello"), retry=retry) for number in some])

    def slow(self, number: int) -> None:
        queue.enqueue(slow, number, retry=retry)

    def stamp(self) -> None:
        queue.enqueue(stamp, retry=retry)


def worker() -> None:
    SimpleWorker([queue], connection=queue.connection).work(logging_level="WARNING")
