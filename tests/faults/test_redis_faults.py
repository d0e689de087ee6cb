"""A Redis server that restarts, is killed, full, slow or away, and a network that loses replies. Real servers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from msgspec.structs import replace

from outwork.brokers.base import Claim, Claimed, Filter, Presence, Report
from outwork.brokers.redis import connections as connections_module
from outwork.brokers.redis.broker import RedisBroker
from outwork.brokers.redis.connections import Connections
from outwork.brokers.redis.options import read_options
from outwork.errors import BrokerFull, BrokerUnavailable
from outwork.ids import new_claim_id
from outwork.job import Answer, State
from outwork.testing.conformance import new_job
from outwork.ties import Gate, Ties, Unique
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
                if self.broker.wait(["default"], 600.0):
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
    listener.join(60)
    assert [job.id for job in listener.claimed] == [job_id]


def test_who_waits_for_a_result_gets_it_after_a_restart(server: RedisServer, broker: RedisBroker) -> None:
    [job_id] = put(broker)
    [held] = claim(broker)
    ended: list[set[str]] = []
    waiting = Thread(target=lambda: ended.append(broker.wait_result([job_id], 600.0)), daemon=True)
    waiting.start()
    until(lambda: server.ask("HLEN", "{outwork}:watch") == 1, "it waits")
    server.restart()
    settle(broker, [held])
    waiting.join(60)
    assert ended == [{job_id}]


def test_killed_connections_are_replaced(server: RedisServer, broker: RedisBroker) -> None:
    listener = Listener(broker)
    for _ in range(20):
        until(lambda: blocked(server) == 1, "the listener waits")
        server.ask("CLIENT", "KILL", "TYPE", "normal")
        assert broker.extend([Claim(new_job().id, new_claim_id())]).lost
    put(broker)
    listener.join(60)
    assert len(listener.claimed) == 1


def clients(server: RedisServer) -> int:
    """How many connections the server has, beside the one that asks."""
    return len(server.ask("CLIENT", "LIST").splitlines()) - 1


def test_what_a_rush_opened_is_closed_again(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a server that stood still for a while would have more connections for ever."""
    connections = Connections(read_options(server.url(), None))
    first, second, third = connections.take(), connections.take(), connections.take()
    for wire in (first, second, third):
        connections.give(wire)
    assert connections.take() is third
    connections.give(third)
    until(lambda: clients(server) == 3, "three connections")
    monkeypatch.setattr(connections_module, "SPARE", 0.0)
    for _ in range(5):
        assert connections.take() is third
        connections.give(third)
    until(lambda: clients(server) == 1, "the end of two connections")
    connections.close()


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
    server.ask("CONFIG", "SET", "maxmemory", "1")
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


def test_on_a_full_server_what_follows_a_job_goes_on(server: RedisServer, broker: RedisBroker) -> None:
    gates = Ties(gates=(Gate("c:one", most=1),))
    last = replace(new_job(), ties=Ties(awaits=1))
    broker.enqueue([last, *(replace(new_job(), ties=gates) for _ in range(3))])
    broker.enqueue([replace(new_job(priority=1), ties=Ties(unique=Unique("k"), reports=(last.id,)))])
    server.ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(BrokerFull):
        broker.enqueue([replace(new_job(), ties=Ties(unique=Unique("other")))])
    with pytest.raises(BrokerFull):
        broker.tick("nightly", None, 1.0, [])
    held = claim(broker)
    assert len(held) == 2
    broker.report([Report(held[0].id, held[0].claim_id, b"{}")])
    broker.pause("task:suite.other")
    assert broker.orders("w").paused == {"task:suite.other"}
    assert broker.cancel([held[1].id]) == [State.RUNNING]
    assert broker.orders("w").cancel == {held[1].id}
    assert settle(broker, held) == [Answer.DONE] * 2
    for ended in (2, 1):
        now = claim(broker)
        assert len(now) == ended
        assert settle(broker, now) == [Answer.DONE] * ended
    broker.resume("task:suite.other")
    assert {count.state: count.jobs for count in broker.counts()} == {State.SUCCESSFUL: 5}
    server.ask("CONFIG", "SET", "maxmemory", "0")
    assert broker.enqueue([replace(new_job(), ties=Ties(unique=Unique("k")))]) == [None]


