"""Dramatiq on Redis."""

from __future__ import annotations

import os

from _dramatiq import producer_on
from dramatiq.brokers.redis import RedisBroker

PEER = "Dramatiq"
BROKER = "redis"
REQUIREMENTS = ["dramatiq[redis]", "hiredis"]
SETTINGS = (
    "--processes 1 --threads 8 (its default), dramatiq_queue_prefetch 1000 (its default of 2 a thread drains "
    "slower), results off (its default). It acknowledges after the job; a killed worker's jobs come back once its "
    "heartbeat is 60 s old (its default), looked for at about one in a thousand of its fetches."
)
ACKS = "after"
BULK = False
WORKER = [
    "env",
    "dramatiq_queue_prefetch=1000",
    "{bin}/dramatiq",
    "{name}",
    "--processes",
    "1",
    "--threads",
    "8",
    "--skip-logging",
]

broker = RedisBroker(url=os.environ["BENCH_URL"])
Producer = producer_on(broker)
