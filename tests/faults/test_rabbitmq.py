"""What RabbitMQ alone survives: dead workers, cut connections, restarts, a full server, long tasks. A real server."""

from __future__ import annotations

import json
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pika  # type: ignore[import-untyped]
import pytest
from click.testing import CliRunner

from outwork import Outwork
from outwork.brokers.base import Claimed, Settlement, Share
from outwork.brokers.rabbitmq import graves, intake, sending
from outwork.brokers.rabbitmq.broker import RabbitMQBroker
from outwork.brokers.rabbitmq.intake import Intake
from outwork.brokers.rabbitmq.lines import Line
from outwork.cli import main
from outwork.errors import BrokerFull, BrokerRefused, BrokerUnavailable
from outwork.ids import new_claim_id
from outwork.job import Dead, Done, Failure, Release
from outwork.testing.conformance import new_job
from support import chores
from support.certificate import certificate_in, client_certificate_in
from support.ledger import Ledger
from support.ports import free_port
from support.proxy import Proxy
from support.rabbitmq_admin import Admin
from support.rabbitmq_server import RabbitServer
from support.waiting import until
from support.workers import Workers

TARGET = "support.chores"
CONFIRM = bytes((0, 60, 0, 80))
"""The class and the method of a confirm, as they stand in its frame."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    server = RabbitServer(tmp_path_factory.mktemp("rabbitmq"))
    yield server
    server.close()


@pytest.fixture(params=["quorum", "classic"])
def broker_url(request: pytest.FixtureRequest, server: RabbitServer) -> str:
    return server.url(prefix=f"f{new_claim_id()[:12]}", queue_type=request.param)


@pytest.fixture
def broker(broker_url: str) -> Iterator[RabbitMQBroker]:
    with closing(RabbitMQBroker.from_url(broker_url)) as broker:
        yield broker


@pytest.fixture
def admin(server: RabbitServer) -> Iterator[Admin]:
    with closing(Admin(server.url())) as admin:
        yield admin


def take(broker: RabbitMQBroker, count: int, queue: str = "default") -> list[Claimed]:
    """Claim so many jobs that must come."""
    claimed: list[Claimed] = []

    def look() -> bool:
        room = count - len(claimed)
        claimed.extend(broker.exchange(new_claim_id(), [], [Share(queue, room)], room, room, "worker-1").claimed)
        return len(claimed) == count or (broker.wait([queue], 0.1) and False)

    until(look, f"{count} jobs")
    return claimed


def settle(broker: RabbitMQBroker, claimed: list[Claimed]) -> list[str]:
    done = [Settlement(one.id, one.claim_id, Done(b"1")) for one in claimed]
    return [answer.value for answer in broker.exchange(new_claim_id(), done, [], 0, 0, "worker-1").answers]


def lose_connections(server: RabbitServer, broker: RabbitMQBroker) -> None:
    """As when the worker is gone: the server takes back all that it had in hand."""
    server.ctl("close_all_connections", "a test")
    until(lambda: broker._link.open_intake is None, "the end of the connection")


# ---- dead workers ----------------------------------------------------------------------------------------------------


def test_nothing_is_lost_when_whole_workers_are_killed(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    """500 jobs; three times a worker is killed with `kill -9`, then one of default settings goes on."""
    app.enqueue_many(chores.step.bind(f"job-{number}") for number in range(500))
    doubtful: set[str] = set()
    for round_ in range(3):
        running = workers.start(TARGET)
        target = ledger.count("E") + 40 * (round_ + 1)
        until(lambda target=target: ledger.count("E") >= target, "the end of some jobs")  # type: ignore[misc]
        before = ledger.keys("S")
        running.kill_all()
        doubtful |= ledger.in_flight() | {key for key, times in ledger.keys("S").items() if times > before[key]}
    began = time.monotonic()
    last = workers.start(TARGET).ready()
    until(lambda: len(ledger.keys("E")) == 500, "the end of all jobs", seconds=60)
    assert time.monotonic() - began < 60
    twice = set(ledger.twice())
    assert len(twice) <= 3 * 20 + len(doubtful)  # settled, but the acknowledgement had not left the process
    assert last.stop() == 0


@pytest.mark.parametrize("how", ["exit"])
def test_a_job_that_kills_its_worker_is_stopped_and_the_innocent_survive(
    app: Outwork, ledger: Ledger, workers: Workers, how: chores.Death, admin: Admin
) -> None:
    chores.poison.enqueue("poison", how)
    app.enqueue_many(chores.step.bind(f"innocent-{number}") for number in range(50))
    workers.start(TARGET, "--concurrency", "4")
    until(lambda: len(ledger.keys("E")) == 50, "the end of all the others", seconds=60)
    broker = app.broker
    assert isinstance(broker, RabbitMQBroker)
    until(lambda: admin.count(broker.topology.dead) == 1, "its burial")
    assert ledger.count("S", "poison") == 4
    [(_, properties, _)] = admin.take(broker.topology.dead)
    assert properties.headers["reason"] == "its worker died 4 times"
    assert properties.headers["crashes"] == 4


def test_a_job_that_was_only_prefetched_is_not_blamed(
    server: RabbitServer, broker_url: str, broker: RabbitMQBroker, admin: Admin
) -> None:
    """Many workers die with it in their buffer; it is counted once, and RabbitMQ's own count never grows."""
    broker.enqueue([new_job()])
    topology = broker.topology
    for _ in range(25):
        with closing(RabbitMQBroker.from_url(broker_url)) as victim:
            victim.wait(["default"], 0.2)
            victim._closed = True  # it dies: nothing is given back
            victim._link.close()
    [claimed] = take(broker, 1)
    assert claimed.crashes <= 1
    assert admin.count(topology.dead) in (0, None)
    assert settle(broker, [claimed]) == ["done"]


