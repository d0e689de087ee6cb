"""What all concerns share: a broker under test, and the short words in which the promises are written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from threading import Event, Thread
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

import pytest
from msgspec import Raw

from outwork.brokers.base import Accepted, Broker, Claim, Claimed, Exchanged, Presence, Settlement, Share, Store, Tended
from outwork.ids import new_claim_id, new_job_id
from outwork.job import DEFAULT_QUEUE, WIRE_VERSION, Answer, Failure, Job, Outcome, Record, State, Terms

T = TypeVar("T")

DEADLINE: Final = 60.0
"""Seconds after which something that should have happened is taken for broken. No passing test waits for it."""
PLENTY: Final = 100_000


class MakeBroker(Protocol):
    """Makes a further broker object on the storage of this test."""

    def __call__(self, terms: Terms | None = None) -> Broker: ...


# ---- jobs -----------------------------------------------------------------------------------------------------------


def new_job(
    task: str = "suite.task",
    *,
    job_id: str | None = None,
    args: bytes = b'{"x":1}',
    queue: str = DEFAULT_QUEUE,
    priority: int = 0,
    due: float | None = None,
    delay: float | None = None,
    expires: float | None = None,
    max_crashes: int = 3,
    at_most_once: bool = False,
    carried: dict[str, str] | None = None,
) -> Job:
    """A job with the next id."""
    return Job(
        v=WIRE_VERSION,
        id=job_id or new_job_id(),
        task=task,
        args=Raw(args),
        queue=queue,
        priority=priority,
        created=time.time(),
        due=due,
        delay=delay,
        expires=expires,
        max_crashes=max_crashes,
        at_most_once=at_most_once,
        carried=carried,
    )


def new_failure(message: str = "it went wrong", attempt: int = 1) -> Failure:
    return Failure(
        exception="builtins.ValueError",
        message=message,
        traceback=f"Traceback (most recent call last):\n  …\nValueError: {message}",
        attempt=attempt,
        worker="worker-1",
        at=1_700_000_000.25,
    )


def new_presence(
    worker: str = "worker-1", *, queues: tuple[str, ...] = (DEFAULT_QUEUE,), ttl: float = 120.0
) -> Presence:
    return Presence(
        worker=worker,
        host="host-a/boot-1",
        pid=4711,
        lock=f"/run/outwork/{worker}.lock",
        queues=queues,
        concurrency=20,
        started_at=1_700_000_000.5,
        version="1.2.3",
        running=3,
        done=1000,
        failed=7,
        ttl=ttl,
    )


def shares(*queues: str, most: int = PLENTY) -> tuple[Share, ...]:
    """These queues, in this order, each with a plenty left."""
    return tuple(Share(queue, most) for queue in queues)


DEFAULT_SHARES: Final = shares(DEFAULT_QUEUE)


# ---- the broker under test ------------------------------------------------------------------------------------------


class Rig:
    """A broker under test. `another` makes further objects on the same storage; `advance` moves the clock of all."""

    def __init__(
        self, make: MakeBroker, move_clock: Callable[[Broker, float], None], terms: Terms | None = None
    ) -> None:
        self._make = make
        self._move_clock = move_clock
        self._family: list[Broker] = []
        self._moved = 0.0
        self.broker = self._adopt(terms)

    def _adopt(self, terms: Terms | None) -> Broker:
        broker = self._make(terms)
        if not any(broker is known for known in self._family):
            self._family.append(broker)
            if self._moved:
                self._move_clock(broker, self._moved)
        return broker

    def another(self, terms: Terms | None = None) -> Rig:
        """A further broker object on the same storage, with the same clock."""
        other = object.__new__(Rig)
        other._make, other._move_clock = self._make, self._move_clock
        other._family, other._moved = self._family, self._moved
        other.broker = other._adopt(terms)
        return other

    def advance(self, seconds: float) -> None:
        """Let this time pass on the broker's clock."""
        self._moved += seconds
        for broker in self._family:
            self._move_clock(broker, seconds)

    def close(self) -> None:
        for broker in self._family:
            broker.close()

    def need(self, *capabilities: str) -> None:
        """Skip this test if the broker does not have all of them."""
        for name in capabilities:
            if not getattr(self.broker.capabilities, name):
                pytest.skip(name)

    def need_priorities(self, levels: int = 3) -> None:
        """Skip this test if the broker tells fewer priorities apart."""
        if self.broker.capabilities.priority_levels < levels:
            pytest.skip("priority_levels")

    @property
    def store(self) -> Store:
        """The broker as a store; skips a test that needs one where there is none."""
        self.need("results")
        assert isinstance(self.broker, Store), "its capabilities say `results`, but it is not a Store"
        return self.broker

    # ---- short words ----

    def put(self, *jobs: Job) -> list[str]:
        """Enqueue jobs that must be accepted; their ids."""
        refused = [error for error in self.broker.enqueue(jobs) if error is not None]
        assert not refused
        return [job.id for job in jobs]

    def put_one(self, job: Job | None = None) -> str:
        return self.put(job or new_job())[0]

    def offer(self, *jobs: Job) -> list[Accepted]:
        return self.broker.enqueue(jobs)

    def exchange(
        self,
        outcomes: Sequence[Settlement] = (),
        *,
        queues: Sequence[Share] = DEFAULT_SHARES,
        limit: int = 0,
        free: int | None = None,
        worker: str = "worker-1",
        claim_id: str | None = None,
    ) -> Exchanged:
        """One exchange; `free` is `limit` unless told, so nothing is prefetched."""
        free = limit if free is None else free
        return self.broker.exchange(claim_id or new_claim_id(), outcomes, queues, limit, free, worker)

    def claim(
        self,
        limit: int = 100,
        *,
        queues: Sequence[Share] = DEFAULT_SHARES,
        free: int | None = None,
        worker: str = "worker-1",
        claim_id: str | None = None,
    ) -> list[Claimed]:
        """What one exchange claims now."""
        return self.exchange(queues=queues, limit=limit, free=free, worker=worker, claim_id=claim_id).claimed

    def take(self, count: int, *, queues: Sequence[Share] = DEFAULT_SHARES, worker: str = "worker-1") -> list[Claimed]:
        """Claim this many jobs that must be there, in their order. A transport may need a moment to deliver them."""
        deadline = time.monotonic() + DEADLINE
        taken = self.claim(count, queues=queues, worker=worker)
        while len(taken) < count and time.monotonic() < deadline:
            self.broker.wait([queue for queue, _ in queues], 0.5)
            taken += self.claim(count - len(taken), queues=queues, worker=worker)
        assert len(taken) == count, f"{len(taken)} of {count} jobs could be claimed"
        return taken

    def take_one(self, *, queues: Sequence[Share] = DEFAULT_SHARES, worker: str = "worker-1") -> Claimed:
        return self.take(1, queues=queues, worker=worker)[0]

    def find_closed(self, job_id: str) -> None:
        """Claim, in vain, until this job was found before a closed gate: a transport may have to deliver it first."""
        deadline = time.monotonic() + DEADLINE
        while self.record(job_id).state is not State.HELD:
            assert time.monotonic() < deadline, f"job {job_id} is {self.record(job_id).state}, not held"
            assert self.claim() == []
            self.broker.wait([queue for queue, _ in DEFAULT_SHARES], 0.1)

    def settle(self, claimed: Claimed, outcome: Outcome) -> Answer:
        """Tell the broker what became of a job; its answer."""
        [answer] = self.exchange([Settlement(claimed.id, claimed.claim_id, outcome)]).answers
        return answer

    def settle_all(self, claimed: Sequence[Claimed], outcome: Outcome) -> None:
        """Settle all of these in one exchange; each must be accepted."""
        answers = self.exchange([Settlement(one.id, one.claim_id, outcome) for one in claimed]).answers
        assert answers == [Answer.DONE] * len(claimed)

    def end(self, outcome: Outcome, job: Job | None = None) -> str:
        """Enqueue a job, claim it and settle it so; its id."""
        job_id = self.put_one(job)
        claimed = self.take_one(queues=shares(job.queue if job else DEFAULT_QUEUE))
        assert claimed.id == job_id, "end() needs an empty queue"
        assert self.settle(claimed, outcome) is Answer.DONE
        return job_id

    def crash(self, worker: str = "worker-1") -> Tended:
        """The worker dies: its jobs are rescued."""
        return self.broker.tend(None, rescue=False, dead=[worker])

    def tend(self, *, rescue: bool = True) -> Tended:
        """Tend until nothing is left to do; the last and the sums."""
        rescued = buried = expired = pruned = 0
        while True:
            tended = self.broker.tend(None, rescue=rescue)
            rescued += tended.rescued
            buried += tended.buried
            expired += tended.expired
            pruned += tended.pruned
            if not tended.more:
                return Tended(rescued=rescued, buried=buried, expired=expired, pruned=pruned)

    def record(self, job_id: str) -> Record:
        """The record of a job that must be known."""
        [record] = self.store.get([job_id])
        assert record is not None, f"job {job_id} is unknown"
        return record


