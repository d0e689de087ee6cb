"""taskiq on RabbitMQ, with its broker on aio-pika and a quorum queue."""

from __future__ import annotations

from rabbitmq_taskiq import Producer, broker
from taskiq_aio_pika import Queue

__all__ = ["Producer", "broker"]

PEER = "taskiq"
BROKER = "rabbitmq"
REQUIREMENTS = ["taskiq", "taskiq-aio-pika", "uvloop"]
SETTINGS = (
    "A quorum queue (its default); otherwise as on the classic queue: --workers 1, --ack-type when_executed, --max- "
    "async-tasks 100 and --max-prefetch 100, qos 200, async tasks on uvloop, no result backend, each enqueue "
    "confirmed."
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

broker.with_queues(Queue())