def test_a_job_that_kills_its_worker_at_once_is_there_once(
    broker_url: str, broker: RabbitMQBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker has found out that the worker before died, runs it, and dies before it comes to tell the server."""
    broker.enqueue([new_job()])
    take(broker, 1)
    broker._closed = True  # it dies: nothing is given back
    broker._link.close()
    monkeypatch.setattr(Intake, "_ack", lambda self, tags, at_once: self._due.update(tags))  # too busy to send them
    with closing(RabbitMQBroker.from_url(broker_url)) as victim:
        [claimed] = take(victim, 1)
        assert claimed.crashes == 1
        victim._closed = True
        victim._link.close()
    monkeypatch.undo()
    with closing(RabbitMQBroker.from_url(broker_url)) as last:
        [claimed] = take(last, 1)
        assert claimed.crashes == 2
        assert settle(last, [claimed]) == ["done"]
        assert last.exchange(new_claim_id(), [], [Share("default", 9)], 9, 9, "worker-1").claimed == []
        assert not last.wait(["default"], 0.5)


def test_at_most_once_is_acknowledged_before_it_starts(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    chores.once.enqueue("once", 60)
    running = workers.start(TARGET)
    until(lambda: ledger.count("S", "once"), "its start")
    running.kill_all()
    workers.start(TARGET)
    chores.step.enqueue("after")
    until(lambda: ledger.count("E", "after"), "the next job")
    assert ledger.count("S", "once") == 1


def test_at_most_once_is_not_given_back_twice(server: RabbitServer, broker_url: str, broker: RabbitMQBroker) -> None:
    """It is acknowledged, so the way back is a new message; whether that has arrived nobody knows."""
    prefix = broker.topology.prefix
    with Proxy(server.port) as proxy:
        url = broker_url.replace(f":{server.port}/", f":{proxy.port}/")
        with closing(RabbitMQBroker.from_url(url)) as stopped:
            broker.enqueue([new_job(at_most_once=True)])
            [claimed] = take(stopped, 1)
            until(lambda: server.messages(prefix) == {}, "its acknowledgement")
            back = [Settlement(claimed.id, claimed.claim_id, Release())]
            proxy.eat_replies(1, CONFIRM)
            with pytest.raises(BrokerUnavailable):
                stopped.exchange(new_claim_id(), back, [], 0, 0, "worker-1")
            answers = stopped.exchange(new_claim_id(), back, [], 0, 0, "worker-1").answers
            assert [answer.value for answer in answers] == ["done"]
    expected = {f"{prefix}.solo.default": 1, f"{prefix}.dead": 1}
    until(lambda: server.messages(prefix) == expected, "a message and a dead letter")
    [dead] = broker.dead_letters([claimed.id])
    assert "it may be run once more, or never" in dead.errors[-1].message
    assert settle(broker, take(broker, 1)) == ["done"]


def test_at_most_once_that_finds_no_room_is_not_there_twice(
    server: RabbitServer, broker_url: str, broker: RabbitMQBroker
) -> None:
    """A worker that has received it, and has no room, gives it back. Its connections break while it does."""
    prefix = broker.topology.prefix
    with Proxy(server.port) as proxy:
        url = broker_url.replace(f":{server.port}/", f":{proxy.port}/")
        with closing(RabbitMQBroker.from_url(url)) as busy:
            assert busy.exchange(new_claim_id(), [], [Share("default", 1)], 1, 1, "worker-2").claimed == []
            broker.enqueue([new_job(at_most_once=True)])
            assert busy.wait(["default"], 30.0)
            proxy.eat_replies(1, CONFIRM)
            assert settle(broker, take(broker, 1)) == ["done"]
            proxy.cut()
            until(lambda: busy._link.open_intake is None, "the end of the connection")
    assert not broker.wait(["default"], 0.5)
    until(lambda: server.messages(prefix) == {}, "empty queues")


def test_a_consumer_that_pauses_as_it_begins_loses_nothing(
    server: RabbitServer, broker_url: str, broker: RabbitMQBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled before it began, it went on unseen, and what it brought was acknowledged with the rest."""
    broker.enqueue([new_job()])
    change, looked = Intake._change, threading.Event()

    def look_meanwhile(self: Intake, line: Line, *words: Any) -> Any:
        line.asked_at -= 10.0  # it has waited for its turn
        self.loop.call(self._look)
        self.loop.call(looked.set)
        looked.wait(1.0)  # it may have to wait until this is over
        return change(self, line, *words)

    with Proxy(server.port) as proxy:
        url = broker_url.replace(f":{server.port}/", f":{proxy.port}/")
        with closing(RabbitMQBroker.from_url(url)) as slow:
            assert slow.wait(["default"], 30.0)
            proxy.hold_replies()
            [line] = [line for line in slow._link.intake().lines.values() if line.buffer]
            until(lambda: line.tag is None, "a pause of what nobody claims")
            monkeypatch.setattr(Intake, "_change", look_meanwhile)
            shares = [Share("default", 4)]
            claiming = threading.Thread(target=lambda: settle(slow, slow.exchange("1", [], shares, 4, 4, "1").claimed))
            claiming.start()
            until(looked.is_set, "another look")
            proxy.hold_replies(False)
            claiming.join()
            monkeypatch.undo()
            assert slow.enqueue([new_job() for _ in range(20)]) == [None] * 20
            found: set[str] = set()
            for _ in range(20):
                claimed = take(slow, 1)
                assert settle(slow, claimed) == ["done"]
                found |= {one.id for one in claimed}
            assert len(found) == 20


def test_at_most_once_that_finds_no_room_again_and_again(server: RabbitServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ 4.0 to 4.2 drop what came back 20 times; here a policy of the operator's does."""
    monkeypatch.setattr(intake, "PATIENCE", 0.02)
    monkeypatch.setattr(intake, "LOOK_EVERY", 0.02)
    prefix = f"f{new_claim_id()[:12]}"
    server.ctl("set_policy", prefix, f"^{prefix}", '{"delivery-limit": 20}', "--apply-to", "queues")
    with closing(RabbitMQBroker.from_url(server.url(prefix=prefix))) as broker:
        assert broker.exchange(new_claim_id(), [], [Share("default", 1)], 1, 1, "worker-1").claimed == []
        broker.enqueue([new_job(at_most_once=True)])
        line = broker._link.intake().lines[broker.topology.tier("default", 1)]
        for _ in range(25):
            until(lambda: broker.wait(["default"], 1.0) and line.buffer, "the job")
            until(lambda: not line.buffer, "that it was given back")
        assert settle(broker, take(broker, 1)) == ["done"]
        assert broker.dead_letters() == []


# ---- lost connections ------------------------------------------------------------------------------------------------


def test_a_claim_ends_with_its_connection(server: RabbitServer, broker: RabbitMQBroker) -> None:
    broker.enqueue([new_job(), new_job()])
    first, second = take(broker, 2)
    assert settle(broker, [first]) == ["done"]
    lose_connections(server, broker)
    assert broker.extend([(second.id, second.claim_id)]).lost == {second.id}  # type: ignore[list-item]
    assert settle(broker, [first, second]) == ["already", "stale"]
    [again] = take(broker, 1)
    assert (again.id, again.crashes, again.attempt) == (second.id, 1, 2)
    assert again.errors[-1].message == "its worker died or lost the lease (1 of 3 crashes allowed)"
    assert settle(broker, [again]) == ["done"]


def test_nothing_is_lost_when_all_connections_are_closed_under_load(
    server: RabbitServer, app: Outwork, ledger: Ledger, workers: Workers
) -> None:
    running = workers.start(TARGET).ready()
    over = threading.Event()

    def cut() -> None:
        while not over.wait(1.0):
            server.ctl("close_all_connections", "a test")

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        for number in range(200):
            chores.step.enqueue(f"job-{number}", 0.02)
            time.sleep(0.02)
    finally:
        over.set()
        cutter.join()
    until(lambda: len(ledger.keys("E")) == 200, "the end of all jobs", seconds=60)
    assert running.stop() == 0


def test_a_server_that_restarts_keeps_all(server: RabbitServer, app: Outwork, ledger: Ledger, workers: Workers) -> None:
    running = workers.start(TARGET).ready()
    app.enqueue_many(chores.step.bind(f"job-{number}", 0.05) for number in range(300))
    chores.step.using(run_after=2).enqueue("delayed")
    until(lambda: ledger.count("E") >= 20, "some of them")
    server.stop()
    with pytest.raises(BrokerUnavailable):
        chores.step.enqueue("refused")
    server.start()
    until(lambda: len(set(ledger.keys("E")) - {"refused"}) >= 301, "the end of all jobs", seconds=90)
    chores.step.enqueue("afterwards")
    until(lambda: ledger.count("E", "afterwards"), "the next job", seconds=60)
    assert running.stop() == 0


def test_a_confirm_that_is_lost_loses_no_job(server: RabbitServer, broker_url: str) -> None:
    """It is sent once more: a job may be there twice, never not at all."""
    with Proxy(server.port) as proxy:
        url = broker_url.replace(f":{server.port}/", f":{proxy.port}/")
        with closing(RabbitMQBroker.from_url(url)) as producer, closing(RabbitMQBroker.from_url(broker_url)) as broker:
            producer.enqueue([new_job(queue="other")])  # connected, all is declared
            jobs = [new_job() for _ in range(20)]
            for job in jobs:
                proxy.eat_replies(1)
                assert producer.enqueue([job]) == [None]
            found: set[str] = set()

            def look() -> bool:
                found.update(one.id for one in take(broker, 1))
                return len(found) == len(jobs)

            until(look, "all of them")
            assert found == {job.id for job in jobs}


def test_without_confirms(broker_url: str, broker: RabbitMQBroker) -> None:
    """An enqueue does not wait for the server's word, if the URL says so."""
    jobs = [new_job() for _ in range(20)]
    with closing(RabbitMQBroker.from_url(f"{broker_url}&confirm=false")) as fast:
        assert fast.enqueue(jobs) == [None] * 20
        assert {one.id for one in take(broker, 20)} == {job.id for job in jobs}


def test_what_was_not_started_is_given_back_at_a_clean_end(broker_url: str, broker: RabbitMQBroker) -> None:
    """Uncounted, and not twice."""
    broker.enqueue([new_job() for _ in range(400)])
    done = 0
    for _ in range(3):
        with closing(RabbitMQBroker.from_url(broker_url)) as deployed:
            claimed = take(deployed, 100)
            assert settle(deployed, claimed) == ["done"] * 100
            done += len(claimed)
    left = take(broker, 400 - done)
    assert {(one.crashes, one.failures) for one in left} == {(0, 0)}
    assert settle(broker, left) == ["done"] * len(left)
    assert not broker.wait(["default"], 0.5)


def test_a_child_after_a_fork_has_connections_of_its_own(broker: RabbitMQBroker) -> None:
    """As under a server that loads the application first and forks then."""
    broker.enqueue([new_job()])
    [claimed] = take(broker, 1)
    children: list[int] = []
    for _ in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # this is what such servers do
            child = os.fork()
        if not child:
            refused = any(broker.enqueue([new_job(queue="child") for _ in range(5)]))
            broker.close()
            os._exit(refused)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert settle(broker, [claimed]) == ["done"]
    assert len({one.id for one in take(broker, 15, "child")}) == 15


# ---- a server that says no -------------------------------------------------------------------------------------------


def refused(broker: RabbitMQBroker) -> bool:
    """Whether the server takes no jobs. The first may still get through: it is not told before it tries."""
    try:
        broker.enqueue([new_job()])
    except BrokerFull as error:
        return "takes no messages at the moment" in str(error)
    return False


def test_a_server_out_of_memory_refuses_jobs_and_lets_workers_finish(server: RabbitServer, broker_url: str) -> None:
    with closing(RabbitMQBroker.from_url(f"{broker_url}&put_timeout=2")) as broker:
        broker.enqueue([new_job() for _ in range(10)])
        claimed = take(broker, 10)
        server.ctl("set_vm_memory_high_watermark", "0")
        try:
            until(lambda: refused(broker), "a refusal")
            assert settle(broker, claimed) == ["done"] * 10
            broker._link.open_intake.flush()  # type: ignore[union-attr]
        finally:
            server.ctl("set_vm_memory_high_watermark", "0.6")
        until(lambda: broker._link.open_publisher is not None and not broker._link.open_publisher.blocked, "room")
        assert broker.enqueue([new_job(queue="other")]) == [None]


def test_a_queue_that_rejects_is_asked_again(
    server: RabbitServer, broker_url: str, broker: RabbitMQBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full one does so, and a quorum queue that another process has just declared, until it has a leader."""
    prefix = broker.topology.prefix
    limit = '{"max-length": 5, "overflow": "reject-publish"}'
    server.ctl("set_policy", prefix, f"^{prefix}[.]q[.]", limit, "--apply-to", "queues")
    monkeypatch.setattr(sending, "STARTING", 0.0)
    taken = 0
    while (answer := broker.enqueue([new_job()])) == [None]:
        taken += 1
        assert taken < 10, "the queue has no end"
    assert isinstance(answer[0], BrokerFull)

    def make_room(seconds: float) -> None:
        with closing(RabbitMQBroker.from_url(broker_url)) as worker:
            made.append(settle(worker, take(worker, taken)))

    made: list[list[str]] = []
    monkeypatch.setattr(sending, "STARTING", 60.0)
    monkeypatch.setattr(sending, "sleep", make_room)
    one = new_job()
    assert broker.enqueue([one]) == [None]
    assert made == [["done"] * taken]
    assert [claimed.id for claimed in take(broker, 1)] == [one.id]


def test_a_queue_declared_with_other_arguments(server: RabbitServer) -> None:
    prefix = f"f{new_claim_id()[:12]}"
    for kind, other in (("classic", "quorum"), ("quorum", "classic")):
        with closing(RabbitMQBroker.from_url(server.url(prefix=prefix + kind, queue_type=kind))) as one:
            one.enqueue([new_job()])
        with (
            closing(RabbitMQBroker.from_url(server.url(prefix=prefix + kind, queue_type=other))) as two,
            pytest.raises(BrokerRefused, match="exists already with other arguments"),
        ):
            two.enqueue([new_job()])


def test_a_queue_that_somebody_deletes(broker_url: str, broker: RabbitMQBroker, admin: Admin) -> None:
    """Whoever sees that first makes it again, with the way that delayed jobs take to it: others know it was there."""
    queue = broker.topology.tier("default", 0)
    with closing(RabbitMQBroker.from_url(broker_url)) as producer:
        producer.enqueue([new_job(delay=0.1)])
        assert settle(broker, take(broker, 1)) == ["done"]
        admin.channel.queue_delete(queue)
        until(lambda: not broker._link.is_declared(queue), "the news of it")
        broker.wait(["default"], 0.0)
        producer.enqueue([new_job(delay=0.1)])
        assert settle(broker, take(broker, 1)) == ["done"]
        admin.channel.queue_delete(queue)
        until(lambda: not broker._link.is_declared(queue), "the news of it")
        with closing(RabbitMQBroker.from_url(broker_url)) as new:
            new.wait(["default"], 0.0)
            producer.enqueue([new_job(delay=0.1)])
            assert settle(new, take(new, 1)) == ["done"]


def test_missing_rights_and_strangers(server: RabbitServer) -> None:
    server.ctl("add_user", "limited", "secret")
    url = server.url().replace("guest:guest", "limited:secret")
    refused: list[tuple[str, str]] = [
        (url, "the virtual host '/' does not exist, or is not open to 'limited'"),
        (url.replace("secret", "wrong"), "does not know the user 'limited' with this password"),
        (server.url("nowhere"), "the virtual host 'nowhere' does not exist"),
    ]
    for where, said in refused:
        with closing(RabbitMQBroker.from_url(where)) as broker, pytest.raises(BrokerRefused, match=said):
            broker.enqueue([new_job()])
    server.ctl("set_permissions", "-p", "/", "limited", "^$", ".*", ".*")
    with (
        closing(RabbitMQBroker.from_url(url)) as broker,
        pytest.raises(BrokerRefused, match="has not the right to use"),
    ):
        broker.enqueue([new_job()])


def test_a_server_that_is_not_there(server: RabbitServer) -> None:
    with (
        closing(RabbitMQBroker.from_url("amqp://guest:guest@127.0.0.1:1/")) as broker,
        pytest.raises(BrokerUnavailable, match="cannot be reached"),
    ):
        broker.enqueue([new_job()])
    url = server.url().replace("@", "@127.0.0.1:1,")
    with closing(RabbitMQBroker.from_url(f"{url}?prefix=f{new_claim_id()[:12]}")) as broker:
        assert broker.enqueue([new_job()]) == [None]


# ---- long tasks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(server: RabbitServer) -> Iterator[None]:
    with server.impatient():
        yield


def test_a_drain_takes_all_there_is(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    """Although RabbitMQ may have nothing at the channel yet when the worker has ended what it had."""
    app.enqueue_many(chores.step.bind(f"job-{number}", 0.0) for number in range(1000))
    code, log = workers.run(TARGET, "--drain", "--concurrency", "4")
    assert code == 0, log
    assert "(1,000 done, 0 failed" in log
    assert "nothing left)" in log
    assert set(ledger.keys("E").values()) == {1}


@pytest.mark.usefixtures("impatient")
def test_a_long_task_is_started_once(app: Outwork, ledger: Ledger, workers: Workers, broker_url: str) -> None:
    running = workers.start(TARGET, url=f"{broker_url}&consumer_timeout=3&lease=1.5").ready()
    chores.step.enqueue("long", 12)
    chores.step.enqueue("longer", 14)
    until(lambda: ledger.count("E") == 2, "their end")
    assert ledger.count("S") == 2
    assert "lost" not in running.text()
    chores.step.enqueue("short")
    until(lambda: ledger.count("E") == 3, "the next one")
    assert running.stop() == 0
    assert ledger.count("S") == 3


@pytest.mark.usefixtures("impatient")
def test_a_long_task_whose_worker_dies_is_run_again(
    app: Outwork, ledger: Ledger, workers: Workers, broker_url: str, server: RabbitServer
) -> None:
    url = f"{broker_url}&consumer_timeout=3&lease=1.5"
    running = workers.start(TARGET, url=url).ready()
    chores.step.enqueue("long", 10)
    until(lambda: ledger.count("S") == 1, "its start")
    prefix = broker_url.partition("prefix=")[2].partition("&")[0]

    def renewed() -> bool:
        return [(".parked." in name, count) for name, count in server.messages(prefix).items()] == [(True, 1)]

    until(renewed, "the copy in place of its message")
    running.kill_all()
    assert ledger.count("E") == 0, "it was to be killed in the middle"
    workers.start(TARGET, url=url)
    until(lambda: ledger.count("E") == 1, "its end")
    assert ledger.count("S") == 2


@pytest.mark.usefixtures("impatient")
def test_a_server_less_patient_than_we_think_takes_back(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    """Nothing is lost: the job is run again, and the worker goes on."""
    running = workers.start(TARGET).ready()
    chores.step.enqueue("long", 6)
    until(lambda: ledger.count("S") == 2, "its second start")
    running.kill_all()


# ---- dead letters ----------------------------------------------------------------------------------------------------

Run = Callable[..., Any]


@pytest.fixture
def run(app: Outwork) -> Run:
    """`outwork WORDS` on this broker; what it printed, or the JSON of it."""

    def run_one(*words: str, code: int = 0) -> Any:
        done = CliRunner().invoke(main, [*words, "--app", f"{TARGET}:app"])
        assert done.exit_code == code, done.output
        return json.loads(done.output) if "--json" in words else done.output

    return run_one


def bury(broker: RabbitMQBroker, *tasks: str, queue: str = "default", reason: str = "the vase is broken") -> list[str]:
    """Jobs that have ended badly, the oldest first."""
    made = [new_job(task=task, queue=queue) for task in tasks]
    assert broker.enqueue(made) == [None] * len(made)
    failure = Failure(exception="ValueError", message=reason, traceback="", attempt=1, worker="w", at=time.time())
    claimed = take(broker, len(made), queue)
    broker.exchange(
        new_claim_id(), [Settlement(one.id, one.claim_id, Dead((failure,))) for one in claimed], [], 0, 0, "worker-1"
    )
    return [job.id for job in made]


def test_dead_letters_are_listed_and_stay(broker: RabbitMQBroker, run: Run) -> None:
    first, second, third = bury(broker, "shop.pack", "shop.send", "shop.send")
    [elsewhere] = bury(broker, "shop.pack", queue="mail", reason="550 no such user\nand more")
    said = run("jobs", "ls", "--json")["jobs"]
    assert [one["id"] for one in said] == [elsewhere, third, second, first]
    assert said[0] | {"enqueued_at": 0, "due": 0, "finished_at": 0} == {
        "id": elsewhere,
        "task": "shop.pack",
        "queue": "mail",
        "priority": 0,
        "state": "FAILED",
        "attempts": 1,
        "enqueued_at": 0,
        "due": 0,
        "started_at": None,
        "finished_at": 0,
        "reason": "550 no such user\nand more",
    }
    table = run("jobs", "ls", "--queue", "mail")
    assert "REASON" in table
    assert "550 no such user" in table
    assert "and more" not in table
    page = run("jobs", "ls", "--task", "shop.send", "--limit", "1", "--json")
    assert [one["id"] for one in page["jobs"]] == [third]
    page = run("jobs", "ls", "--task", "shop.send", "--cursor", page["cursor"], "--json")
    assert ([one["id"] for one in page["jobs"]], page["cursor"]) == ([second], None)
    shown = run("jobs", "show", first, "--json", "--payload")
    assert (shown["task"], shown["failures"], shown["arguments"]) == ("shop.pack", 1, {"x": 1})
    assert [error["message"] for error in shown["errors"]] == ["the vase is broken"]
    assert "of other jobs it keeps no records" in run("jobs", "show", new_job().id, code=1)
    assert "OUTWORK_STORE_URL" in run("jobs", "cancel", "--all", "--yes", code=1)
    assert len(run("jobs", "ls", "--json")["jobs"]) == 4


def test_dead_letters_are_run_again_from_the_start(broker: RabbitMQBroker, run: Run) -> None:
    first, second, third = bury(broker, "shop.pack", "shop.send", "shop.send")
    assert "1 job to be run again" in run("jobs", "retry", first)
    assert "2 jobs to be run again" in run("jobs", "retry", "--task", "shop.send", "--yes")
    claimed = take(broker, 3)
    assert [(one.id, one.attempt, len(one.errors)) for one in claimed] == [
        (job, 1, 1) for job in (first, second, third)
    ]
    assert settle(broker, claimed) == ["done"] * 3
    assert run("jobs", "ls") == "no dead letters; other jobs cannot be listed without a store\n"
    assert "not among the dead letters" in run("jobs", "retry", first, code=1)


def test_dead_letters_are_forgotten(broker: RabbitMQBroker, run: Run) -> None:
    first, second = bury(broker, "shop.pack", "shop.send")
    assert "1 job deleted" in run("jobs", "delete", first, "--yes")
    assert [record.id for record in broker.dead_letters()] == [second]


def test_a_look_never_loses_a_dead_letter(server: RabbitServer, admin: Admin) -> None:
    """RabbitMQ 4 drops what came back 20 times; here a policy of the operator's does."""
    prefix = f"f{new_claim_id()[:12]}"
    policy = ["set_policy", prefix, f"^{prefix}", '{"delivery-limit": 20}', "--apply-to", "queues"]
    server.ctl(*policy)
    with closing(RabbitMQBroker.from_url(server.url(prefix=prefix))) as broker:
        ids = bury(broker, "shop.pack", "shop.send")
        [before, _] = admin.take(broker.topology.dead)
        admin.channel.close()
        for _ in range(15):
            assert {record.id for record in broker.dead_letters()} == set(ids)
            assert [record.id for record in broker.dead_letters(ids[:1])] == ids[:1]
        until(lambda: admin.count(broker.topology.dead) == 2, "both")
        after = [properties for _, properties, _ in admin.take(broker.topology.dead)]
        assert {one.headers["reason"] for one in after} == {"the vase is broken"}
        assert all(0 < int(one.expiration) <= int(before[1].expiration) for one in after)


def test_dead_letters_that_no_worker_made(broker: RabbitMQBroker, admin: Admin, run: Run) -> None:
    """What the server itself took out of a queue, and what nobody can read."""
    job = new_job(task="shop.pack", queue="mail")
    assert broker.enqueue([job]) == [None]
    queue = broker.topology.tier("mail", 0)
    until(lambda: admin.count(queue) == 1, "the job")
    [(method, _, _)] = admin.take(queue)
    admin.channel.basic_reject(method.delivery_tag, requeue=False)
    until(lambda: admin.count(broker.topology.dead) == 1, "its burial")
    admin.channel.basic_publish("", broker.topology.dead, b"nonsense", pika.BasicProperties(message_id="a-stranger"))
    [dead, stranger] = sorted(run("jobs", "ls", "--json")["jobs"], key=lambda one: one["id"])
    assert (dead["id"], dead["queue"], dead["reason"]) == (job.id, "mail", f"RabbitMQ took it out of {queue}: rejected")
    assert (stranger["id"], stranger["task"], stranger["queue"]) == ("a-stranger", "?", "")
    assert "1 job to be run again" in run("jobs", "retry", "--all", "--yes")  # for the other one there is no queue
    assert take(broker, 1, "mail")[0].attempt == 1
    assert "1 job deleted" in run("jobs", "delete", "--state", "failed", "--yes")


def test_what_the_server_gives_up_is_a_dead_letter(server: RabbitServer) -> None:
    """By a limit of deliveries of the operator's: the reason is said, and nothing is lost."""
    prefix = f"f{new_claim_id()[:12]}"
    server.ctl("set_policy", prefix, f"^{prefix}[.]q", '{"delivery-limit": 0}', "--apply-to", "queues")
    with closing(RabbitMQBroker.from_url(server.url(prefix=prefix))) as broker:
        job = new_job(task="shop.pack")
        broker.enqueue([job])
        take(broker, 1)
        lose_connections(server, broker)
        [record] = until(broker.dead_letters, "its burial")
        assert (record.id, record.task, record.queue) == (job.id, "shop.pack", "default")
        assert record.errors[-1].message == f"RabbitMQ took it out of {prefix}.q.default: delivery_limit"
        assert broker.revive([job.id]) == {job.id}
        assert [one.id for one in take(broker, 1)] == [job.id]


def test_a_look_has_an_end(
    broker: RabbitMQBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ids = bury(broker, "shop.pack", "shop.send", "shop.send")
    monkeypatch.setattr(graves, "LOOKED_AT", 2)
    assert [record.id for record in broker.dead_letters()] == ids[:2]
    assert "has more dead letters" in caplog.text


# ---- the ways to a server --------------------------------------------------------------------------------------------


def test_by_tls_with_certificates_on_both_sides_to_the_host_that_answers(tmp_path: Path) -> None:
    certificate, key = certificate_in(tmp_path)
    mine, my_key = client_certificate_in(tmp_path, certificate, key)
    port = free_port()
    settings = {
        "listeners.ssl.1": f"127.0.0.1:{port}",
        "ssl_options.cacertfile": str(certificate),
        "ssl_options.certfile": str(certificate),
        "ssl_options.keyfile": str(key),
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": "true",
    }
    server = RabbitServer(tmp_path / "rabbitmq", settings)
    try:
        hosts = f"amqps://guest:guest@127.0.0.1:{free_port()},localhost:{port}/"
        trusting = f"{hosts}?cafile={certificate}"
        with closing(RabbitMQBroker.from_url(f"{trusting}&certfile={mine}&keyfile={my_key}")) as broker:
            assert broker.enqueue([new_job()]) == [None]
            assert settle(broker, take(broker, 1)) == ["done"]
        for url in (trusting, hosts):  # no certificate of the client's; a server that nobody known has signed
            with closing(RabbitMQBroker.from_url(url)) as broker, pytest.raises(BrokerUnavailable):
                broker.enqueue([new_job()])
    finally:
        server.close()
