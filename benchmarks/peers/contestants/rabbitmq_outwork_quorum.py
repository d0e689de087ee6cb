"""Outwork on RabbitMQ, on quorum queues."""

from __future__ import annotations

from _outwork import Producer, app

__all__ = ["Producer", "app"]

PEER = "Outwork"
BROKER = "rabbitmq"
REQUIREMENTS: list[str] = []
SETTINGS = (
    "Its defaults: quorum queues, 20 jobs in hand, plain tasks on threads, each enqueue confirmed by the server, "
    "jobs acknowledged after they ran."
)
ACKS = "after"
BULK = True
WORKER = ["{python}", "-m", "outwork", "worker", "{name}:app"]
