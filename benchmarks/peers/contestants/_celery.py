"""Celery's jobs, the same with every broker, and its settings for safety."""

from __future__ import annotations

import os

import course
from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_URL"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
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