def ids(jobs: Sequence[Claimed]) -> list[str]:
    return [job.id for job in jobs]


def held(claimed: Claimed) -> Claim:
    """The claim under which this job is held."""
    return Claim(claimed.id, claimed.claim_id)


def about(moment: float) -> object:
    """Equal to this moment, give or take what a busy machine needs between two lines of a test."""
    return pytest.approx(moment, abs=10.0)


class Background(Generic[T]):
    """A call in a thread. `result` waits for it, with a deadline, and raises what it raised.

    `asleep` gives a blocking call the time to fall asleep. What is promised holds if it has not yet done so, too.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._value: list[T] = []
        self._error: BaseException | None = None
        self._started = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._started.set()
        try:
            self._value.append(self._call())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that asks for the result
            self._error = error

    def asleep(self) -> Self:
        assert self._started.wait(DEADLINE)
        self._thread.join(0.05)
        return self

    def result(self) -> T:
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), f"still blocked after {DEADLINE:.0f} seconds"
        if self._error is not None:
            raise self._error
        return self._value[0]

    def __enter__(self) -> Self:
        return self.asleep()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.join(DEADLINE)


# ---- the base of every concern --------------------------------------------------------------------------------------


class Promises:
    """The fixtures, and the few hooks by which a broker's suite says how things are done there."""

    @pytest.fixture
    def make_broker(self) -> MakeBroker:
        """To be given by the subclass: makes a further broker object on the storage of this test."""
        raise NotImplementedError(
            f"{type(self).__name__} must have a fixture `make_broker`, see outwork.testing.conformance"
        )

    @pytest.fixture
    def rig(self, make_broker: MakeBroker) -> Iterator[Rig]:
        rig = Rig(make_broker, self.move_clock)
        yield rig
        rig.close()

    def move_clock(self, broker: Broker, seconds: float) -> None:
        """Hook: let time pass as this broker object sees it."""
        broker.clock_offset += seconds

    def plant_garbage(self, broker: Broker, job_id: str, body: bytes) -> None:
        """Hook: put these bytes in the place of the envelope of a waiting job, behind the broker's back."""
        pytest.skip("no garbage can be planted here")

    def refused_job(self) -> Job:
        """Hook: a job that this broker refuses."""
        pytest.skip("this broker refuses no job")
