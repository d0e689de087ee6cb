"""Outwork on RabbitMQ, on classic queues."""

from __future__ import annotations

import os

from _outwork import Producer, app

__all__ = ["Producer", "app"]

PEER = "Outwork"
BROKER = "rabbitmq"
REQUIREMENTS: list[str] = []
SETTINGS = (
    "queue_type=classic, otherwise its defaults: 20 jobs in hand, plain tasks on threads, each enqueue confirmed by "
    "the server, jobs acknowledged after they ran."
)
ACKS = "after"
BULK = True
WORKER = ["{python}", "-m", "outwork", "worker", "{name}:app"]

app.override({"broker_url": os.environ["BENCH_URL"] + "?queue_type=classic"})
