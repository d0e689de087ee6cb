"""A Redis server that restarts, is killed, full, slow or away, and a network that loses replies. Real servers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from outwork.brokers.base import Claim, Claimed, Filter, Presence
from outwork.brokers.redis.broker import RedisBroker
from outwork.errors import BrokerFull, BrokerUnavailable
from outwork.ids import new_claim_id
from outwork.job import Answer, State
from outwork.testing.conformance import new_job
from support.proxy import Proxy
from support.redis_jobs import QUEUES, blocked, claim, done, put, settle
from support.redis_server import RedisServer
from support.waiting import until


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


@pytest.fixture
def broker(server: RedisServer, connect: Callable[..., RedisBroker]) -> RedisBroker:
    return connect(server.url())


class Listener(Thread):
    """A worker's listener: waits until there is work, and claims it."""

    def __init__(self, broker: RedisBroker) -> None:
        super().__init__(daemon=True)
        self.broker = broker
        self.wakes = 0
        self.claimed: list[Claimed] = []
        self.start()

    def run(self) -> None:
        while not self.claimed:
            try:
                if self.broker.wait(["default"], 30.0):
                    self.wakes += 1
                    self.claimed = claim(self.broker, 1, self.name)
            except BrokerUnavailable:
                time.sleep(0.02)


# ---- the server ends, and comes back ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kill", [False, True], ids=["restart", "kill -9"])
def test_a_restart_loses_nothing_and_is_noticed_by_nobody(server: RedisServer, broker: RedisBroker, kill: bool) -> None:
    waiting = put(broker, 50)
    held = claim(broker, 20)
    server.restart(kill=kill)  # the scripts are forgotten, too: NOSCRIPT
    assert settle(broker, held) == [Answer.DONE] * 20
    again = claim(broker, 100)
    assert sorted(job.id for job in [*held, *again]) == sorted(waiting)
    assert settle(broker, again) == [Answer.DONE] * 30
    assert {count.state: count.jobs for count in broker.counts()} == {State.SUCCESSFUL: 50}


def test_who_waits_for_work_is_woken_after_a_restart(server: RedisServer, broker: RedisBroker) -> None:
    listener = Listener(broker)
    until(lambda: blocked(server) == 1, "the listener waits")
    server.restart()
    [job_id] = put(broker)
    listener.join(30)
    assert [job.id for job in listener.claimed] == [job_id]


def test_who_waits_for_a_result_gets_it_after_a_restart(server: RedisServer, broker: RedisBroker) -> None:
    [job_id] = put(broker)
    [held] = claim(broker)
    ended: list[set[str]] = []
    waiting = Thread(target=lambda: ended.append(broker.wait_result([job_id], 60.0)), daemon=True)
    waiting.start()
    until(lambda: server.ask("HLEN", "{outwork}:watch") == 1, "it waits")
    server.restart()
    settle(broker, [held])
    waiting.join(30)
    assert ended == [{job_id}]


def test_killed_connections_are_replaced(server: RedisServer, broker: RedisBroker) -> None:
    listener = Listener(broker)
    for _ in range(20):
        until(lambda: blocked(server) == 1, "the listener waits")
        server.ask("CLIENT", "KILL", "TYPE", "normal")
        assert broker.extend([Claim(new_job().id, new_claim_id())]).lost
    put(broker)
    listener.join(30)
    assert len(listener.claimed) == 1


def test_forgotten_scripts_are_sent_again(server: RedisServer, broker: RedisBroker) -> None:
    put(broker)
    server.ask("SCRIPT", "FLUSH")
    put(broker)
    assert len(claim(broker)) == 2


def test_a_server_that_pauses_longer_than_the_timeout_is_reported_and_nothing_is_doubled(
    server: RedisServer, connect: Callable[..., RedisBroker]
) -> None:
    broker = connect(server.url(timeout="0.3"))
    put(broker)
    job = new_job()
    server.ask("CLIENT", "PAUSE", "1000", "WRITE")
    with pytest.raises(BrokerUnavailable, match=r"gave no answer within 0\.3 s"):
        broker.enqueue([job])
    server.ask("CLIENT", "UNPAUSE")
    broker.enqueue([job])
    assert len(broker.find(Filter()).records) == 2


# ---- the server is full ----------------------------------------------------------------------------------------------


