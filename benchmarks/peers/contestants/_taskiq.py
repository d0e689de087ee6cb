"""taskiq's jobs, the same with every broker."""

from __future__ import annotations

import course
from taskiq import AsyncBroker


def producer_on(broker: AsyncBroker) -> type[course.Producer]:
    """What enqueues jobs there; the worker finds the tasks that it declares."""

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

    return Producer
