"""Huey on a SQLite file."""

from __future__ import annotations

import os

from _huey import producer_on
from huey import SqliteHuey

PEER = "Huey"
BROKER = "sqlite"
REQUIREMENTS = ["huey"]
SETTINGS = (
    "SqliteHuey with its write-ahead log (its default) and fsync=True, so that what was enqueued survives a power "
    "cut; -k thread -w 4, polling every 10 to 100 ms (its default, up to 10 s, would be its latency); results kept "
    "until they are read (its default). It takes the job out of the queue before it runs, and has no setting that "
    "would acknowledge it afterwards."
)
ACKS = "before"
BULK = False
WORKER = ["{bin}/huey_consumer", "{name}.huey", "-k", "thread", "-w", "4", "-d", "0.01", "-m", "0.1", "-q"]

huey = SqliteHuey("bench", filename=os.environ["BENCH_URL"].removeprefix("sqlite:///"), fsync=True)
Producer = producer_on(huey)
