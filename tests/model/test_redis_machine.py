"""Redis does what the in-memory broker does, whatever happens to it in whatever order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from outwork.brokers.base import Broker
from outwork.brokers.redis.broker import RedisBroker
from outwork.job import Terms
from outwork.testing.bound_machine import BoundMachine
from support.redis_server import RedisServer


class RedisMachine(BoundMachine):
    server: ClassVar[RedisServer]

    def make_broker(self, terms: Terms) -> Broker:
        self.server.ask("FLUSHALL")
        return RedisBroker.from_url(self.server.url(), terms)


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    RedisMachine.server = RedisServer(tmp_path_factory.mktemp("redis"), appendonly="yes", appendfsync="no")
    yield
    RedisMachine.server.kill()


TestRedis = pytest.mark.timeout(600)(RedisMachine.TestCase)
