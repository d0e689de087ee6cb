"""Outwork on a SQLite file."""

from __future__ import annotations

from _outwork import Producer, app

__all__ = ["Producer", "app"]

PEER = "Outwork"
BROKER = "sqlite"
REQUIREMENTS: list[str] = []
SETTINGS = (
    "Its defaults: 20 jobs in hand, plain tasks on threads, results kept for a day, jobs acknowledged with their "
    "result."
)
ACKS = "after"
BULK = True
WORKER = ["{python}", "-m", "outwork", "worker", "{name}:app"]
