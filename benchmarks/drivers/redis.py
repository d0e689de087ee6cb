"""redis-py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import redis

from benchmarks.direct import BULK, drain, enqueue, jobs
from benchmarks.drivers.base import Driver
from outwork.brokers.base import Broker
from outwork.codec import encode_job
from outwork.job import Job

SAME_WRITE: Final = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[3])
redis.call('ZADD', KEYS[3], 0, ARGV[1])
return 1
"""
KEYS: Final = ("{bare}:job", "{bare}:ready", "{bare}:ids")
EXTRA: Final = b"." * 100
"""As many bytes as a record has beside its body and names, claimed."""


class Redis(Driver):
    def __init__(self, url: str) -> None:
        self._client: Any = redis.Redis.from_url(url)
        self._write = self._client.register_script(SAME_WRITE)

    def rows(self, jobs: Sequence[Job]) -> list[Any]:
        return [(job.id, encode_job(job) + EXTRA, f"bench.........{job.id}") for job in jobs]

    def many(self, rows: Sequence[Any]) -> None:
        for at in range(0, len(rows), BULK):
            pipeline = self._client.pipeline(transaction=False)
            for job_id, body, place in rows[at : at + BULK]:
                pipeline.hset(KEYS[0], job_id, body)
                pipeline.zadd(KEYS[1], {place: 0})
                pipeline.zadd(KEYS[2], {job_id: 0})
            pipeline.execute()

    def one_by_one(self, rows: Sequence[Any]) -> None:
        for row in rows:
            self._write(keys=KEYS, args=row)

    def empty(self) -> None:
        self._client.flushall()

    def crowd(self, broker: Broker, count: int) -> dict[str, float]:
        before = self._memory()
        self._fill(broker, count)
        waiting = self._memory() - before
        drain(broker)
        finished = self._memory() - before
        self._fill(broker, count)
        return {"memory of a waiting job": waiting / count, "memory of a finished job": finished / count}

    def _fill(self, broker: Broker, count: int) -> None:
        for at in range(0, count, 10_000):
            enqueue(broker, jobs(min(10_000, count - at)))

    def _memory(self) -> int:
        return int(self._client.info("memory")["used_memory"])

    def close(self) -> None:
        self._client.close()
