"""A Hypothesis state machine that drives a broker beside the in-memory one and compares them after every step.

    class MyMachine(BrokerMachine):
        def make_broker(self, terms: Terms) -> MyBroker: ...       # on storage that is empty

    TestMyMachine = MyMachine.TestCase

This module needs hypothesis; nothing else of Outwork does.

The clocks of the two brokers tick between their calls, so nothing may depend on milliseconds: the clock moves in steps
of `STEP` seconds, and everything that can fall due, run out or expire does so well between two steps.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec import Raw
from msgspec.structs import asdict, replace

from outwork.brokers.base import Broker, Claim, Claimed, Exchanged, Filter, Settlement, Share, Store, Tended
from outwork.brokers.memory import MemoryBroker
from outwork.ids import new_claim_id, new_job_id
from outwork.job import (
    FAILURES_KEPT,
    FINISHED,
    MOVES,
    WAITING,
    WIRE_VERSION,
    Again,
    Answer,
    Cancelled,
    Dead,
    Done,
    Failure,
    Job,
    Outcome,
    Record,
    Release,
    State,
    Terms,
)

T = TypeVar("T")

STEP: Final = 70.0
DELAYS: Final = (35.0, 105.0)
"""Halfway between two steps of the clock, as leases and ages are."""
EXPIRES: Final = (15.0, 85.0)
"""Between two steps, counted from now as well as from a due time."""
TERMS: Final = Terms(lease=105.0, keep=735.0, keep_failed=1435.0)
AGES: Final = (-35.0, 105.0, 1e9)
TOLERANCE: Final = 10.0
QUEUES: Final = ("a", "b", "c")
TASKS: Final = ("t.one", "t.two")
WORKERS: Final = ("worker-1", "worker-2", "worker-3")
EVERYTHING: Final = 100_000
MOMENTS: Final = ("due", "enqueued_at", "expires_at", "started_at", "finished_at", "prune_at")
MOVED_BY_HAND: Final = frozenset({(State.FAILED, State.READY), (State.CANCELLED, State.READY)})

picks = st.integers(0, 11)
some_picks = st.lists(picks, min_size=1, max_size=4)
outcomes = st.one_of(
    st.just("done"), st.sampled_from(["done", "again", "snooze", "dead", "release", "missed", "cancelled"])
)


class Plan(NamedTuple):
    """A job as the strategies draw it."""

    queue: str
    task: str
    priority: int
    delay: float | None
    due: float | None
    expires: float | None
    max_crashes: int
    at_most_once: bool


plans = st.builds(
    Plan,
    queue=st.sampled_from(QUEUES),
    task=st.sampled_from(TASKS),
    priority=st.sampled_from((0, 0, 1, -1, 100, -100)),
    delay=st.sampled_from((None, None, None, 0.0, *DELAYS)),
    due=st.sampled_from((None, None, -35.0, *DELAYS)),
    expires=st.sampled_from((None, None, *EXPIRES)),
    max_crashes=st.sampled_from((3, 0, 1)),
    at_most_once=st.sampled_from((False, False, False, True)),
)


class Side(NamedTuple):
    """One of the two brokers, seen as a broker and as a store."""

    broker: Broker
    store: Store


class CheckedMemory(MemoryBroker):
    """The in-memory broker, which refuses every move that the table does not allow."""

    by_hand = False

    def _put(self, record: Record) -> None:
        before = self._shelf.records.get(record.id)
        if before is not None and before.state is not record.state:
            move = (before.state, record.state)
            assert record.state in MOVES[before.state], f"illegal move {move} of {record.id}"
            assert self.by_hand or move not in MOVED_BY_HAND, f"{record.id} came back to life: {move}"
        super()._put(record)

    def check_places(self) -> None:
        """Each job is in one place, and can be found there."""
        ready = {
            (queue, priority, *entry)
            for queue, lines in self._shelf.ready.items()
            for priority, heap in lines.items()
            for entry in heap
        }
        scheduled = set(self._shelf.scheduled)
        for record in self._shelf.records.values():
            assert (record.id in self._shelf.running) == (record.state is State.RUNNING)
            if record.state is State.SCHEDULED:
                assert (record.due, record.id) in scheduled
            elif record.state is State.READY and record.expires_at is None:
                assert (record.queue, record.priority, record.due, record.id) in ready


class BrokerMachine(RuleBasedStateMachine):
    """Enqueue, exchange, extend, crash, clock, tend, cancel, retry, delete, prune: in any order, on both brokers."""

    def __init__(self) -> None:
        super().__init__()
        self.model, reference = self.make_model(TERMS)
        broker = self.make_broker(TERMS)
        assert isinstance(broker, Store)
        assert isinstance(reference, Store)
        self.sides = (Side(reference, reference), Side(broker, broker))
        self.jobs: list[Job] = []
        self.forgotten: set[str] = set()
        """Jobs that were deleted or pruned by hand: whether their ids are remembered is left to the broker."""
        self.claims: list[Claimed] = []
        self.last_exchange: tuple[str, list[Settlement], list[Share], int, int, str] | None = None
        self.ended: set[str] = set()
        self.steps = 0

    def make_model(self, terms: Terms) -> tuple[CheckedMemory, Broker]:
        """Where the model keeps its jobs, and the broker through which it is spoken to."""
        model = CheckedMemory("memory:", terms)
        return model, model

    @abstractmethod
    def make_broker(self, terms: Terms) -> Broker:
        """The broker to be compared, on storage that is empty."""

    def teardown(self) -> None:
        for side in self.sides:
            side.broker.close()

    def both(self, call: Callable[[Side], T]) -> tuple[T, T]:
        """The same call to the model and to the broker."""
        return call(self.sides[0]), call(self.sides[1])

    def agree(self, call: Callable[[Side], T]) -> T:
        """The same call to both, whose answers must be equal."""
        expected, got = self.both(call)
        assert got == expected, (got, expected)
        return expected

    def ids(self, chosen: Sequence[int]) -> list[str]:
        """The jobs meant, the newest first; 11 is one that nobody knows. No job is named twice."""
        known = [self.jobs[-1 - pick % len(self.jobs)].id if pick < 11 else new_job_id() for pick in chosen]
        return list(dict.fromkeys(known))

    def chosen_claims(self, chosen: Sequence[int]) -> list[Claimed]:
        """The claims meant: even numbers are those that hold a job, odd ones those that did; the newest first."""
        running = {(r.id, r.claim_id) for r in self.model.find(Filter(states=(State.RUNNING,)), EVERYTHING).records}
        holding = [claimed for claimed in self.claims if (claimed.id, claimed.claim_id) in running]
        stale = [claimed for claimed in self.claims if (claimed.id, claimed.claim_id) not in running]
        found: list[Claimed] = []
        for pick in chosen:
            if among := stale if pick % 2 else holding:
                found.append(among[-1 - pick // 2 % len(among)])
        return found

    def states(self) -> dict[str, State]:
        return {record.id: record.state for record in self.model.find(Filter(), EVERYTHING).records}

    # ---- enqueue ----

    @initialize(planned=st.lists(plans, min_size=1, max_size=4))
    def begin(self, planned: list[Plan]) -> None:
        self.enqueue(planned)

    @rule(planned=st.lists(plans, min_size=1, max_size=4))
    def enqueue(self, planned: list[Plan]) -> None:
        now = self.model.now()
        jobs = [
            Job(
                v=WIRE_VERSION,
                id=new_job_id(),
                task=plan.task,
                args=Raw(b'{"n":%d}' % number),
                queue=plan.queue,
                priority=plan.priority,
                created=now,
                due=None if plan.due is None else now + plan.due,
                delay=plan.delay,
                expires=plan.expires,
                max_crashes=plan.max_crashes,
                at_most_once=plan.at_most_once,
            )
            for number, plan in enumerate(planned)
        ]
        assert self.agree(lambda side: side.broker.enqueue(jobs)) == [None] * len(jobs)
        self.jobs += jobs

    @rule(chosen=some_picks, plan=plans)
    def enqueue_again(self, chosen: list[int], plan: Plan) -> None:
        """Ids that are known already: nothing changes, whatever else the job says. (Unless it was forgotten since.)"""
        known = {job.id: job for job in self.jobs}
        wanted = [known[i] for i in self.ids(chosen) if i in known and i not in self.forgotten]
        repeated = [replace(job, priority=plan.priority, queue=plan.queue, delay=plan.delay) for job in wanted]
        states = self.states()
        self.ended -= {job.id for job in repeated if job.id not in states}
        self.agree(lambda side: side.broker.enqueue(repeated))

    # ---- exchange ----

    @rule(
        settled=st.lists(st.tuples(picks, outcomes), max_size=4),
        queues=st.lists(st.sampled_from(QUEUES), max_size=3, unique=True),
        most=st.sampled_from((0, 1, 2, EVERYTHING)),
        limit=st.sampled_from((0, 1, 2, 3, 50)),
        free=st.sampled_from((0, 1, 2, 50)),
        worker=st.sampled_from(WORKERS),
    )
    def exchange(
        self, settled: list[tuple[int, str]], queues: list[str], most: int, limit: int, free: int, worker: str
    ) -> None:
        settlements = [
            Settlement(claimed.id, claimed.claim_id, self.outcome(claimed, kind))
            for pick, kind in settled
            for claimed in self.chosen_claims([pick])
        ]
        # How far a broker looks past solo jobs is its own affair, so nothing is prefetched in small claims.
        free = free if limit == 50 else limit
        shares = [Share(queue, most) for queue in queues]
        self.last_exchange = (new_claim_id(), settlements, shares, limit, free, worker)
        states = self.states()
        answer = self.run_exchange(same_order=True)
        for settlement, done in zip(settlements, answer.answers, strict=True):
            if done is Answer.DONE:
                assert states[settlement.job_id] is State.RUNNING
                assert settlement.job_id not in self.ended, "a second end was accepted"
                if isinstance(settlement.outcome, Done | Dead | Cancelled):
                    self.ended.add(settlement.job_id)
        for claimed in answer.claimed:
            assert claimed.id not in self.ended, "a job that had ended was started"
        self.claims += answer.claimed

    @rule(
        settled=st.lists(st.tuples(picks, outcomes), max_size=4),
        limit=st.sampled_from((50, 3)),
        free=st.sampled_from((50, 0, 1)),
        worker=st.sampled_from(WORKERS),
    )
    def work(self, settled: list[tuple[int, str]], limit: int, free: int, worker: str) -> None:
        """What a worker mostly does: say what became of its jobs, and take what there is."""
        self.exchange(settled, list(QUEUES), EVERYTHING, limit, free, worker)

    @rule()
    def exchange_again(self) -> None:
        """The reply was lost: the same exchange once more settles nothing anew. It claims only if it holds nothing."""
        if self.last_exchange is None:
            return
        answer = self.run_exchange(same_order=False)
        assert Answer.DONE not in answer.answers
        self.claims += [claimed for claimed in answer.claimed if claimed not in self.claims]

    def run_exchange(self, *, same_order: bool) -> Exchanged:
        assert self.last_exchange is not None
        claim_id, settlements, shares, limit, free, worker = self.last_exchange
        expected, got = self.both(lambda side: side.broker.exchange(claim_id, settlements, shares, limit, free, worker))
        assert got.answers == expected.answers
        arrange: Callable[[list[Claimed]], list[Claimed]] = list if same_order else sorted
        assert [plain_claim(c) for c in arrange(got.claimed)] == [plain_claim(c) for c in arrange(expected.claimed)]
        # Who asks for no queue is told of nothing, or of the books, as the broker likes.
        same_due = not shares or near(got.next_due, expected.next_due)
        assert same_due, f"next due in {got.next_due}, expected {expected.next_due}"
        return expected

    def outcome(self, claimed: Claimed, kind: str) -> Outcome:
        """What a worker would say of this job."""
        at = self.model.now()
        failure = Failure(
            exception="x.Y", message=kind, traceback="…", attempt=claimed.attempt, worker="worker-1", at=at
        )
        match kind:
            case "again":
                return Again(0.0 if len(self.claims) % 2 else 35.0, (*claimed.errors[-5:], failure))
            case "snooze":
                return Again(105.0, counted=False)
            case "dead":
                return Dead((*claimed.errors[-5:], failure), keep=1.0 if len(self.claims) % 2 else None)
            case "release":
                return Release()
            case "missed":
                return Release(35.0, missed=True)
            case "cancelled":
                return Cancelled()
            case _:
                return Done(b'{"n":%d}' % len(self.claims), keep=1.0 if len(self.claims) % 2 else None)

    @rule(chosen=some_picks)
    def extend(self, chosen: list[int]) -> None:
        # Of a job under two claims the answer names only the job: ask for one claim of each.
        claims = list(
            {claimed.id: Claim(claimed.id, claimed.claim_id) for claimed in self.chosen_claims(chosen)}.values()
        )
        self.agree(lambda side: side.broker.extend(claims))

    # ---- time and death ----

    @rule(outcome=outcomes, extend=st.booleans())
    def zombie(self, outcome: str, extend: bool) -> None:
        """A worker loses a job, another takes it, and then the first one wakes up."""
        holder = {record.id: record.worker for record in self.model.find(Filter(), EVERYTHING).records}
        holding = self.chosen_claims([0])
        if not holding:
            return
        lost = holding[0]
        self.tend(rescue=False, dead=[holder[lost.id] or ""])
        self.exchange([], list(QUEUES), EVERYTHING, 50, 50, "worker-3")
        if extend:
            claims = [Claim(lost.id, lost.claim_id)]
            assert self.agree(lambda side: side.broker.extend(claims)).lost == {lost.id}
        late = [Settlement(lost.id, lost.claim_id, self.outcome(lost, outcome))]
        answers = self.agree(lambda side: side.broker.exchange(new_claim_id(), late, [], 0, 0, "worker-1").answers)
        assert answers == [Answer.STALE]

    @rule(steps=st.sampled_from((1, 1, 1, 2, 3, 10)))
    def time_passes(self, steps: int) -> None:
        for side in self.sides:
            side.broker.clock_offset += steps * STEP

    @rule(rescue=st.booleans(), dead=st.lists(st.sampled_from(WORKERS), max_size=1))
    def tend(self, rescue: bool, dead: list[str]) -> None:
        before = self.states()

        def tend_all(side: Side) -> tuple[int, int, int]:
            sums = [0, 0, 0]
            while True:
                tended: Tended = side.broker.tend(None, rescue=rescue, dead=dead)
                sums = [sums[0] + tended.rescued, sums[1] + tended.buried, sums[2] + tended.expired]
                # What an end lets go may be late itself: a broker may find that now, or the next time.
                if not (tended.more or tended.rescued or tended.expired):
                    return sums[0], sums[1], sums[2]

        self.agree(tend_all)
        after = self.states()
        self.ended |= {job_id for job_id, state in after.items() if state.finished}
        assert all(before[job_id].finished for job_id in before.keys() - after.keys()), "a job was lost"

    # ---- by hand ----

    @rule(chosen=some_picks)
    def cancel(self, chosen: list[int]) -> None:
        ids = self.ids(chosen)
        self.agree(lambda side: side.store.cancel(ids))
        self.ended |= {job_id for job_id, state in self.states().items() if state.finished}

    @rule(chosen=some_picks)
    def retry(self, chosen: list[int]) -> None:
        ids = self.ids(chosen)
        self.model.by_hand = True
        states = self.agree(lambda side: side.store.retry(ids))
        self.model.by_hand = False
        self.ended -= {job_id for job_id, state in zip(ids, states, strict=True) if state is State.READY}

    @rule(chosen=some_picks)
    def delete(self, chosen: list[int]) -> None:
        ids = self.ids(chosen)
        self.agree(lambda side: [told_of_deleted(state) for state in side.store.delete(ids)])
        self.forgotten |= {job_id for job_id in ids if job_id not in self.states()}

    @rule(
        queue=st.sampled_from((None, None, *QUEUES)),
        age=st.sampled_from(AGES),
        failed_age=st.sampled_from(AGES),
        dry_run=st.booleans(),
    )
    def prune(self, queue: str | None, age: float, failed_age: float, dry_run: bool) -> None:
        before = self.states()
        self.agree(
            lambda side: side.store.prune(
                Filter(queue=queue), older_than=age, failed_older_than=failed_age, dry_run=dry_run
            )
        )
        gone = before.keys() - self.states().keys()
        assert not (dry_run and gone)
        assert all(before[job_id].finished for job_id in gone)
        self.forgotten |= gone

    # ---- what must hold after every step ----

    @invariant()
    def the_records_are_equal(self) -> None:
        expected, got = self.both(
            lambda side: {record.id: record for record in side.store.find(Filter(), EVERYTHING).records}
        )
        assert got.keys() == expected.keys()
        for job_id, record in expected.items():
            compare(got[job_id], record)

    @invariant()
    def the_records_are_sound(self) -> None:
        self.model.check_places()
        for record in self.sides[1].store.find(Filter(), EVERYTHING).records:
            check_record(record)

    @invariant()
    def the_counts_are_equal(self) -> None:
        self.steps += 1
        if self.steps % 5 == 0:
            self.agree(lambda side: sorted(side.store.counts()))
            self.agree(lambda side: sorted(side.broker.queues()))


# ---- comparing ------------------------------------------------------------------------------------------------------


def near(one: float | None, other: float | None) -> bool:
    """Whether two times are the same, but for the time between two calls."""
    return one is other or (one is not None and other is not None and math.isclose(one, other, abs_tol=TOLERANCE))


def told_of_deleted(state: State | None) -> State | None:
    """One that waited, however it did: the end of another job of the same call may just have let it go."""
    return State.READY if state in WAITING else state


def plain_failure(failure: Failure) -> Failure:
    """A failure without its time."""
    return replace(failure, at=0.0)


def plain_claim(claimed: Claimed) -> Claimed:
    return claimed._replace(errors=tuple(plain_failure(failure) for failure in claimed.errors))


def compare(got: Record, expected: Record) -> None:
    """Equal field by field; times nearly; the end of a lease, which each broker's own clock gives, is there or not."""
    fields, wanted = asdict(got), asdict(expected)
    for name in MOMENTS:
        assert near(fields.pop(name), wanted.pop(name)), f"{got.id}: {name} is {got}, expected {expected}"
    one, other = fields.pop("lease_until"), wanted.pop("lease_until")
    assert (one is None) == (other is None), f"{got.id}: lease_until is {one}, expected {other}"
    for record in (fields, wanted):
        failures: tuple[Failure, ...] = record["errors"]
        record["errors"] = tuple(plain_failure(failure) for failure in failures)
    different: dict[str, tuple[Any, Any]] = {
        name: (fields[name], wanted[name]) for name in wanted if fields[name] != wanted[name]
    }
    assert not different, f"{got.id} (got, expected): {different}"


def check_record(record: Record) -> None:
    """What is true of every record, whatever happened before."""
    running = record.state is State.RUNNING
    ended = record.state in FINISHED
    assert record.attempts == record.failures + record.crashes + (running or record.state is State.SUCCESSFUL)
    assert (record.lease_until is not None) == running
    assert not running or (record.claim_id and record.worker and record.started_at is not None)
    assert (record.finished_at is not None) == ended == (record.prune_at is not None)
    assert (record.result is not None) == (record.state is State.SUCCESSFUL)
    assert record.crashes <= record.max_crashes + 1
    assert not (record.at_most_once and record.crashes and not ended), "an at-most-once job lives after a crash"
    assert len(record.errors) <= FAILURES_KEPT
