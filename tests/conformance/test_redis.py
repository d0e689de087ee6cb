"""Redis keeps every promise, on a server of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from outwork.brokers.base import Broker
from outwork.brokers.redis.broker import RedisBroker
from outwork.job import WIRE_VERSION, Job, Terms
from outwork.testing.conformance import BrokerConformance, MakeBroker, new_job
from support.redis_server import RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"), appendonly="yes")
    yield server
    server.kill()


class TestRedis(BrokerConformance):
    @pytest.fixture
    def make_broker(self, server: RedisServer) -> MakeBroker:
        server.ask("FLUSHALL")
        self.server = server

        def make(terms: Terms | None = None) -> RedisBroker:
            return RedisBroker.from_url(server.url(), terms)

        return make

    def plant_garbage(self, broker: Broker, job_id: str, body: bytes) -> None:
        self.server.ask("HSET", "{outwork}:body", job_id, body)

    def refused_job(self) -> Job:
        assert WIRE_VERSION == 1
        return new_job(queue="a\0b")
