"""Outwork on Redis."""

from __future__ import annotations

from _outwork import Producer, app

__all__ = ["Producer", "app"]

PEER = "Outwork"
BROKER = "redis"
REQUIREMENTS: list[str] = []
SETTINGS = (
    "Its defaults: 20 jobs in hand, plain tasks on threads, results kept for an hour, jobs acknowledged with their "
    "result."
)
ACKS = "after"
BULK = True
WORKER = ["{python}", "-m", "outwork", "worker", "{name}:app"]
