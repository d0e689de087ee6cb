"""Where the Redis layer finds its server: Sentinel, Cluster, and the field's `hosts`."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outwork.contrib.channels import OutworkChannelLayer
from outwork.contrib.channels.redis.hosts import url_of
from outwork.errors import BrokerRefused, BrokerUnavailable, InvalidURL, NoBroker, SettingsError
from support.ports import free_port
from support.redis_server import Cluster, RedisServer, SentinelGroup


async def there_and_back(layer: OutworkChannelLayer) -> None:
    own = await layer.new_channel()
    for name in (own, "fixed"):
        await layer.group_add("group", name)
    waiting = [asyncio.ensure_future(layer.receive(name)) for name in (own, "fixed")]
    await layer.group_send("group", {"type": "x"})
    async with asyncio.timeout(60):
        assert [await one for one in waiting] == [{"type": "x"}] * 2
        await layer.send("fixed", {"type": "y"})
        assert await layer.receive("fixed") == {"type": "y"}


async def until_sent(layer: OutworkChannelLayer, message: dict[str, Any]) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                return await layer.send("fixed", message)
            except BrokerUnavailable:
                await asyncio.sleep(0.1)


async def over(layer: OutworkChannelLayer, fail_over: Callable[[], object]) -> None:
    """A receiver that waits while another server takes over is not deaf afterwards."""
    await there_and_back(layer)
    waiting = asyncio.ensure_future(layer.receive("fixed"))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(fail_over)
    await until_sent(layer, {"type": "after"})
    assert await asyncio.wait_for(waiting, 60) == {"type": "after"}
    await there_and_back(layer)


def test_sentinel_and_a_failover(tmp_path: Path) -> None:
    with SentinelGroup().form(tmp_path) as group:
        asyncio.run(over(OutworkChannelLayer(group.url()), group.primary().kill))
        sentinels = [("127.0.0.1", sentinel.port) for sentinel in group.sentinels]
        field = OutworkChannelLayer(hosts=[{"sentinels": sentinels, "master_name": "jobs"}])
        asyncio.run(there_and_back(field))
        field._store.close()


def test_a_cluster_and_a_failover(tmp_path: Path) -> None:
    from redis.crc import key_slot

    with Cluster().form(tmp_path) as cluster:
        layer = OutworkChannelLayer(cluster.url())
        asyncio.run(over(layer, cluster.owner(key_slot(b"asgi")).kill))
        layer._store.close()


def test_hosts_in_all_their_forms(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, requirepass="pa:ss", unixsocket=str(tmp_path / "socket"))
    try:
        for host in (
            f"redis://:pa%3Ass@127.0.0.1:{server.port}/0",
            f"redis://:pa%3Ass@127.0.0.1:{server.port}?socket_timeout=3&decode_responses=false",
            {
                "address": f"redis://:pa%3Ass@127.0.0.1:{server.port}",
                "socket_connect_timeout": 2,
                "ssl_cert_reqs": None,
            },
            {"host": "127.0.0.1", "port": server.port, "password": "pa:ss", "db": 2},
            {"path": str(tmp_path / "socket"), "password": "pa:ss"},
        ):
            layer = OutworkChannelLayer(hosts=[host])
            asyncio.run(there_and_back(layer))
            assert "pa" not in layer.url.partition("***")[0].rpartition("/")[2], layer.url
            layer._store.close()
        wrong = OutworkChannelLayer(hosts=[("127.0.0.1", server.port)])
        with pytest.raises(BrokerRefused, match="wants a password"):
            asyncio.run(wrong.send("fixed", {}))
        with pytest.raises(BrokerRefused, match="wants a password"):
            asyncio.run(wrong.receive("fixed"))
    finally:
        server.kill()


def test_tls(tmp_path: Path) -> None:
    """Also with messages that are larger than a TLS record and what the sockets take at once."""
    ca, key, port = tmp_path / "cert.pem", tmp_path / "key.pem", free_port()
    request = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout {key} -out {ca}"
    subprocess.run(
        ["openssl", *request.split(), "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )
    settings: dict[str, Any] = {
        "tls_port": str(port),
        "tls_cert_file": str(ca),
        "tls_key_file": str(key),
        "tls_ca_cert_file": str(ca),
    }
    server = RedisServer(tmp_path / "tls", tls_auth_clients="no", **settings)
    layer = OutworkChannelLayer(f"rediss://127.0.0.1:{port}?ca={ca}")

    async def run() -> None:
        await there_and_back(layer)
        large = {"data": bytes(range(256)) * 20_000}
        async with asyncio.timeout(60):
            await asyncio.gather(*(layer.send("large", large) for _ in range(4)))
            assert [await layer.receive("large") for _ in range(4)] == [large] * 4
            waiting = asyncio.ensure_future(layer.receive("large"))
            await asyncio.sleep(0.1)
            await layer.send("large", large)
            assert await waiting == large

    try:
        asyncio.run(run())
        layer._store.close()
    finally:
        server.kill()


def test_what_the_forms_mean() -> None:
    assert url_of(("::1", 6380)) == "redis://[::1]:6380"
    assert url_of({"host": "h", "ssl": True, "username": "u", "password": "p@"}) == "rediss://u:p%40@h:6379"
    sentinels = {"sentinels": [("a", 1), ("b", 2)], "master_name": "m", "sentinel_kwargs": {"password": "x"}, "db": 1}
    assert url_of(sentinels) == "redis+sentinel://a:1,b:2/m?db=1&sentinel_password=x"
    assert url_of("rediss://h?ssl_cert_reqs=none") == "rediss://h?verify=false"


@pytest.mark.parametrize(
    "config",
    [
        {"hosts": "redis://localhost"},
        {"hosts": [7]},
        {"hosts": [{"sentinels": [("a", 1)]}]},
        {"hosts": ["redis://localhost?no_such_option=1"]},
        {"hosts": ["redis://localhost"], "url": "memory:"},
        {"url": "amqp://localhost"},
        {"url": "memory:", "serializer_format": "pickle"},
        {"url": "memory:", "prefix": "{x}"},
        {"url": "memory:", "symmetric_encryption_keys": "secret"},
        {"url": "sqlite:///no/such/directory/channels.db"},
    ],
)
def test_a_wrong_configuration_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises((SettingsError, InvalidURL)):
        OutworkChannelLayer(**config)


def test_at_least_once_needs_a_broker() -> None:
    layer = OutworkChannelLayer("memory:", at_least_once=["careful"], broker_url="thread:")
    with pytest.raises(NoBroker, match="at_least_once needs a broker that processes share"):
        asyncio.run(layer.send("careful", {"type": "x"}))
    asyncio.run(layer.send("other", {"type": "x"}))


def test_a_server_that_is_away_is_told_of_at_once() -> None:
    layer = OutworkChannelLayer("redis://127.0.0.1:1")

    async def run() -> None:
        async with asyncio.timeout(10):
            with pytest.raises(BrokerUnavailable):
                await layer.send("fixed", {})
        waiting = asyncio.ensure_future(layer.receive("fixed"))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])

    asyncio.run(run())
