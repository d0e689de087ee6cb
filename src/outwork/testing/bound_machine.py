"""The state machine of `outwork.testing.machine` with jobs that are bound to others, for brokers that can bind them:
unique keys, replaced jobs, gates, jobs that wait for others, pauses and schedules."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import rule
from msgspec import Raw
from msgspec.structs import replace

from outwork.brokers.base import Settlement, Share, Standing
from outwork.errors import Duplicate, InvalidOption
from outwork.ids import new_claim_id, new_job_id
from outwork.job import WIRE_VERSION, Hold, Job
from outwork.testing.machine import EVERYTHING, QUEUES, STEP, TASKS, BrokerMachine, Plan, picks, plans, some_picks
from outwork.ties import Conflict, Gate, Ties, Unique

KEYS: Final = ("k1", "k2")
CONFLICTS: Final[tuple[Conflict, ...]] = ("return", "replace", "raise")
GATES: Final = (Gate("c:one", most=1), Gate("c:two", most=2))
RATE: Final = Gate("r:slow", rate=1 / 113)
"""A job in so many seconds, the multiples of which no step of the clock comes near."""
WITHIN: Final = 105.0
"""Seconds in which the members of a group come: halfway between two steps of the clock."""

bonds = st.tuples(
    st.sampled_from((None, *KEYS)),
    st.sampled_from((None, None, 105.0)),
    st.sampled_from(CONFLICTS),
    st.sampled_from(((), (), GATES[:1], GATES[1:], GATES, (RATE,), (RATE, *GATES))),
)
targets = st.sampled_from([*(f"queue:{queue}" for queue in QUEUES), *(f"task:{task}" for task in TASKS)])


class BoundMachine(BrokerMachine):
    """Everything that the plain machine does, and what binds jobs together."""

    def make_job(self, plan: Plan, ties: Ties) -> Job:
        return Job(
            v=WIRE_VERSION,
            id=new_job_id(),
            task=plan.task,
            args=Raw(b'{"n":%d}' % len(self.jobs)),
            queue=plan.queue,
            priority=plan.priority,
            created=self.model.now(),
            delay=plan.delay,
            expires=plan.expires,
            max_crashes=plan.max_crashes,
            ties=ties,
        )

    def offer(self, jobs: list[Job]) -> None:
        """Enqueue them on both, whose answers must say the same."""
        expected, got = self.both(lambda side: side.broker.enqueue(jobs))
        assert [plain(answer) for answer in got] == [plain(answer) for answer in expected]
        self.jobs += [job for job, answer in zip(jobs, expected, strict=True) if answer is None]

    @rule(planned=st.lists(st.tuples(plans, bonds), min_size=1, max_size=3))
    def enqueue_bound(
        self, planned: list[tuple[Plan, tuple[str | None, float | None, Conflict, tuple[Gate, ...]]]]
    ) -> None:
        jobs = []
        for plan, (key, seconds, conflict, gates) in planned:
            unique = None if key is None else Unique(key, seconds, conflict)
            jobs.append(self.make_job(plan, Ties(unique=unique, gates=gates)))
        self.offer(jobs)

    @rule(plan=plans, members=st.integers(1, 3), lost=st.integers(0, 1), chained=st.booleans())
    def compose(self, plan: Plan, members: int, lost: int, chained: bool) -> None:
        """A job that waits for others, some of which may never come; and perhaps one that waits for it."""
        last = self.make_job(plan, Ties(awaits=members, within=WITHIN))
        jobs = [last]
        if chained:
            final = self.make_job(plan, Ties(awaits=1, within=WITHIN))
            jobs = [final, replace(last, ties=Ties(awaits=members, within=WITHIN, reports=(final.id,)))]
        ready = plan._replace(delay=None, expires=None)
        jobs += [self.make_job(ready, Ties(reports=(last.id,))) for _ in range(max(1, members - lost))]
        self.offer(jobs)

    @rule(plan=plans, chosen=some_picks)
    def come_after(self, plan: Plan, chosen: list[int]) -> None:
        """A job that waits for jobs of before; for one that nobody knows it is refused."""
        self.offer([self.make_job(plan, Ties(after=tuple(self.ids(chosen))))])

    @rule(steps=st.sampled_from((1, 1, 1, 2, 3, 10)), tended=st.booleans())
    def time_passes(self, steps: int, tended: bool = True) -> None:
        """The books are looked at when somebody tends or looks for work: a mere reader of SQL changes nothing."""
        for side in self.sides:
            side.broker.clock_offset += steps * STEP
        if tended:
            self.tend(rescue=False, dead=[])
        else:
            shares = [Share(queue, EVERYTHING) for queue in QUEUES]
            self.both(lambda side: side.broker.exchange(new_claim_id(), [], shares, 0, 0, "worker-1"))

    @rule(what=targets)
    def pause(self, what: str) -> None:
        for side in self.sides:
            side.store.pause(what)
        self.agree(lambda side: side.broker.orders("worker-1"))

    @rule(what=targets)
    def resume(self, what: str) -> None:
        for side in self.sides:
            side.store.resume(what)
        self.agree(lambda side: side.broker.orders("worker-2"))

    @rule(chosen=st.lists(picks, min_size=1, max_size=3))
    def hold(self, chosen: list[int]) -> None:
        """A worker gives jobs back because their task is paused, or was a moment ago."""
        held = [Settlement(one.id, one.claim_id, Hold()) for one in self.chosen_claims(chosen)]
        self.agree(lambda side: side.broker.exchange(new_claim_id(), held, [], 0, 0, "worker-1").answers)

    @rule(schedule=st.sampled_from(("s1", "s2")), late=st.booleans(), plan=plans)
    def tick(self, schedule: str, late: bool, plan: Plan) -> None:
        known = self.agree(lambda side: side.store.schedules())
        last = known.get(schedule)
        slot = (last or 0.0) + 60.0
        job = self.make_job(plan, Ties())
        seen = -1.0 if late and last is not None else last
        if self.agree(lambda side: side.store.tick(schedule, seen, slot, [job])):
            self.jobs.append(job)


def plain(answer: object) -> object:
    """An answer to an enqueue, without the words."""
    if isinstance(answer, Duplicate):
        return Duplicate, answer.job_id
    if isinstance(answer, InvalidOption):
        return InvalidOption
    assert answer is None or isinstance(answer, Standing), answer
    return answer
