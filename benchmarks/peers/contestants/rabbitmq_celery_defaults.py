"""Celery on RabbitMQ, as it comes."""

from __future__ import annotations

from rabbitmq_celery import Producer, app

__all__ = ["Producer", "app"]

PEER = "Celery"
BROKER = "rabbitmq"
REQUIREMENTS = ["celery"]
SETTINGS = (
    "Its defaults: --pool prefork with a process for each of the two processors, worker_prefetch_multiplier 4, a "
    "classic queue, no confirm for what is enqueued. It acknowledges before the job: what runs in a killed worker "
    "is lost."
)
ACKS = "before"
BULK = False
WORKER = ["{bin}/celery", "--app={name}", "worker", "--loglevel=WARNING"]

app.conf.update(
    task_acks_late=False,
    task_reject_on_worker_lost=False,
    worker_prefetch_multiplier=4,
    broker_transport_options={},
)
