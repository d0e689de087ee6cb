"""Huey on Redis."""

from __future__ import annotations

import os

from _huey import producer_on
from huey import RedisHuey

PEER = "Huey"
BROKER = "redis"
REQUIREMENTS = ["huey", "redis", "hiredis"]
SETTINGS = (
    "RedisHuey with its blocking pop (its default), -k thread -w 4, results kept until they are read (its default). "
    "It takes the job out of the queue before it runs, and has no setting that would acknowledge it afterwards."
)
ACKS = "before"
BULK = False
WORKER = ["{bin}/huey_consumer", "{name}.huey", "-k", "thread", "-w", "4", "-q"]

huey = RedisHuey("bench", url=os.environ["BENCH_URL"])
Producer = producer_on(huey)
