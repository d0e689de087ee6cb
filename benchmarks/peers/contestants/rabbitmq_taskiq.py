"""taskiq on RabbitMQ, with its broker on aio-pika and a classic queue."""

from __future__ import annotations

import os

from _taskiq import producer_on
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
Producer = producer_on(broker)
