"""Every store keeps the channel layer specification and what a worker promises, on real servers."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from contrib.channels.layer_suite import LayerSuite, MakeLayer
from contrib.channels.worker_suite import WorkerSuite
from outwork.contrib.channels import OutworkChannelLayer
from support.postgres_server import shared_postgres
from support.redis_server import RedisServer


class TestMemory(LayerSuite, WorkerSuite):
    @pytest.fixture
    def make_layer(self) -> MakeLayer:
        """Layers in one memory: those of one prefix share it, as if they were processes."""
        stores = self.stores = dict[str, Any]()

        def make(**options: Any) -> OutworkChannelLayer:
            layer = OutworkChannelLayer("memory:", **options)
            layer._store = stores.setdefault(layer.prefix, layer._store)
            return layer

        return make

    def ends_of_memberships(self) -> dict[str, float]:
        ends: dict[str, float] = self.stores["asgi"].groups["group"]
        return ends


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


class TestRedis(LayerSuite, WorkerSuite):
    @pytest.fixture
    def make_layer(self, redis_server: RedisServer) -> Iterator[MakeLayer]:
        redis_server.ask("FLUSHALL")
        self.server = redis_server
        made: list[OutworkChannelLayer] = []

        def make(**options: Any) -> OutworkChannelLayer:
            made.append(OutworkChannelLayer(redis_server.url(), **options))
            return made[-1]

        yield make
        for layer in made:
            layer._store.close()

    def connections(self) -> int:
        return int(self.server.ask("INFO", "clients")["connected_clients"])

    def ends_of_memberships(self) -> dict[str, float]:
        return memberships_on(self.server)


def memberships_on(*servers: RedisServer) -> dict[str, float]:
    ends: dict[str, float] = {}
    for server in servers:
        with server.client() as client:
            for key in client.keys("*g:group"):
                ends |= {member.decode(): end for member, end in client.zrange(key, 0, -1, withscores=True)}
    return ends


@pytest.fixture(scope="module")
def second_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("second"))
    yield server
    server.kill()


class TestSeveralRedis(LayerSuite, WorkerSuite):
    """Hosts as the field's layer has them: the channels are shared out among two servers."""

    @pytest.fixture
    def make_layer(self, redis_server: RedisServer, second_server: RedisServer) -> Iterator[MakeLayer]:
        redis_server.ask("FLUSHALL")
        second_server.ask("FLUSHALL")
        self.servers = (redis_server, second_server)
        made: list[OutworkChannelLayer] = []

        def make(**options: Any) -> OutworkChannelLayer:
            hosts: list[Any] = [("127.0.0.1", redis_server.port), {"address": second_server.url()}]
            made.append(OutworkChannelLayer(hosts=hosts, **options))
            return made[-1]

        yield make
        for layer in made:
            layer._store.close()

    def ends_of_memberships(self) -> dict[str, float]:
        return memberships_on(*self.servers)


class TestPostgreSQL(LayerSuite, WorkerSuite):
    @pytest.fixture
    def make_layer(self) -> Iterator[MakeLayer]:
        server = self.server = shared_postgres()
        for table in ("message", "member", "reader"):
            if server.ask("SELECT to_regclass(%s)", [f"outwork_channel_{table}"]) != [(None,)]:
                server.ask(f"DELETE FROM outwork_channel_{table}")
        made: list[OutworkChannelLayer] = []

        def make(**options: Any) -> OutworkChannelLayer:
            made.append(OutworkChannelLayer(server.url(), **options))
            return made[-1]

        yield make
        for layer in made:
            layer._store.close()

    def connections(self) -> int:
        [(count,)] = self.server.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'outwork'")
        return int(count)

    def ends_of_memberships(self) -> dict[str, float]:
        return dict(self.server.ask("SELECT channel, expires FROM outwork_channel_member"))


class TestSQLite(LayerSuite, WorkerSuite):
    @pytest.fixture
    def make_layer(self, tmp_path: Path) -> MakeLayer:
        def make(**options: Any) -> OutworkChannelLayer:
            return OutworkChannelLayer(f"sqlite:///{tmp_path}/channels.db", **options)

        self.path = tmp_path / "channels.db"
        return make

    def connections(self) -> int:
        return sum(os.path.realpath(link) == str(self.path) for link in Path("/proc/self/fd").iterdir())

    def ends_of_memberships(self) -> dict[str, float]:
        with closing(sqlite3.connect(self.path)) as connection:
            return dict(connection.execute("SELECT channel, expires FROM outwork_channel_member"))
