"""Several Redis servers: replicas behind Sentinels, and a Cluster. Primaries die, and slots move."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event, Thread

import pytest
from redis.crc import key_slot

from outwork.brokers.base import Broker, Filter
from outwork.brokers.redis.broker import RedisBroker
from outwork.errors import BrokerRefused, BrokerUnavailable
from outwork.ids import new_claim_id
from outwork.job import Job, Terms
from outwork.testing.conformance import BrokerConformance, MakeBroker, new_job, shares
from support.redis_server import Cluster, RedisServer, SentinelGroup
from support.waiting import until

SLOT = key_slot(b"outwork")


def enqueue_patiently(broker: Broker, job: Job) -> None:
    """What a producer with patience does: the same job again, until it is accepted."""

    def accepted() -> bool:
        try:
            return broker.enqueue([job]) == [None]
        except BrokerUnavailable:
            return False

    until(accepted, "the job is accepted", pause=0.05)


class Producer(Thread):
    """Enqueues one job after the other until told to stop, whatever happens meanwhile."""

    def __init__(self, broker: RedisBroker) -> None:
        super().__init__(daemon=True)
        self._broker = broker
        self._stop_it = Event()
        self.accepted: list[str] = []
        self.start()

    def run(self) -> None:
        while not self._stop_it.is_set():
            job = new_job()
            enqueue_patiently(self._broker, job)
            self.accepted.append(job.id)

    def stop(self) -> list[str]:
        self._stop_it.set()
        self.join(60)
        assert not self.is_alive()
        return self.accepted


def claimed_ids(broker: RedisBroker) -> set[str]:
    """Everything that can be claimed."""
    found: set[str] = set()
    while batch := broker.exchange(new_claim_id(), [], shares("default"), 500, 500, "w").claimed:
        found |= {job.id for job in batch}
    return found


# ---- Sentinel --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelGroup]:
    with SentinelGroup() as group:
        yield group.form(tmp_path_factory.mktemp("sentinel"))


def test_a_service_that_nobody_knows(group: SentinelGroup) -> None:
    broker = RedisBroker.from_url(group.url().replace("/jobs", "/other"))
    with pytest.raises(BrokerRefused, match="does not monitor a service named 'other'"):
        broker.enqueue([new_job()])
    broker.close()


def test_replicas_that_are_waited_for_and_do_not_answer(group: SentinelGroup) -> None:
    broker = RedisBroker.from_url(group.url(wait_replicas="2", timeout="1"))
    broker.enqueue([new_job()])
    too_many = RedisBroker.from_url(group.url(wait_replicas="3", timeout="1"))
    with pytest.raises(BrokerUnavailable, match="2 of 3 replicas"):
        too_many.enqueue([new_job()])
    for one in (broker, too_many):
        one.close()


def test_a_failover_is_survived_and_loses_nothing_that_replicas_acknowledged(group: SentinelGroup) -> None:
    broker = RedisBroker.from_url(group.url(wait_replicas="1", timeout="2"))
    broker.delete([record.id for record in broker.find(Filter(), 1000).records])
    producer = Producer(broker)
    woken = Thread(target=lambda: broker.wait(["nothing here"], 600.0), daemon=True)
    woken.start()
    until(lambda: len(producer.accepted) > 100, "some jobs are accepted")
    old = group.primary()
    old.kill()
    until(lambda: group.primary() is not old, "another primary")
    before = len(producer.accepted)
    until(lambda: len(producer.accepted) > before + 100, "jobs are accepted again")
    accepted = producer.stop()
    broker.interrupt()
    woken.join(60)
    assert not woken.is_alive()
    assert claimed_ids(broker) >= set(accepted)
    broker.close()
    old.start()


# ---- Cluster ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster.form(tmp_path_factory.mktemp("cluster"))


class TestCluster(BrokerConformance):
    """Every promise, on the node of a cluster that has our slot."""

    @pytest.fixture
    def make_broker(self, cluster: Cluster) -> MakeBroker:
        cluster.owner(SLOT).ask("FLUSHALL")

        def make(terms: Terms | None = None) -> RedisBroker:
            return RedisBroker.from_url(cluster.url(), terms)

        return make


def test_a_node_named_as_if_it_were_alone(cluster: Cluster) -> None:
    owner = cluster.owner(SLOT)
    other = next(node for node in cluster.nodes[:3] if node is not owner)
    broker = RedisBroker.from_url(other.url())
    with pytest.raises(BrokerUnavailable, match=r"Use redis\+cluster"):
        broker.enqueue([new_job()])
    broker.close()


def move_slot(source: RedisServer, target: RedisServer, cluster: Cluster) -> Iterator[None]:
    """Move our slot, one key after the other; yields between two steps."""
    target.ask("CLUSTER", "SETSLOT", SLOT, "IMPORTING", cluster.id_of(source))
    source.ask("CLUSTER", "SETSLOT", SLOT, "MIGRATING", cluster.id_of(target))
    yield
    while keys := source.ask("CLUSTER", "GETKEYSINSLOT", SLOT, 1):
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 10_000, "KEYS", *keys)
        yield
    for node in (target, source):
        node.ask("CLUSTER", "SETSLOT", SLOT, "NODE", cluster.id_of(target))


def test_a_slot_that_moves_is_followed_and_no_script_sees_half_of_it(cluster: Cluster) -> None:
    broker = RedisBroker.from_url(cluster.url())
    source = cluster.owner(SLOT)
    source.ask("FLUSHALL")
    target = next(node for node in cluster.nodes[:3] if node is not source)
    producer = Producer(broker)
    onlooker = RedisBroker.from_url(cluster.url())
    until(lambda: len(producer.accepted) > 100, "some jobs are accepted")
    for _ in move_slot(source, target, cluster):
        with pytest.raises(BrokerUnavailable, match="is moving our keys"):
            onlooker.counts()
    before = len(producer.accepted)
    until(lambda: len(producer.accepted) > before + 100, "jobs are accepted on the new node")
    accepted = producer.stop()
    assert claimed_ids(broker) >= set(accepted)
    assert cluster.owner(SLOT) is target
    for one in (broker, onlooker):
        one.close()


def test_a_node_that_dies_is_replaced_by_its_replica(cluster: Cluster) -> None:
    broker = RedisBroker.from_url(cluster.url())
    old = cluster.owner(SLOT)
    old.ask("FLUSHALL")
    first, second = new_job(), new_job()
    broker.enqueue([first])
    broker.close()
    broker = RedisBroker.from_url(f"{cluster.url()}?wait_replicas=1")
    broker.enqueue([first])
    old.kill()
    survivor = RedisBroker.from_url(cluster.url())
    enqueue_patiently(survivor, second)
    assert cluster.owner(SLOT) is not old
    assert claimed_ids(survivor) == {first.id, second.id}
    survivor.close()
    broker.close()
    old.start()


def test_servers_that_are_all_away() -> None:
    for url in ("redis+sentinel://127.0.0.1:1,127.0.0.1:2/jobs", "redis+cluster://127.0.0.1:1,127.0.0.1:2"):
        broker = RedisBroker.from_url(url)
        with pytest.raises(BrokerUnavailable, match=r"cannot reach a server at 127\.0\.0\.1:1"):
            broker.enqueue([new_job()])
        broker.close()
