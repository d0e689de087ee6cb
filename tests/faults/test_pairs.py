"""What RabbitMQ with a store survives: dead workers, a RabbitMQ that is away, loses messages or delivers them twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from outwork import Outwork
from outwork.brokers import open_broker
from outwork.brokers.base import Broker, Claimed, Settlement, Share, Store, Ticket
from outwork.brokers.paired import PairedBroker
from outwork.brokers.rabbitmq.broker import RabbitMQBroker
from outwork.errors import BrokerUnavailable
from outwork.ids import new_claim_id
from outwork.job import Again, Answer, Done, State
from outwork.testing.conformance import new_job
from support import chores
from support.drafts import kill_within_the_window
from support.ledger import Ledger
from support.rabbitmq_admin import Admin
from support.rabbitmq_server import RabbitServer
from support.redis_server import RedisServer
from support.rounds import LOCAL, OFFSET
from support.slots import fire_with_eight_processes
from support.waiting import until
from support.workers import Workers, workers_in

TARGET = "support.chores"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    server = RabbitServer(tmp_path_factory.mktemp("rabbitmq"))
    yield server
    server.close()


@pytest.fixture
def transport_url(server: RabbitServer) -> str:
    return server.url(prefix=f"p{new_claim_id()[:12]}")


@pytest.fixture(params=["sqlite", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        redis.ask("FLUSHALL")
        return redis.url()
    return f"sqlite:///{tmp_path}/store.db"


@pytest.fixture
def pair(transport_url: str, store_url: str) -> Iterator[PairedBroker]:
    with closing(open_broker(transport_url, store_url=store_url)) as pair:
        assert isinstance(pair, PairedBroker)
        yield pair


@pytest.fixture
def admin(server: RabbitServer) -> Iterator[Admin]:
    with closing(Admin(server.url())) as admin:
        yield admin


def queue_of(pair: PairedBroker) -> str:
    assert isinstance(pair._transport, RabbitMQBroker)
    return pair._transport.topology.tier("default", 0)


def claim(pair: PairedBroker, count: int = 1) -> list[Claimed]:
    """Claim so many jobs that must come, and see that no more do."""
    claimed: list[Claimed] = []

    def look() -> bool:
        claimed.extend(pair.exchange(new_claim_id(), [], [Share("default", 100)], 100, 100, "worker-1").claimed)
        return len(claimed) >= count or (pair.wait(["default"], 0.1) and False)

    until(look, f"{count} jobs")
    assert len(claimed) == count
    return claimed


def settle(pair: PairedBroker, claimed: Claimed) -> Answer:
    done = Settlement(claimed.id, claimed.claim_id, Done(b"1"))
    [answer] = pair.exchange(new_claim_id(), [done], [], 0, 0, "worker-1").answers
    return answer


def later(pair: PairedBroker, seconds: float) -> None:
    """What a keeper does after so long."""
    pair.clock_offset += seconds
    while pair.tend(None, rescue=False).more:
        pass


@pytest.fixture
def app(transport_url: str, store_url: str, ledger: Ledger) -> Iterator[Outwork]:
    chores.app.override({"broker_url": transport_url, "store_url": store_url})
    yield chores.app
    chores.app.close()
    chores.app.override({"store_url": ""})


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """What it says is how many seconds the clock of both brokers is wrong, for workers with `support.rounds`."""
    path = tmp_path / "offset"
    path.write_text("0")
    return path


@pytest.fixture
def workers(
    transport_url: str, store_url: str, environ: dict[str, str], tmp_path: Path, clock: Path
) -> Iterator[Workers]:
    folder = tmp_path / "workers"
    folder.mkdir()
    (folder / "shop.toml").write_text(f'store_url = "{store_url}"\n')
    with workers_in(folder, transport_url, environ | {OFFSET: str(clock), LOCAL: "wrong"}) as workers:
        yield workers


def test_nothing_is_lost_when_whole_workers_are_killed(app: Outwork, ledger: Ledger, workers: Workers) -> None:
    """500 jobs; three times a worker is killed with `kill -9`, then one of default settings goes on. What had ended is
    not run again, though its message comes again."""
    results = app.enqueue_many(chores.step.bind(f"job-{number}") for number in range(500))
    in_flight: set[str] = set()
    for round_ in range(3):
        running = workers.start("--config", "shop.toml", TARGET)
        target = ledger.count("E") + 40 * (round_ + 1)
        until(lambda target=target: ledger.count("E") >= target, "the end of some jobs")  # type: ignore[misc]
        before = ledger.keys("S")
        running.kill_all()
        in_flight |= ledger.in_flight() | {key for key, times in ledger.keys("S").items() if times > before[key]}
    began = time.monotonic()
    last = workers.start("--config", "shop.toml", TARGET).ready()
    store = app.broker
    assert isinstance(store, PairedBroker)
    until(lambda: {count.state for count in store.counts()} == {State.SUCCESSFUL}, "the end of all jobs", seconds=60)
    assert time.monotonic() - began < 60
    assert len(ledger.keys("E")) == 500
    assert len(set(ledger.twice())) <= 3 * 20 + len(in_flight)  # ended, but the settle had not left the process
    assert [result.get(timeout=60) for result in results[:10]] == [f"job-{number}" for number in range(10)]
    assert last.stop() == 0


@pytest.mark.parametrize("store_url", ["redis"], indirect=True)
def test_the_last_call_of_a_debounce_window_is_run_when_all_are_killed_within_it(
    app: Outwork, ledger: Ledger, workers: Workers, environ: dict[str, str], tmp_path: Path
) -> None:
    start = partial(workers.start, "--config", "shop.toml", TARGET)
    kill_within_the_window(app, ledger, start, environ, tmp_path)


@pytest.mark.parametrize("store_url", ["redis"], indirect=True)
def test_eight_processes_fire_a_slot_once(ledger: Ledger, workers: Workers, clock: Path) -> None:
    fire_with_eight_processes(ledger, partial(workers.start, "--config", "shop.toml", "support.rounds"), clock)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_job_outlasts_the_patience_of_the_server(
    app: Outwork, ledger: Ledger, workers: Workers, server: RabbitServer
) -> None:
    """RabbitMQ takes its message back, with the whole channel; its lease is in the store, and goes on."""
    with server.impatient():
        running = workers.start("--config", "shop.toml", TARGET).ready()
        result = chores.step.enqueue("long", 6)
        until(lambda: ledger.count("S") == 1, "its start")
        assert result.get(timeout=60) == "long"
        chores.step.enqueue("next")
        until(lambda: ledger.count("E") == 2, "the next one")
        assert (ledger.count("S"), result.attempts) == (2, 1)
        assert running.stop() == 0


def test_jobs_are_accepted_while_rabbitmq_is_away(server: RabbitServer, pair: PairedBroker) -> None:
    assert pair.enqueue([new_job()]) == [None]
    [first] = claim(pair)
    server.stop()
    try:
        second = new_job()
        assert pair.enqueue([second]) == [None]
        assert settle(pair, first) is Answer.DONE
        with pytest.raises(BrokerUnavailable):
            pair.exchange(new_claim_id(), [], [Share("default", 1)], 1, 1, "worker-1")
    finally:
        server.start()
    [record] = pair.get([first.id])
    assert record is not None
    assert record.state is State.SUCCESSFUL
    later(pair, 31)
    [claimed] = claim(pair)
    assert claimed.id == second.id, "the first one's message came again, and was dropped"
    assert settle(pair, claimed) is Answer.DONE


def test_a_job_whose_producer_died_before_it_was_sent_is_sent_by_a_keeper(pair: PairedBroker) -> None:
    job = new_job()
    pair._broker.enqueue([job])  # and here it dies
    later(pair, 20)
    assert pair.exchange(new_claim_id(), [], [Share("default", 1)], 1, 1, "worker-1").claimed == []
    later(pair, 11)
    assert [one.id for one in claim(pair)] == [job.id]


def test_a_job_whose_message_was_lost_is_sent_again(pair: PairedBroker, admin: Admin) -> None:
    job = new_job()
    pair.enqueue([job])
    until(lambda: admin.count(queue_of(pair)) == 1, "the message")
    admin.channel.queue_purge(queue_of(pair))
    later(pair, 3601)
    assert [one.id for one in claim(pair)] == [job.id]


def test_a_message_that_comes_twice_is_dropped(pair: PairedBroker, admin: Admin) -> None:
    job = new_job()
    pair.enqueue([job])
    for _ in range(3):
        pair._send([Ticket(job.id, "default", 0, 0.0, False)])
    [claimed] = claim(pair)
    assert claimed.id == job.id
    assert settle(pair, claimed) is Answer.DONE
    pair._send([Ticket(job.id, "default", 0, 0.0, False)])
    assert pair.enqueue([job]) == [None]
    until(
        lambda: (
            pair.exchange(new_claim_id(), [], [Share("default", 9)], 9, 9, "worker-1").claimed == []
            and admin.count(queue_of(pair)) == 0
        ),
        "the end of the copies",
    )


def test_a_worker_that_dies_before_it_has_asked_the_store_takes_no_message_along(
    pair: PairedBroker, transport_url: str
) -> None:
    """Neither one of those that are claimed for a free slot only."""
    jobs = [new_job(), new_job(at_most_once=True)]
    pair.enqueue(jobs)
    held: list[Claimed] = []

    def both_are_held(transport: Broker) -> bool:
        held.extend(transport.exchange(new_claim_id(), [], [Share("default", 2)], 2, 2, "worker-0").claimed)
        return len(held) == 2

    with closing(open_broker(transport_url)) as transport:
        until(lambda: both_are_held(transport), "their messages")
    assert {one.id for one in claim(pair, 2)} == {job.id for job in jobs}


def test_a_retry_is_sent_by_whoever_settles(pair: PairedBroker) -> None:
    job = new_job()
    pair.enqueue([job])
    [claimed] = claim(pair)
    again = Settlement(claimed.id, claimed.claim_id, Again(0.0))
    assert pair.exchange(new_claim_id(), [again], [], 0, 0, "worker-1").answers == [Answer.DONE]
    [second] = claim(pair)
    assert (second.id, second.attempt) == (job.id, 2)


def test_a_job_retried_in_the_store_alone_is_sent(pair: PairedBroker, store_url: str) -> None:
    """As by `outwork --broker STORE jobs retry`."""
    job = new_job()
    pair.enqueue([job])
    pair.cancel([job.id])
    with closing(open_broker(store_url)) as alone:
        assert isinstance(alone, Store)
        assert alone.retry([job.id]) == [State.READY]
    later(pair, 0)
    assert [one.id for one in claim(pair)] == [job.id]