def test_nothing_that_binds_jobs_is_left_when_they_are_gone(server: RedisServer, broker: RedisBroker) -> None:
    gates = (Gate("c:one", most=1), Gate("r:fast", rate=1000.0))
    last = replace(new_job(), ties=Ties(awaits=3))
    ties = Ties(unique=Unique("a", seconds=5.0), gates=gates, reports=(last.id,))
    broker.enqueue([last, replace(new_job(), ties=ties)])
    broker.enqueue([replace(new_job(), ties=Ties(after=(last.id,), unique=Unique(str(n)))) for n in range(3)])
    broker.enqueue([replace(new_job(), ties=Ties(gates=gates[:1])) for n in range(3)])
    for _ in range(10):
        held = claim(broker)
        broker.report([Report(job.id, job.claim_id, b"{}") for job in held])
        broker.cancel([job.id for job in held[:1]])
        settle(broker, held)
        broker.clock_offset += 300.0
    assert {count.state: count.jobs for count in broker.counts()} == {State.SUCCESSFUL: 8}
    broker.leave("w")
    broker.clock_offset += 30 * 86_400.0
    while broker.tend(None, rescue=True).more:
        pass
    kept = {key.decode() for key in server.ask("KEYS", "*")}
    assert kept <= {"{outwork}:bell:default"}


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
    broker = connect(f"redis://127.0.0.1:{proxy.port}?timeout=2")
    put(broker)
    proxy.freeze()
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="gave no answer"):
        put(broker)
    assert time.monotonic() - began < 30
    proxy.freeze(False)
    put(broker)


def test_a_wait_in_a_frozen_network_can_be_ended(
    server: RedisServer, proxy: Proxy, connect: Callable[..., RedisBroker]
) -> None:
    broker = connect(f"redis://127.0.0.1:{proxy.port}?timeout=2")
    broker.now()
    waiting = Thread(target=lambda: broker.wait(["default"], 600.0), daemon=True)
    waiting.start()
    until(lambda: blocked(server) == 1, "it waits")
    proxy.freeze()
    broker.interrupt()
    waiting.join(60)
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
    waiting = Thread(target=lambda: broker.wait(["default", "mail"], 600.0), daemon=True)
    waiting.start()
    until(lambda: blocked(server) == 1, "it waits")
    with server.client() as client:
        before = client.info("stats")["total_commands_processed"]
        waiting.join(1.0)
        after = client.info("stats")["total_commands_processed"]
    assert waiting.is_alive()
    assert after - before == 1  # our own INFO
    broker.interrupt()
    waiting.join(60)


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
    bound = Ties(unique=Unique("k"), gates=(Gate("c:one", most=1),))
    for key in (
        *("job", "ready", "later", "held", "claims", "expiry", "ended", "ids", "counts"),
        *("aside", "knots", "ties", "cell", "attention", "until", "paused", "stops", "progress"),
    ):
        server.ask("FLUSHALL")
        broker = connect(server.url(allow_eviction="true"))
        broker.enqueue([new_job(expires=60.0), new_job(delay=60.0), new_job(), new_job()])
        after = replace(new_job(), ties=Ties(awaits=1, within=50.0))
        broker.enqueue([after, replace(new_job(), ties=replace(bound, reports=(after.id,)))])
        broker.enqueue([replace(new_job(), ties=replace(bound, unique=None)) for _ in range(2)])
        broker.pause("task:suite.task")
        held = claim(broker, 10)
        broker.report([Report(job.id, job.claim_id, b"{}") for job in held])
        broker.cancel([held[0].id])
        server.ask("DEL", f"{{outwork}}:{key}")
        broker.orders("w")
        broker.resume("task:suite.task")
        broker.clock_offset += 100
        settle(broker, held)
        claim(broker)
        broker.tend(None, rescue=True, dead=["w"])
        broker.find(Filter())
        broker.counts()
        broker.clock_offset += 1e7
        broker.tend(None, rescue=True)
        broker.delete(put(broker))
        [answer] = broker.enqueue([replace(new_job(), ties=bound)])
        assert answer is None, "a key that nobody holds any more"
        broker.close()
