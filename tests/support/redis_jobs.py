"""What the tests of the Redis broker do with jobs."""

from __future__ import annotations

from outwork.brokers.base import Claimed, Settlement
from outwork.brokers.redis.broker import RedisBroker
from outwork.ids import new_claim_id
from outwork.job import Answer, Done
from outwork.testing.conformance import new_job, shares
from support.redis_server import RedisServer

QUEUES = shares("default")


def put(broker: RedisBroker, count: int = 1) -> list[str]:
    jobs = [new_job() for _ in range(count)]
    assert broker.enqueue(jobs) == [None] * count
    return [job.id for job in jobs]


def claim(broker: RedisBroker, limit: int = 100, worker: str = "w") -> list[Claimed]:
    return broker.exchange(new_claim_id(), [], QUEUES, limit, limit, worker).claimed


def done(claimed: list[Claimed]) -> list[Settlement]:
    return [Settlement(job.id, job.claim_id, Done(b"1")) for job in claimed]


def settle(broker: RedisBroker, claimed: list[Claimed]) -> list[Answer]:
    return broker.exchange(new_claim_id(), done(claimed), [], 0, 0, "w").answers


def blocked(server: RedisServer) -> int:
    """How many connections wait in a blocking command."""
    with server.client() as client:
        return int(client.info("clients")["blocked_clients"])
