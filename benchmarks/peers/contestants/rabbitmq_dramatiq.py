"""Dramatiq on RabbitMQ, on classic queues."""

from __future__ import annotations

import os

import course
import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

PEER = "Dramatiq"
BROKER = "rabbitmq"
REQUIREMENTS = ["dramatiq[rabbitmq]"]
SETTINGS = (
    "--processes 1 --threads 8 (its default is 2 and 8), dramatiq_queue_prefetch 200 (twice the threads is its "
    "default), confirm_delivery: each enqueue waits for the server's confirm (off by default), default middleware, "
    "no results. It acknowledges after the job."
)
ACKS = "after"
BULK = False
WORKER = [
    "env",
    "dramatiq_queue_prefetch=200",
    "{bin}/dramatiq",
    "{name}",
    "--processes",
    "1",
    "--threads",
    "8",
    "--skip-logging",
]

broker = RabbitmqBroker(url=os.environ["BENCH_URL"], confirm_delivery=True)
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
