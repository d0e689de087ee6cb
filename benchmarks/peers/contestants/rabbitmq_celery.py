"""Celery on RabbitMQ, on a classic queue."""

from __future__ import annotations

from _celery import Producer, app

__all__ = ["Producer", "app"]

PEER = "Celery"
BROKER = "rabbitmq"
REQUIREMENTS = ["celery"]
SETTINGS = (
    "--pool threads with 8 (the fastest here of solo, threads and prefork), worker_prefetch_multiplier 16 (4 is its "
    "default), without gossip and mingle, no result backend (its default). For safety task_acks_late with "
    "task_reject_on_worker_lost, and confirm_publish: each enqueue waits for the server's confirm (all off by "
    "default)."
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

app.conf.update(worker_prefetch_multiplier=16, broker_transport_options={"confirm_publish": True})
