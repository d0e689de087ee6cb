"""Dramatiq's jobs, the same with every broker."""

from __future__ import annotations

import course
import dramatiq


def producer_on(broker: dramatiq.Broker) -> type[course.Producer]:
    """What enqueues jobs there; the worker finds the actors that it declares."""
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

    return Producer
