"""RQ on Redis with its worker that does not fork."""

from __future__ import annotations

from redis_rq import Producer, queue
from rq import SimpleWorker

__all__ = ["Producer", "worker"]

PEER = "RQ"
BROKER = "redis"
REQUIREMENTS = ["rq", "hiredis"]
SETTINGS = (
    "SimpleWorker, which runs the jobs in its own process; results kept for 500 s (its default). Retry(max=3): "
    "without it, the job of a killed worker is failed. It comes back when a worker cleans the registry of started "
    "jobs, every 10 minutes (its default)."
)
ACKS = "after"
BULK = True
WORKER = ["{python}", "{produce}", "{name}", "worker"]


def worker() -> None:
    SimpleWorker([queue], connection=queue.connection).work(logging_level="WARNING")