def test_a_full_server_takes_no_jobs_and_lets_workers_finish(server: RedisServer, broker: RedisBroker) -> None:
    put(broker, 300)
    held = claim(broker, 100)
    presence = Presence(
        worker="w", host="h", pid=1, lock="", queues=("default",), concurrency=1, started_at=0.0, version="0"
    )
    server.ask("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(BrokerFull, match="has no memory left"):
        broker.enqueue([new_job()])
    assert settle(broker, held[:50]) == [Answer.DONE] * 50
    assert broker.extend([Claim(job.id, job.claim_id) for job in held[50:]]).lost == frozenset()
    broker.tend(presence, rescue=True)
    answer = broker.exchange(new_claim_id(), done(held[50:]), QUEUES, 10, 10, "w")
    assert (len(answer.answers), len(answer.claimed)) == (50, 10)
    assert broker.wait(["default"], 1.0)
    assert broker.cancel([answer.claimed[0].id]) == [State.RUNNING]
    assert broker.wait_result([answer.claimed[0].id], 0.01) == set()
    assert broker.queues() == ["default"]
    broker.clock_offset += 7200
    assert broker.tend(None, rescue=False).pruned == 100
    server.ask("CONFIG", "SET", "maxmemory", "0")
    put(broker)


# ---- the network loses things ----------------------------------------------------------------------------------------


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


def test_an_enqueue_whose_reply_is_lost_adds_the_job_once(
    server: RedisServer, proxy: Proxy, connect: Callable[..., RedisBroker]
) -> None:
    broker = connect(f"redis://127.0.0.1:{proxy.port}")
    broker.now()
    for number in range(100):
        job = new_job()
        proxy.eat_replies(1)
        broker.enqueue([job])
        assert proxy.eaten == number + 1
    assert server.ask("HLEN", "{outwork}:job") == 100
    assert len(claim(broker, 1000)) == 100


def test_an_exchange_whose_reply_is_lost_settles_and_claims_once(
    proxy: Proxy, connect: Callable[..., RedisBroker]
) -> None:
    broker = connect(f"redis://127.0.0.1:{proxy.port}")
    waiting = put(broker, 100)
    held: list[Claimed] = []
    seen: list[str] = []
    for _ in range(11):
        proxy.eat_replies(1)
        answer = broker.exchange(new_claim_id(), done(held), QUEUES, 10, 10, "w")
        assert set(answer.answers) <= {Answer.ALREADY}  # the one that was lost had settled them
        held = answer.claimed
        seen += [job.id for job in held]
    assert sorted(seen) == sorted(waiting)
    assert {count.state: count.jobs for count in broker.counts()} == {State.SUCCESSFUL: 100}


def test_cut_connections_are_replaced(proxy: Proxy, connect: Callable[..., RedisBroker]) -> None:
    broker = connect(f"redis://127.0.0.1:{proxy.port}")
    for _ in range(20):
        put(broker)
        proxy.cut()
    assert len(claim(broker)) == 20


def test_a_frozen_network_is_reported_within_the_timeout(proxy: Proxy, connect: Callable[..., RedisBroker]) -> None:
    broker = connect(f"redis://127.0.0.1:{proxy.port}?timeout=0.3")
    put(broker)
    proxy.freeze()
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="gave no answer"):
        put(broker)
    assert time.monotonic() - began < 3
    proxy.freeze(False)
    put(broker)


def test_a_wait_in_a_frozen_network_can_be_ended(
    server: RedisServer, proxy: Proxy, connect: Callable[..., RedisBroker]
) -> None:
    broker = connect(f"redis://127.0.0.1:{proxy.port}?timeout=0.3")
    broker.now()
    waiting = Thread(target=lambda: broker.wait(["default"], 60.0), daemon=True)
    waiting.start()
    until(lambda: blocked(server) == 1, "it waits")
    proxy.freeze()
    broker.interrupt()
    waiting.join(10)
    assert not waiting.is_alive()


# ---- waking ----------------------------------------------------------------------------------------------------------


def test_one_job_wakes_one_worker(server: RedisServer, connect: Callable[..., RedisBroker]) -> None:
    listeners = [Listener(connect(server.url())) for _ in range(5)]
    producer = connect(server.url())
    for busy in range(5):
        until(lambda busy=busy: blocked(server) == 5 - busy, "the idle ones wait")  # type: ignore[misc]
        put(producer)
        until(lambda busy=busy: sum(bool(one.claimed) for one in listeners) == busy + 1, "one works")  # type: ignore[misc]
    assert sum(one.wakes for one in listeners) == 5


def test_an_idle_worker_sends_nothing(server: RedisServer, broker: RedisBroker) -> None:
    waiting = Thread(target=lambda: broker.wait(["default", "mail"], 2.0), daemon=True)
    waiting.start()
    until(lambda: blocked(server) == 1, "it waits")
    with server.client() as client:
        before = client.info("stats")["total_commands_processed"]
        waiting.join(1.0)
        after = client.info("stats")["total_commands_processed"]
    assert waiting.is_alive()
    assert after - before == 1  # our own INFO
    broker.interrupt()
    waiting.join(10)


# ---- processes -------------------------------------------------------------------------------------------------------


def test_parent_and_child_of_a_fork_do_not_share_a_connection(broker: RedisBroker) -> None:
    put(broker)
    child = os.fork()
    if child == 0:
        try:
            for _ in range(200):
                put(broker)
            broker.close()
            os._exit(0)
        finally:
            os._exit(1)
    for _ in range(200):
        put(broker)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(claim(broker, 1000)) == 401


def test_what_an_evicting_server_threw_away_stops_nobody(
    server: RedisServer, connect: Callable[..., RedisBroker]
) -> None:
    """With ?allow_eviction=true a whole key may go at any moment: its jobs are lost, the others go on."""
    for key in ("job", "ready", "later", "held", "claims", "expiry", "ended", "ids", "counts"):
        server.ask("FLUSHALL")
        broker = connect(server.url(allow_eviction="true"))
        broker.enqueue([new_job(expires=60.0), new_job(delay=60.0), new_job(), new_job()])
        held = claim(broker, 1)
        server.ask("DEL", f"{{outwork}}:{key}")
        broker.clock_offset += 100
        settle(broker, held)
        claim(broker)
        broker.tend(None, rescue=True, dead=["w"])
        broker.find(Filter())
        broker.counts()
        broker.clock_offset += 1e7
        broker.tend(None, rescue=True)
        broker.delete(put(broker))
        broker.close()
