"""Redis keeps every promise, on a server of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from outwork.brokers.base import Broker
from outwork.brokers.redis.broker import RedisBroker
from outwork.job import Job, Terms
from outwork.testing.conformance import BrokerConformance, MakeBroker, OutboxConformance, new_job
from support.redis_server import RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"), appendonly="yes")
    yield server
    server.kill()


class TestRedis(BrokerConformance, OutboxConformance):
    @pytest.fixture
    def make_broker(self, server: RedisServer) -> MakeBroker:
        server.ask("FLUSHALL")
        self.server = server

        def make(terms: Terms | None = None) -> RedisBroker:
            return RedisBroker.from_url(server.url(), terms)

        return make

    def plant_garbage(self, broker: Broker, job_id: str, body: bytes) -> None:
        packed = self.server.ask("HGET", "{outwork}:job", job_id)
        start = 63 + int.from_bytes(packed[18:20])
        end = start + int.from_bytes(packed[20:22])
        garbled = packed[:20] + len(body).to_bytes(2) + packed[22:start] + body + packed[end:]
        self.server.ask("HSET", "{outwork}:job", job_id, garbled)

    def refused_job(self) -> Job:
        return new_job(queue="a\0b")
