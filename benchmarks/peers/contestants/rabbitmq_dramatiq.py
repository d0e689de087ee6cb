"""Dramatiq on RabbitMQ, on classic queues."""

from __future__ import annotations

import os

from _dramatiq import producer_on
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
Producer = producer_on(broker)
