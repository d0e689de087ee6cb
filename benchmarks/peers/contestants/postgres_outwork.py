"""Outwork on PostgreSQL."""

from __future__ import annotations

from _outwork import Producer, app

__all__ = ["Producer", "app"]

PEER = "Outwork"
BROKER = "postgresql"
REQUIREMENTS: list[str] = []
SETTINGS = (
    "Its defaults: 20 jobs in hand, plain tasks on threads, results kept for a day, jobs acknowledged with their "
    "result in one transaction."
)
ACKS = "after"
BULK = True
WORKER = ["{python}", "-m", "outwork", "worker", "{name}:app"]
