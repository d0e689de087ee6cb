"""taskiq on RabbitMQ, with its broker on aio-pika and a classic queue."""

from __future__ import annotations

import os

import course
from taskiq_aio_pika import AioPikaBroker, Queue, QueueType

PEER = "taskiq"
BROKER = "rabbitmq"
REQUIREMENTS = ["taskiq", "taskiq-aio-pika", "uvloop"]
SETTINGS = (
    "--workers 1, --ack-type when_executed (after the job), --max-async-tasks 100 (its default) and --max-prefetch "
    "100, qos 200 (10 is its default), async tasks on uvloop, no result backend (its default). Each enqueue waits "
    "for the server's confirm, as aio-pika does by default."
)
ACKS = "after"
BULK = False
WORKER = [
    "{bin}/taskiq",
    "worker",
    "{name}:broker",
    "--workers",
    "1",
    "--ack-type",
    "when_executed",
    "--max-prefetch",
    "100",
    "--log-level",
    "WARNING",
]

broker = AioPikaBroker(
    os.environ["BENCH_URL"],
    qos=200,
    task_queues=[Queue(type=QueueType.CLASSIC)],
    dead_letter_queue=Queue(name="taskiq.dead_letter", type=QueueType.CLASSIC),
)


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
