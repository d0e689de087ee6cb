"""RabbitMQ alone, on a real server: whatever workers do in whatever order, each job is run to its end, with the counts
that its life explains.

RabbitMQ delivers when it likes, so this machine has no twin in memory: it keeps the books itself, and at the end a last
worker must find every job that has not ended, and no other. It never answers an acknowledgement, so what a worker said
before it was killed may not have arrived, and a job that was on its way to it, or that it was about to send again with
one crash more, may be there twice: such jobs are doubtful, and may come again. None is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from outwork.brokers.base import Claimed, Settlement
from outwork.brokers.rabbitmq.broker import RabbitMQBroker
from outwork.ids import new_claim_id
from outwork.job import Again, Answer, Cancelled, Dead, Done, Job, Outcome, Release, Terms
from outwork.testing.conformance.rig import new_failure, new_job, shares
from support.rabbitmq_admin import Admin
from support.rabbitmq_server import RabbitServer
from support.waiting import until

QUEUES = ("a", "b")
WORKERS = ("worker-1", "worker-2")
KINDS = ("done", "done", "again", "snooze", "dead", "release", "cancelled")


class Life:
    """What the books say of a job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.failures = 0
        self.deaths = 0
        self.holder: str | None = None
        self.claimed: Claimed | None = None
        self.ended = False
        self.doubtful = False


class RabbitMachine(RuleBasedStateMachine):
    server: ClassVar[RabbitServer]
    queue_type: ClassVar[str] = "quorum"

    def __init__(self) -> None:
        super().__init__()
        self.url = self.server.url(prefix=f"m{new_claim_id()[:12]}", queue_type=self.queue_type)
        self.producer = self.connected()
        self.workers = {name: self.connected() for name in WORKERS}
        self.lives: dict[str, Life] = {}
        self.settled: dict[str, list[Life]] = {name: [] for name in WORKERS}
        """What each worker has settled on its present connection."""

    def connected(self) -> RabbitMQBroker:
        return RabbitMQBroker.from_url(self.url, Terms())

    def held_by(self, worker: str) -> list[Life]:
        return [life for life in self.lives.values() if life.holder == worker]

    # ---- what happens ----

    @initialize(queues=st.lists(st.sampled_from(QUEUES), min_size=1, max_size=5))
    def begin(self, queues: list[str]) -> None:
        self.enqueue(queues)

    @rule(queues=st.lists(st.sampled_from(QUEUES), min_size=1, max_size=5))
    def enqueue(self, queues: list[str]) -> None:
        jobs = [new_job(queue=queue, max_crashes=100) for queue in queues]
        assert self.producer.enqueue(jobs) == [None] * len(jobs)
        self.lives.update((job.id, Life(job)) for job in jobs)

    @rule(worker=st.sampled_from(WORKERS), limit=st.sampled_from((1, 3, 50)))
    def take(self, worker: str, limit: int) -> None:
        """Whatever has been delivered by now; it may be nothing."""
        answer = self.workers[worker].exchange(new_claim_id(), [], shares(*QUEUES), limit, limit, worker)
        assert len(answer.claimed) <= limit
        for claimed in answer.claimed:
            self.begun(worker, claimed)

    def begun(self, worker: str, claimed: Claimed) -> None:
        life = self.lives[claimed.id]
        if life.doubtful:
            life.holder, life.claimed = worker, claimed
            life.failures, life.deaths = claimed.failures, claimed.crashes
            return
        assert not life.ended, "a job that had ended was started"
        assert life.holder is None, f"{worker} was given what {life.holder} has in hand"
        assert claimed.failures == life.failures
        assert claimed.crashes >= life.deaths, "a death was not counted"
        life.deaths = claimed.crashes  # who dies with a message on its way may be counted, too
        life.holder, life.claimed = worker, claimed

    @rule(worker=st.sampled_from(WORKERS), kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    def settle(self, worker: str, kinds: list[str]) -> None:
        chosen = list(zip(self.held_by(worker), kinds, strict=False))
        settlements = [
            Settlement(life.claimed.id, life.claimed.claim_id, self.outcome(life.claimed, kind))
            for life, kind in chosen
            if life.claimed is not None
        ]
        answers = self.workers[worker].exchange(new_claim_id(), settlements, [], 0, 0, worker).answers
        assert list(answers) == [Answer.DONE] * len(chosen)
        for life, kind in chosen:
            life.holder = life.claimed = None
            life.failures += kind in ("again", "dead")
            life.ended = life.ended or kind in ("done", "dead", "cancelled")
            self.settled[worker].append(life)

    def outcome(self, claimed: Claimed, kind: str) -> Outcome:
        failures = (*claimed.errors, new_failure(attempt=claimed.attempt))
        match kind:
            case "again":
                return Again(0.0, failures)
            case "snooze":
                return Again(0.0, counted=False)
            case "dead":
                return Dead(failures)
            case "release":
                return Release()
            case "cancelled":
                return Cancelled()
            case _:
                return Done(b"null")

    @rule(worker=st.sampled_from(WORKERS), politely=st.booleans())
    def end(self, worker: str, politely: bool) -> None:
        """A worker is killed, or stops after it has given back what it had in hand; another one takes its place."""
        broker, held = self.workers[worker], self.held_by(worker)
        if politely:
            self.settle(worker, ["release"] * len(held))
            broker.close()
        else:
            broker._link.close()
            waiting = [life for life in self.lives.values() if not life.ended]
            for life in (*self.settled[worker], *waiting):
                life.doubtful = True
        self.settled[worker] = []
        for life in held:
            life.deaths += not politely
            life.holder = life.claimed = None
        self.workers[worker] = self.connected()

    # ---- the end ----

    def teardown(self) -> None:
        """All that has not ended is found and done; then nothing is left."""
        try:
            for name in WORKERS:
                self.end(name, politely=True)
            until(self._all_done, "the end of every job", seconds=60)
            with closing(Admin(self.server.url())) as admin:
                names = [self.producer.topology.tier(queue, 0) for queue in QUEUES]
                until(
                    lambda: self._all_done() and not any(map(admin.count, names)), "queues without messages", seconds=60
                )
                admin.delete_queues_of(self.producer)
        finally:
            for broker in (*self.workers.values(), self.producer):
                broker.close()

    def _all_done(self) -> bool:
        self.take(WORKERS[0], 50)
        if held := self.held_by(WORKERS[0]):
            self.settle(WORKERS[0], ["done"] * len(held))
        return all(life.ended for life in self.lives.values())


class ClassicMachine(RabbitMachine):
    queue_type = "classic"


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    RabbitMachine.server = RabbitServer(tmp_path_factory.mktemp("rabbitmq"))
    yield
    RabbitMachine.server.close()


for machine in (RabbitMachine, ClassicMachine):
    machine.TestCase.settings = settings(max_examples=max(1, settings().max_examples // 4), stateful_step_count=25)

TestRabbitQuorum = pytest.mark.timeout(3600)(RabbitMachine.TestCase)
TestRabbitClassic = pytest.mark.timeout(3600)(ClassicMachine.TestCase)
