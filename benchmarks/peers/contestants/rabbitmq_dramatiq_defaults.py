"""Dramatiq on RabbitMQ, as it comes."""

from __future__ import annotations

from rabbitmq_dramatiq import Producer, broker

__all__ = ["Producer", "broker"]

PEER = "Dramatiq"
BROKER = "rabbitmq"
REQUIREMENTS = ["dramatiq[rabbitmq]"]
SETTINGS = (
    "Its defaults: a process for each of the two processors with 8 threads, no confirm for what is enqueued, so "
    "that a job can be lost on its way to the server. It acknowledges after the job."
)
ACKS = "after"
BULK = False
WORKER = ["{bin}/dramatiq", "{name}", "--skip-logging"]

broker.confirm_delivery = False
