"""Ways to a Redis server, and what is said where there is none: each time one clear line, soon."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from msgspec.structs import replace

from outwork.brokers import open_broker
from outwork.brokers.base import Claim, Filter, Orders, Report, Share
from outwork.brokers.redis import server as server_module
from outwork.brokers.redis.broker import RedisBroker
from outwork.errors import BrokerRefused, BrokerUnavailable, InvalidURL, OutworkError
from outwork.ids import new_claim_id
from outwork.job import State
from outwork.testing.conformance import new_job
from outwork.ties import Gate, Ties, Unique
from support.ports import free_port
from support.redis_jobs import claim, put, settle
from support.redis_server import RedisServer
from support.waiting import until

RIGHTS = (
    *("+evalsha", "+eval", "+time", "+info", "+type", "+exists", "+del", "+expire"),
    *("+lpush", "+blpop", "+publish", "+subscribe"),
    *("+hget", "+hmget", "+hset", "+hdel", "+hincrby", "+hkeys", "+hgetall"),
    *("+zadd", "+zrem", "+zrange", "+zrangebyscore", "+zrangebylex", "+zrevrangebylex"),
)
"""Every command that the broker sends, or that its scripts call: what a user needs, and no more."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis", appendonly="yes", appendfsync="always")
    yield server
    server.kill()


@pytest.fixture
def connect() -> Iterator[Callable[..., RedisBroker]]:
    """Makes brokers and closes them."""
    made: list[RedisBroker] = []

    def connect(url: str) -> RedisBroker:
        made.append(RedisBroker.from_url(url))
        return made[-1]

    yield connect
    for broker in made:
        broker.close()


# ---- bad input -------------------------------------------------------------------------------------------------------


def refusal(broker: RedisBroker) -> str:
    """What an enqueue is told, which must be one line, soon: at the first failure."""
    began = time.monotonic()
    with pytest.raises(OutworkError) as caught:
        broker.enqueue([new_job()])
    assert time.monotonic() - began < 10
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, BrokerUnavailable | BrokerRefused)
    assert "IndexError" not in "".join(traceback.format_exception(caught.value)), "that there was no idle connection"
    return str(caught.value)


def test_a_server_that_is_away(connect: Callable[..., RedisBroker]) -> None:
    port = free_port()
    said = refusal(connect(f"redis://:secret@127.0.0.1:{port}"))
    assert said.startswith(f"OW107 redis://:***@127.0.0.1:{port}: cannot reach a server at 127.0.0.1:{port}")
    assert "Connection refused" in said


def test_a_wrong_password(server: RedisServer, connect: Callable[..., RedisBroker]) -> None:
    server.ask("CONFIG", "SET", "requirepass", "right")
    assert "does not accept the user or password" in refusal(connect(f"redis://:wrong@127.0.0.1:{server.port}"))
    assert "wants a password" in refusal(connect(server.url()))
    assert put(connect(f"redis://:right@127.0.0.1:{server.port}"))


def test_a_database_that_is_not_there(server: RedisServer, connect: Callable[..., RedisBroker]) -> None:
    assert "has no database 99" in refusal(connect(server.url(path="/99")))
    assert put(connect(server.url(path="/3")))
    assert server.ask("HLEN", "{outwork}:job", db=3) == 1


def test_somebody_else_s_key(server: RedisServer, connect: Callable[..., RedisBroker]) -> None:
    server.ask("SET", "{outwork}:ready", "mine")
    assert "the key {outwork}:ready is a string of somebody else's" in refusal(connect(server.url()))
    assert put(connect(server.url(namespace="other")))


def test_a_server_that_is_too_old(
    server: RedisServer, connect: Callable[..., RedisBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "OLDEST", (99, 0))
    assert "6.2 or newer is needed" in refusal(connect(server.url()))


def test_a_server_that_evicts(server: RedisServer, connect: Callable[..., RedisBroker]) -> None:
    server.ask("CONFIG", "SET", "maxmemory", "100mb")
    server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    assert "maxmemory-policy allkeys-lru" in refusal(connect(server.url()))
    assert put(connect(server.url(allow_eviction="true")))
    server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert put(connect(server.url()))


def test_a_server_that_keeps_nothing_is_warned_of_once(
    tmp_path: Path, connect: Callable[..., RedisBroker], caplog: pytest.LogCaptureFixture
) -> None:
    server = RedisServer(tmp_path / "volatile")
    try:
        with caplog.at_level(logging.WARNING, "outwork"):
            broker = connect(server.url())
            put(broker)
            server.restart()
            put(broker)
    finally:
        server.kill()
    assert ["keeps nothing on disk" in record.getMessage() for record in caplog.records] == [True]


def test_a_replica(server: RedisServer, tmp_path: Path, connect: Callable[..., RedisBroker]) -> None:
    replica = RedisServer(tmp_path / "replica", replicaof=f"127.0.0.1 {server.port}")
    try:
        assert f"is a replica of 127.0.0.1:{server.port}" in refusal(connect(replica.url()))
    finally:
        replica.kill()


def test_a_missing_driver_is_named() -> None:
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from outwork.brokers import open_broker\n"
        "open_broker('redis://localhost')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = ended.stderr.strip().splitlines()[-1]
    assert "MissingDriver: OW108" in last
    assert "pip install 'outwork[redis]'" in last


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://host/x", "number of the database"),
        ("redis://a,b", "names 2 servers"),
        ("redis+sentinel://a,b", "names no service"),
        ("redis+cluster://a/3", "one database only"),
        ("unix://", "names no socket"),
        ("redis://host:port", "is not a port"),
        ("redis://host?namespace=", "a name without braces"),
        ("rediss://host?ca=/nowhere.pem", "there is no such file"),
        ("redis://host?colour=red", "unknown option colour"),
    ],
)
def test_urls_that_cannot_be_meant(url: str, said: str) -> None:
    with pytest.raises(InvalidURL, match=said):
        open_broker(url)


