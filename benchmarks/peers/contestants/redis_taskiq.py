"""taskiq on Redis, with its broker on streams."""

from __future__ import annotations

import os

from _taskiq import producer_on
from taskiq_redis import RedisStreamBroker

PEER = "taskiq"
BROKER = "redis"
REQUIREMENTS = ["taskiq", "taskiq-redis", "hiredis", "uvloop"]
SETTINGS = (
    "RedisStreamBroker, the one of its brokers on Redis that acknowledges; --workers 1, --ack-type when_executed, "
    "--max-async-tasks 100 (its default), async tasks on uvloop, no result backend (its default). A killed worker's "
    "jobs come back after 10 minutes (its default)."
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
    "--log-level",
    "WARNING",
]

broker = RedisStreamBroker(os.environ["BENCH_URL"])
Producer = producer_on(broker)
