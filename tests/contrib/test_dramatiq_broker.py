"""The parts of the broker for Dramatiq, in one process."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import pytest
from dramatiq import Message, Middleware, Worker
from dramatiq.broker import MessageProxy
from dramatiq.encoder import JSONEncoder, PickleEncoder
from dramatiq.errors import ConnectionClosed, QueueJoinTimeout, QueueNotFound, RateLimitExceeded
from dramatiq.rate_limits import Barrier, BucketRateLimiter, ConcurrentRateLimiter, RateLimiter, WindowRateLimiter
from dramatiq.results import ResultMissing, Results, ResultTimeout

from outwork.app import Outwork
from outwork.brokers.base import Filter, Share
from outwork.brokers.memory import MemoryBroker
from outwork.contrib.dramatiq import BarrierBackend, OutworkBackend, OutworkBroker
from outwork.errors import BrokerUnavailable, DeclarationError, SettingsError, Unsupported
from outwork.ids import new_claim_id
from outwork.job import Record, State
from outwork.testing.conformance import new_job
from support.waiting import until

PATIENCE = 20_000


class Place:
    """A broker over memory, and what is in it."""

    def __init__(self) -> None:
        self.memory = MemoryBroker()
        self.broker = OutworkBroker(app=Outwork(broker=self.memory))
        self.broker.declare_queue("default")
        self.consumers: list[Any] = []

    def consumer(self, queue: str = "default", prefetch: int = 1, timeout: int = PATIENCE) -> Any:
        self.consumers.append(self.broker.consume(queue, prefetch, timeout))
        return self.consumers[-1]

    def send(self, name: str = "count", *args: Any, delay: int | None = None, **options: Any) -> Message[Any]:
        message: Message[Any] = Message("default", name, args, {}, options)
        return self.broker.enqueue(message, delay=delay)

    def records(self, *states: State) -> list[Record]:
        """What there is, in the order of enqueueing."""
        return self.memory.find(Filter(states=states or None), 1000).records[::-1]

    def states(self) -> list[State]:
        return [record.state for record in self.records()]

    def crash(self, times: int) -> None:
        """The worker of all that is ready dies so often."""
        for n in range(times):
            shares = [Share("dramatiq:default", 100)]
            self.memory.exchange(new_claim_id(), [], shares, 100, 100, f"worker-{n}")
            self.memory.tend(None, rescue=False, dead=[f"worker-{n}"])


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    yield place
    for consumer in place.consumers:
        consumer.close()
    place.broker.close()


@pytest.fixture
def worker(place: Place) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def start(threads: int = 2) -> Worker:
        started.append(Worker(place.broker, worker_timeout=100, worker_threads=threads))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop()


# ---- enqueueing ------------------------------------------------------------------------------------------------------


def test_each_enqueue_is_a_job_of_its_own_with_the_message_inside(place: Place) -> None:
    message = place.send("shop.mail", 7, colour="red")
    place.broker.enqueue(message)
    first, second = place.records()
    assert first.id != second.id
    assert (first.queue, first.task) == ("dramatiq:default", "dramatiq.shop.mail")
    inside = json.loads(first.body)["args"]["message"]
    assert inside["message_id"] == message.message_id
    assert (inside["args"], inside["options"]) == ([7], {"colour": "red"})


@pytest.mark.parametrize("value", [float("nan"), "\ud800", "\x00é", {"a": [1, None]}, 2**80])
def test_whatever_the_encoder_takes_arrives(place: Place, value: Any) -> None:
    sent = place.send("count", value)
    got = next(place.consumer())
    assert repr(got.args) == repr((value,))
    assert got.message_id == sent.message_id


def test_another_encoder_may_write_bytes(place: Place) -> None:
    dramatiq.set_encoder(PickleEncoder())
    try:
        place.send("count", b"\x00\xff", (1, 2))
        assert next(place.consumer()).args == (b"\x00\xff", (1, 2))
    finally:
        dramatiq.set_encoder(JSONEncoder())


def test_a_delayed_message_waits_in_the_broker(place: Place) -> None:
    seen: list[int | None] = []

    class Watch(Middleware):
        def before_enqueue(self, broker: Any, message: Message[Any], delay: int | None) -> None:
            seen.append(delay)

    place.broker.add_middleware(Watch())
    sent = place.send("count", delay=60_000)
    assert "eta" in sent.options
    assert seen == [60_000]
    assert place.states() == [State.SCHEDULED]
    assert next(place.consumer("default.DQ", timeout=10)) is None
    place.memory.clock_offset += 60
    got = next(place.consumer())
    assert (got.message_id, got.queue_name, "eta" in got.options) == (sent.message_id, "default", False)


def test_the_most_urgent_comes_first(place: Place) -> None:
    @dramatiq.actor(broker=place.broker, priority=10)
    def slow() -> None: ...

    @dramatiq.actor(broker=place.broker, priority=-200)
    def fast() -> None: ...

    @dramatiq.actor(broker=place.broker, broker_priority=5)
    def middle() -> None: ...

    for actor in (slow, middle, fast):
        actor.send()
    slow.send_with_options(broker_priority=7)
    consumer = place.consumer(prefetch=4)
    assert [next(consumer).actor_name for _ in range(4)] == ["fast", "slow", "middle", "slow"]


@pytest.mark.parametrize("url", ["immediate:", "dummy:", "thread:", "process:"])
def test_a_url_where_no_worker_would_find_messages_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="could not find messages there"):
        OutworkBroker(url=url)


def test_a_queue_with_too_long_a_name_is_refused(place: Place) -> None:
    with pytest.raises(DeclarationError, match="100 characters"):
        place.broker.declare_queue("q" * 92)
    place.broker.declare_queue("q" * 91)


def test_an_enqueue_that_fails_is_an_error_of_dramatiq(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(jobs: Any) -> Any:
        raise BrokerUnavailable("gone")

    monkeypatch.setattr(place.memory, "enqueue", away)
    with pytest.raises(ConnectionClosed, match="gone"):
        place.send()


# ---- consuming -------------------------------------------------------------------------------------------------------


def test_an_acknowledged_message_is_a_successful_job(place: Place) -> None:
    place.send()
    consumer = place.consumer()
    consumer.ack(next(consumer))
    assert place.states() == [State.SUCCESSFUL]


def test_a_rejected_message_is_a_dead_letter_that_can_be_sent_again(place: Place) -> None:
    place.send("count", 1)
    consumer = place.consumer()
    message = next(consumer)
    try:
        raise KeyError("door")
    except KeyError as error:
        message.stuff_exception(error)
    consumer.nack(message)
    [record] = place.records(State.FAILED)
    assert (record.errors[0].exception, record.errors[0].message) == ("builtins.KeyError", "'door'")
    assert "test_dramatiq_broker" in record.errors[0].traceback
    place.memory.retry([record.id])
    assert next(consumer).args == (1,)


def test_a_message_that_is_requeued_keeps_its_place_and_is_not_counted(place: Place) -> None:
    place.send("count", 1)
    place.send("count", 2)
    consumer = place.consumer(prefetch=2)
    first, second = next(consumer), next(consumer)
    consumer.requeue([second, first])
    assert next(consumer).args == (1,)
    assert {record.failures + record.crashes for record in place.records()} == {0}


def test_no_more_is_claimed_than_may_be_prefetched(place: Place) -> None:
    for n in range(5):
        place.send("count", n)
    consumer = place.consumer(prefetch=2, timeout=50)
    first, second = next(consumer), next(consumer)
    assert next(consumer) is None
    assert place.states().count(State.RUNNING) == 2
    consumer.ack(first)
    assert next(consumer).args == (2,)
    consumer.ack(second)


def test_a_closed_consumer_gives_back_what_it_has_not_handed_out(place: Place) -> None:
    for n in range(3):
        place.send("count", n)
    consumer = place.consumer(prefetch=3)
    taken = next(consumer)
    consumer.close()
    assert place.states() == [State.RUNNING, State.READY, State.READY]
    consumer.ack(taken)  # Dramatiq closes a consumer whose messages are being worked at
    assert place.states()[0] is State.SUCCESSFUL


def test_queues_must_be_declared(place: Place) -> None:
    for use in (place.broker.consume, place.broker.flush, place.broker.join):
        with pytest.raises(QueueNotFound):
            use("nowhere")


def test_an_attempt_that_lost_its_lease_changes_nothing(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.send()
    consumer = place.consumer()
    message = next(consumer)
    place.memory.tend(None, rescue=False, dead=[place.memory.get([message.claimed.id])[0].worker or ""])  # type: ignore[union-attr]
    with caplog.at_level(logging.WARNING):
        consumer.ack(message)
    assert "its lease was lost" in caplog.text
    assert State.SUCCESSFUL not in place.states()


def test_what_may_kill_its_worker_is_handed_out_alone(place: Place) -> None:
    for n in range(3):
        place.send("count", n)
    place.crash(times=2)
    place.send("count", "innocent")
    consumer = place.consumer(prefetch=4, timeout=300)
    got = [one for one in (next(consumer) for _ in range(3)) if one is not None]
    assert sorted(str(one.args[0]) for one in got) == ["0", "innocent"]
    consumer.ack(got[0])
    assert next(place.consumer(prefetch=4)).args != ("innocent",)


def test_what_kills_its_worker_every_time_is_a_dead_letter(place: Place) -> None:
    place.send()
    place.crash(times=3)
    assert place.states() == [State.READY]
    place.crash(times=1)
    [record] = place.records(State.FAILED)
    assert record.errors[-1].message == "its worker died 4 times"


def test_a_job_that_is_no_message_does_not_stop_the_others(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.memory.enqueue([new_job(queue="dramatiq:default", task="shop.mail")])
    place.memory.enqueue([new_job(queue="dramatiq:default", task="dramatiq.count")])
    place.send("count", 1)
    consumer = place.consumer(prefetch=3)
    got = until(lambda: next(consumer), "the message")
    assert got.args == (1,)
    foreign, garbage, _ = place.records()
    assert (foreign.state, foreign.misses) == (State.SCHEDULED, 1)
    assert (garbage.state, garbage.errors[0].exception) == (State.FAILED, "outwork.errors.Undecodable")
    assert "is no actor of Dramatiq" in caplog.text


def test_without_consumers_nothing_of_it_goes_on(place: Place) -> None:
    consumer = place.consumer(timeout=10)
    next(consumer)
    until(place.memory.workers, "the presence of this process")
    consumer.close()
    assert place.memory.workers() == []
    assert not [one for one in threading.enumerate() if one.name in ("outwork-puller", "outwork-keeper")]


def test_a_broker_that_is_away_is_told_to_dramatiq_and_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = place.consumer(timeout=50)
    assert next(consumer) is None
    exchange = place.memory.exchange

    def away(*_: Any) -> Any:
        raise BrokerUnavailable("gone")

    monkeypatch.setattr(place.memory, "exchange", away)
    place.send()
    with pytest.raises(ConnectionClosed, match="gone"):
        until(lambda: next(consumer), "the error")
    monkeypatch.setattr(place.memory, "exchange", exchange)
    again = place.consumer(timeout=PATIENCE)
    message = next(again)
    monkeypatch.setattr(place.memory, "exchange", away)
    with pytest.raises(ConnectionClosed, match="gone"):
        again.ack(message)
    monkeypatch.setattr(place.memory, "exchange", exchange)
    again.ack(message)  # it stayed in hand
    assert place.states() == [State.SUCCESSFUL]


# ---- join and flush --------------------------------------------------------------------------------------------------


def test_join_waits_for_what_waits_and_what_runs(place: Place) -> None:
    place.send(delay=60_000)
    with pytest.raises(QueueJoinTimeout):
        place.broker.join("default", timeout=1, interval=1)
    place.memory.clock_offset += 60
    consumer = place.consumer()
    message = next(consumer)
    with pytest.raises(QueueJoinTimeout):
        place.broker.join("default", timeout=1, interval=1)
    consumer.ack(message)
    place.broker.join("default", timeout=1)


def test_flush_drops_what_waits(place: Place) -> None:
    place.broker.declare_queue("other")
    place.send()
    place.send(delay=60_000)
    place.broker.enqueue(Message("other", "count", (), {}, {}))
    place.memory.enqueue([new_job(queue="default")])
    place.broker.flush("default")
    assert [record.queue for record in place.records()] == ["dramatiq:other", "default"]
    place.broker.flush_all()
    assert [record.queue for record in place.records()] == ["default"]


# ---- with a worker ---------------------------------------------------------------------------------------------------


def test_a_worker_runs_and_retries(place: Place, worker: Callable[..., Worker]) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=place.broker, max_retries=2, min_backoff=1, max_backoff=2)
    def count(n: int) -> None:
        ran.append(n)
        if ran.count(n) < 3:
            raise ConnectionError("not yet")

    worker()
    for n in range(10):
        count.send(n)
    place.broker.join("default", timeout=PATIENCE)
    assert sorted(ran) == sorted(list(range(10)) * 3)
    assert place.states() == [State.SUCCESSFUL] * 30


def test_a_worker_that_stops_gives_back_what_it_has_not_started(place: Place, worker: Callable[..., Worker]) -> None:
    started, go_on = threading.Event(), threading.Event()

    @dramatiq.actor(broker=place.broker)
    def hold() -> None:
        started.set()
        go_on.wait(20)

    for _ in range(6):
        hold.send()
    running = worker(threads=1)
    assert started.wait(60)
    stopping = threading.Thread(target=running.stop)
    stopping.start()
    go_on.set()
    stopping.join(60)
    assert State.RUNNING not in place.states()
    assert {record.crashes + record.failures for record in place.records()} == {0}


def test_closing_the_broker_gives_back_what_is_in_hand(place: Place) -> None:
    place.send()
    consumer = place.consumer()
    assert isinstance(next(consumer), MessageProxy)
    place.broker.close()
    assert place.states() == [State.READY]
    with pytest.raises(ConnectionClosed, match="closed"):
        next(consumer)


# ---- results and barriers --------------------------------------------------------------------------------------------


def test_results_are_replaced_and_forgotten(place: Place) -> None:
    backend = OutworkBackend(broker=place.broker)
    message = place.send()
    with pytest.raises(ResultMissing):
        backend.get_result(message)
    with pytest.raises(ResultTimeout):
        backend.get_result(message, block=True, timeout=10)
    backend.store_result(message, {"a": 1}, ttl=60_000)
    backend.store_result(message, [float("inf")], ttl=60_000)
    assert backend.get_result(message) == [float("inf")]
    assert [record.task for record in place.records()] == ["dramatiq.count", "dramatiq-results"]  # and no bell
    place.memory.clock_offset += 61
    with pytest.raises(ResultMissing):
        backend.get_result(message)


def test_who_waits_for_a_result_is_woken(place: Place) -> None:
    backend = OutworkBackend(broker=place.broker)
    message = place.send()
    got: list[Any] = []
    waiting = [
        threading.Thread(target=lambda: got.append(backend.get_result(message, block=True, timeout=PATIENCE)))
        for _ in range(3)
    ]
    for thread in waiting:
        thread.start()
    until(lambda: len(place.records()) == 2, "the bell")
    backend.store_result(message, 42, ttl=60_000)
    for thread in waiting:
        thread.join(60)
    assert got == [42, 42, 42]


def test_results_past_their_time_are_swept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outwork.contrib.dramatiq.shelf.SWEEP_EVERY", 0.0)
    backend = OutworkBackend(broker=place.broker)
    first, second = place.send(), place.send()
    backend.store_result(first, 1, ttl=1000)
    place.memory.clock_offset += 2
    backend.store_result(second, 2, ttl=1000)
    assert len(place.records()) == 3


def test_the_results_middleware_finds_its_backend(place: Place, worker: Callable[..., Worker]) -> None:
    place.broker.add_middleware(Results(backend=OutworkBackend(broker=place.broker)))

    @dramatiq.actor(broker=place.broker, store_results=True)
    def add(x: int, y: int) -> int:
        return x + y

    worker()
    message = add.send(1, 2)
    result = message.get_result(backend=place.broker.get_results_backend(), block=True, timeout=PATIENCE)
    assert result == 3


def test_of_all_that_come_to_a_barrier_one_is_the_last(place: Place) -> None:
    backend = BarrierBackend(broker=place.broker)
    barrier = Barrier(backend, "many")
    assert barrier.create(parties=120)
    assert not barrier.create(parties=3)
    last: list[bool] = []

    def come() -> None:
        for _ in range(20):
            last.append(barrier.wait(block=False))

    threads = [threading.Thread(target=come) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(last), last.count(True)) == (120, 1)


def test_a_barrier_blocks_until_all_are_there(place: Place) -> None:
    backend = BarrierBackend(broker=place.broker)
    barrier = Barrier(backend, "two")
    barrier.create(parties=2)
    assert not backend.wait("two@events", 10)
    passed: list[bool] = []
    first = threading.Thread(target=lambda: passed.append(barrier.wait(timeout=PATIENCE)))
    first.start()
    until(lambda: any(record.task == "dramatiq-barriers" for record in place.records()), "the first")
    assert barrier.wait(timeout=PATIENCE)
    first.join(60)
    assert passed == [True]


def test_no_more_than_so_many_at_once(place: Place) -> None:
    """By the backends of several processes, as it were."""
    inside: set[int] = set()
    counts: list[int] = []

    def come(number: int) -> None:
        limiter = ConcurrentRateLimiter(BarrierBackend(broker=place.broker), "three", limit=3)
        for _ in range(30):
            with limiter.acquire(raise_on_failure=False) as mine:
                if mine:
                    inside.add(number)
                    counts.append(len(inside))
                    inside.discard(number)

    threads = [threading.Thread(target=come, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counts
    assert max(counts) <= 3
    assert place.records() == []  # all were given back


def test_a_place_is_free_again_when_its_holder_has_died(place: Place) -> None:
    first, second = (ConcurrentRateLimiter(BarrierBackend(broker=place.broker), "mutex", ttl=900_000) for _ in range(2))
    with first.acquire():
        with pytest.raises(RateLimitExceeded), second.acquire():
            pass
        place.memory.clock_offset += 901
        with second.acquire():
            assert not first._release()  # what it held is over, and the place is another's
            with first.acquire(raise_on_failure=False) as mine:
                assert not mine
    with first.acquire():
        pass


def test_so_many_in_a_time(place: Place) -> None:
    backend = BarrierBackend(broker=place.broker)
    bucket = BucketRateLimiter(backend, "bucket", limit=3, bucket=86_400_000)
    window = WindowRateLimiter(backend, "window", limit=3, window=3600)

    def passes(limiter: RateLimiter) -> bool:
        with limiter.acquire(raise_on_failure=False) as passed:
            return bool(passed)

    for limiter in (bucket, window):
        assert [passes(limiter) for _ in range(4)] == [True, True, True, False]
    place.memory.clock_offset += 3601
    assert [passes(window) for _ in range(4)] == [True, True, True, False]


def test_what_needs_records_is_refused_where_there_are_none() -> None:
    """At once, and with what to do; with a store beside RabbitMQ it is there."""
    broker = OutworkBroker("amqp://127.0.0.1:1/")
    for kind in (OutworkBackend, BarrierBackend):
        with pytest.raises(Unsupported, match="store_url="):
            kind(broker=broker)
        with pytest.raises(Unsupported, match="store_url="):
            kind(url="amqp://127.0.0.1:1/")
    broker.declare_queue("default")
    with pytest.raises(Unsupported, match="store_url='sqlite"):
        broker.join("default")
    with pytest.raises(SettingsError, match="store_url belongs to a url"):
        OutworkBroker(store_url="sqlite:///store.db")