def test_what_a_url_says() -> None:
    broker = open_broker("valkey://host?lease=5&embedded=true&concurrency=3")
    assert (broker.runs_in, broker.terms.lease, broker.terms.keep) == ("embedded", 5.0, 3600.0)
    assert broker.embedding.concurrency == 3


# ---- ways in ---------------------------------------------------------------------------------------------------------


def test_a_user_with_the_fewest_rights(server: RedisServer, connect: Callable[..., RedisBroker]) -> None:
    server.ask(
        "ACL", "SETUSER", "app", "on", ">secret", "resetchannels", "&{outwork}:*", "~{outwork}:*", "-@all", *RIGHTS
    )
    broker = connect(f"redis://app:secret@127.0.0.1:{server.port}")
    live_a_whole_life(broker)
    server.ask("ACL", "SETUSER", "app", "-hset")
    assert "does not let this user do that" in refusal(broker)


def test_the_documentation_names_these_rights() -> None:
    page = (Path(__file__).parents[2] / "docs" / "production.md").read_text()
    assert " ".join(RIGHTS) in " ".join(page.split())


def live_a_whole_life(broker: RedisBroker) -> None:
    """Every verb once."""
    wakes: list[bool] = []
    listening = Thread(target=lambda: wakes.append(broker.wait(["default"], 600.0)), daemon=True)
    listening.start()
    ids = put(broker, 10)
    broker.enqueue([new_job(delay=60.0, expires=5.0)])
    listening.join(60)
    assert wakes == [True]
    held = claim(broker, 5)
    waiting = Thread(target=lambda: broker.wait_result([held[0].id], 600.0), daemon=True)
    waiting.start()
    until(lambda: bool(broker._here().server.ask("TYPE", "{outwork}:watch") == b"hash"), "it waits")
    assert broker.extend([Claim(job.id, job.claim_id) for job in held]).lost == frozenset()
    settle(broker, held)
    waiting.join(60)
    assert not waiting.is_alive()
    broker.cancel(ids[5:7])
    broker.retry(ids[5:6])
    broker.delete(ids[7:8])
    claim(broker, 1, "dead")
    broker.tend(None, rescue=True, dead=["dead"])
    assert broker.workers() == []
    broker.leave("dead")
    assert len(broker.find(Filter()).records) == 10
    assert broker.prune(Filter(), older_than=-1.0, failed_older_than=-1.0) == 6
    assert broker.queues() == ["default"]
    live_bound_together(broker)


def live_bound_together(broker: RedisBroker) -> None:
    """Every verb of bound jobs, which are gone afterwards."""
    gates = (Gate("c:one", most=1), Gate("r:slow", rate=0.01))
    last = replace(new_job(queue="bound"), ties=Ties(awaits=1, within=1.0))
    member = replace(new_job(queue="bound"), ties=Ties(gates=gates, reports=(last.id,), unique=Unique("k", 1.0)))
    gated = replace(new_job(queue="bound"), ties=Ties(gates=gates))
    broker.enqueue([last, member, gated])
    share = (Share("bound", 9),)
    [held] = broker.exchange(new_claim_id(), [], share, 9, 9, "w").claimed
    broker.report([Report(held.id, held.claim_id, b"{}")])
    broker.pause("task:suite.task")
    assert broker.progress([held.id]) == [b"{}"]
    broker.cancel([held.id])
    assert broker.orders("w") == Orders(frozenset({"task:suite.task"}), frozenset({held.id}))
    settle(broker, [held])
    broker.resume("task:suite.task")
    assert broker.tick("nightly", None, 1.0, [])
    assert broker.schedules() == {"nightly": 1.0}
    broker.clock_offset += 300.0
    broker.tend(None, rescue=False)
    assert broker.delete([last.id, member.id, gated.id]) == [State.READY, State.SUCCESSFUL, State.READY]


def test_a_socket_in_the_file_system(tmp_path: Path, connect: Callable[..., RedisBroker]) -> None:
    path = tmp_path / "s.sock"
    server = RedisServer(tmp_path / "redis", unixsocket=str(path))
    try:
        broker = connect(f"unix://{path}?db=2")
        put(broker)
        assert server.ask("HLEN", "{outwork}:job", db=2) == 1
        server.kill()
        assert f"cannot reach a server at {path}" in refusal(broker)
    finally:
        server.kill()


def test_tls_with_a_certificate_of_our_own(tmp_path: Path, connect: Callable[..., RedisBroker]) -> None:
    ca, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    request = f"req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {ca} -days 2 -subj /CN=localhost"
    subprocess.run(
        ["openssl", *request.split(), "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )
    port = free_port()
    server = RedisServer(
        tmp_path / "tls",
        tls_port=str(port),
        tls_auth_clients="yes",
        tls_cert_file=str(ca),
        tls_key_file=str(key),
        tls_ca_cert_file=str(ca),
    )
    try:
        broker = connect(f"rediss://127.0.0.1:{port}?ca={ca}&cert={ca}&key={key}")
        live_a_whole_life(broker)
        assert "no TLS with" in refusal(connect(f"rediss://127.0.0.1:{port}?cert={ca}&key={key}"))
        assert put(connect(f"rediss://127.0.0.1:{port}?cert={ca}&key={key}&verify=false"))
    finally:
        server.kill()
