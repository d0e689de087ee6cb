"""Celery on Redis."""

from __future__ import annotations

from _celery import Producer, app

__all__ = ["Producer", "app"]

PEER = "Celery"
BROKER = "redis"
REQUIREMENTS = ["celery[redis]", "hiredis"]
SETTINGS = (
    "--pool threads --concurrency 8 (its default, prefork, needs more processor time for such jobs), task_acks_late "
    "with task_reject_on_worker_lost, worker_prefetch_multiplier 100 (4 is its default), without gossip and mingle, "
    "no result backend (its default). With acks_late it acknowledges after the job; a killed worker's jobs come "
    "back after the visibility timeout of an hour (its default)."
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

app.conf.worker_prefetch_multiplier = 100
