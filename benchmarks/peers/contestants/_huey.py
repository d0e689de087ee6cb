"""Huey's jobs, the same with every storage."""

from __future__ import annotations

import course
from huey import Huey


def producer_on(huey: Huey) -> type[course.Producer]:
    """What enqueues jobs there; the worker finds the tasks that it declares."""

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

    return Producer
