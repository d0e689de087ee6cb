"""Celery on RabbitMQ, on a quorum queue."""

from __future__ import annotations

from rabbitmq_celery import Producer, app

__all__ = ["Producer", "app"]

PEER = "Celery"
BROKER = "rabbitmq"
REQUIREMENTS = ["celery"]
SETTINGS = (
    "task_default_queue_type quorum; otherwise as on the classic queue: --pool threads with 8, "
    "worker_prefetch_multiplier 16, without gossip and mingle, no result backend, task_acks_late, "
    "task_reject_on_worker_lost and confirm_publish."
)
ACKS = "after"
BULK = False
WORKER = [
    "{bin}/celery",
    "--app={name}",
    "worker",
    "--pool=threads",
    "--concurrency=8",
    "--loglevel=WARNING",
    "--without-gossip",
    "--without-mingle",
]

app.conf.task_default_queue_type = "quorum"
