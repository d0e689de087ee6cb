"""Outwork's jobs, the same with every broker."""

from __future__ import annotations

import os

import course

from outwork import Outwork

app = Outwork(broker_url=os.environ["BENCH_URL"])


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
        noop.enqueue(number, "hello")

    def bulk(self, numbers: range) -> None:
        app.enqueue_many(noop.bind(number, "hello") for number in numbers)

    def slow(self, number: int) -> None:
        slow.enqueue(number)

    def stamp(self) -> None:
        stamp.enqueue()
