"""Celery on RabbitMQ, on a classic queue."""

from __future__ import annotations

import os

import course
from celery import Celery

PEER = "Celery"
BROKER = "rabbitmq"
REQUIREMENTS = ["celery"]
SETTINGS = (
    "--pool threads with 8 (the fastest here of solo, threads and prefork), worker_prefetch_multiplier 16 (4 is its "
    "default), without gossip and mingle, no result backend (its default). For safety task_acks_late with "
    "task_reject_on_worker_lost, and confirm_publish: each enqueue waits for the server's confirm (all off by "
    "default)."
)
ACKS = "after"
BULK = False
WORKER = [
    "{bin}/celery",
    "--app={name}",
    "worker",
    "--pool=threads",
    "--concurrency=8",
    "--loglevel=WARNING",
    "--without-gossip",
    "--without-mingle",
]

app = Celery("bench", broker=os.environ["BENCH_URL"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=16,
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
)


@app.task
def noop(number: int, text: str) -> int:
    return course.noop(number, text)


@app.task
def slow(number: int) -> int:
    return course.slow(number)


@app.task
def stamp() -> None:
    course.stamp()


class Producer(course.Producer):
    def noop(self, number: int) -> None:
        noop.delay(number, "hello")

    def slow(self, number: int) -> None:
        slow.delay(number)

    def stamp(self) -> None:
        stamp.delay()

    def close(self) -> None:
        app.close()
