"""The lease protocol, explored to the last state: workers, crashes, lost replies, frozen workers, every interleaving.

The moves are the functions of `outwork.job` themselves. A `World` is what the broker has (records), what each worker
knows, what may still go wrong, and a ledger that only this check can see: who truly holds each job and how often it
has ended. Time is not counted but made relative: `now` is always 0, a lease lasts for 1, and a tick brings everything
that lies ahead down by 1. So a worker that lets a tick pass without renewing is a frozen one, and whatever it says
afterwards comes from a zombie.

Safety is checked at every move, progress afterwards: from every state an end of all jobs can be reached.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from msgspec import Raw
from msgspec.structs import replace

from outwork import job as moves
from outwork.job import Again, Answer, Cancelled, Dead, Done, Job, Moment, Outcome, Record, Release, State, Terms

NOW: Final = Moment(0.0, 0.0)
TERMS: Final = Terms(lease=1.0)
MAX_ATTEMPTS: Final = 2
RESULT: Final = b'"result"'

OUTCOMES: Final[dict[str, Outcome]] = {
    "done": Done(RESULT),
    "again": Again(1.0),
    "snooze": Again(1.0, counted=False),
    "dead": Dead(()),
    "release": Release(),
    "cancelled": Cancelled(),
}


class Held(NamedTuple):
    """A job as its worker sees it. `said` is the outcome it will report, "" while it runs."""

    job: int
    claim_id: str
    attempt: int
    said: str = ""


class Request(NamedTuple):
    """An exchange that was sent and whose reply has not come."""

    claim_id: str
    settled: Held | None
    limit: int


class Worker(NamedTuple):
    """What a worker process knows; a crash leaves nothing of it. `half` is what a broken protocol left half done."""

    held: Held | None = None
    sent: Request | None = None
    half: tuple[str, int, Record] | None = None

    def ids(self) -> Iterator[str]:
        """The claim ids it knows."""
        if self.held:
            yield self.held.claim_id
        if self.sent:
            yield self.sent.claim_id
            if self.sent.settled:
                yield self.sent.settled.claim_id
        if self.half and self.half[2].claim_id:
            yield self.half[2].claim_id

    def looks(self) -> tuple[object, ...]:
        """What it knows but for the claim ids: comparable, so that workers can be put in an order."""
        held, sent, half = self.held, self.sent, self.half
        settled = sent.settled if sent else None
        return (
            (held.job, held.attempt, held.said) if held else (),
            (sent.limit, (settled.job, settled.attempt, settled.said) if settled else ()) if sent else (),
            half[:2] if half else (),
        )

    def known_as(self, names: dict[str, str]) -> Worker:
        """The same, with these names for the claim ids."""
        held, sent, half = self
        if held:
            held = held._replace(claim_id=names[held.claim_id])
        if sent:
            settled = sent.settled and sent.settled._replace(claim_id=names[sent.settled.claim_id])
            sent = Request(names[sent.claim_id], settled, sent.limit)
        if half and half[2].claim_id:
            half = (half[0], half[1], replace(half[2], claim_id=names[half[2].claim_id]))
        return Worker(held, sent, half)


class Truth(NamedTuple):
    """The ledger of one job: who truly holds it, how often an end was accepted, how often it was taken away."""

    holder: str | None = None
    ends: int = 0
    taken: int = 0


class World(NamedTuple):
    records: tuple[Record | None, ...]
    workers: tuple[Worker, ...]
    truths: tuple[Truth, ...]
    crashes: int
    losses: int
    cancels: int
    retries: int
    locked: bool = False
    """A lock kept in the broker, which the design does not have."""


Step: TypeAlias = tuple[str, World]


class Broken(Exception):
    """A promise that a move broke."""


class Setting(NamedTuple):
    """What is explored: which jobs, and how much may go wrong."""

    jobs: tuple[Job, ...]
    outcomes: tuple[str, ...] = ("done", "fail")
    workers: int = 2
    crashes: int = 2
    losses: int = 1
    cancels: int = 0
    retries: int = 0

    def world(self) -> World:
        return World(
            records=tuple(moves.admit(job, b"", NOW) for job in self.jobs),
            workers=(Worker(),) * self.workers,
            truths=(Truth(),) * len(self.jobs),
            crashes=self.crashes,
            losses=self.losses,
            cancels=self.cancels,
            retries=self.retries,
        )


def a_job(number: int = 0, *, max_crashes: int = 1, at_most_once: bool = False, expires: float | None = None) -> Job:
    return Job(
        v=1,
        id=str(number),
        task="t",
        args=Raw(b"{}"),
        max_crashes=max_crashes,
        at_most_once=at_most_once,
        expires=expires,
    )


# ---- changing a world -----------------------------------------------------------------------------------------------


def with_record(world: World, number: int, record: Record | None) -> World:
    """Errors are texts for people, not part of the protocol: without them there are fewer states."""
    kept = replace(record, errors=()) if record is not None and record.errors else record
    return world._replace(records=(*world.records[:number], kept, *world.records[number + 1 :]))


def with_truth(world: World, number: int, truth: Truth) -> World:
    return world._replace(truths=(*world.truths[:number], truth, *world.truths[number + 1 :]))


def with_worker(world: World, number: int, worker: Worker) -> World:
    return world._replace(workers=(*world.workers[:number], worker, *world.workers[number + 1 :]))


FRESH: Final = "new"
"""The id of a claim just made; `tidy` renames it before the next one is made."""
NOBODY: Final = "-"


def tidy(world: World) -> World:
    """The same world under other names: workers in a fixed order, claim ids numbered as they are met, and one name for
    all claim ids that no worker knows (any more)."""
    workers = sorted(world.workers, key=Worker.looks)
    names: dict[str, str] = {}
    for worker in workers:
        for claim_id in worker.ids():
            names.setdefault(claim_id, str(len(names)))
    if all(old == new for old, new in names.items()) and workers == list(world.workers):
        workers_known = world.workers
    else:
        workers_known = tuple(worker.known_as(names) for worker in workers)
    return World(
        tuple(record and renamed(record, names) for record in world.records),
        workers_known,
        tuple(
            truth._replace(holder=names.get(truth.holder, NOBODY)) if truth.holder else truth for truth in world.truths
        ),
        *world[3:],
    )


def renamed(record: Record, names: dict[str, str]) -> Record:
    name = record.claim_id and names.get(record.claim_id, NOBODY)
    return record if name == record.claim_id else replace(record, claim_id=name)


class Design:
    """The protocol as it is designed. Mutants override one method."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def steps(self, world: World) -> Iterator[Step]:
        """Everything that may happen next."""
        for number, worker in enumerate(world.workers):
            yield from self.worker_steps(world, number, worker)
            if world.crashes:
                label = f"worker {number} dies"
                yield label, with_worker(world._replace(crashes=world.crashes - 1), number, Worker())
        for number, record in enumerate(world.records):
            if record is not None:
                yield from self.keeper_steps(world, number, record)
                yield from self.people_steps(world, number, record)
        yield "time passes", self.tick(world)

    # ---- workers ----

    def worker_steps(self, world: World, number: int, worker: Worker) -> Iterator[Step]:
        if worker.sent is not None:
            yield from self.send(world, number, worker.sent)
        elif worker.held is None:
            yield from self.send(world, number, Request(FRESH, None, 1))
        elif worker.held.said:
            for limit in (0, 1):
                yield from self.send(world, number, Request(FRESH, worker.held, limit))
        else:
            yield from self.run(world, number, worker, worker.held)
            yield from self.renew(world, number, worker, worker.held)

    def run(self, world: World, number: int, worker: Worker, held: Held) -> Iterator[Step]:
        """The job ends, in any of the ways it may."""
        for way in self.setting.outcomes:
            said = way if way != "fail" else "again" if held.attempt < MAX_ATTEMPTS else "dead"
            yield f"worker {number}: {said}", with_worker(world, number, worker._replace(held=held._replace(said=said)))

    def renew(self, world: World, number: int, worker: Worker, held: Held) -> Iterator[Step]:
        record = world.records[held.job]
        renewed = None if record is None else moves.extend(record, held.claim_id, NOW, TERMS.lease)
        if renewed is None:
            yield f"worker {number}: lease lost", with_worker(world, number, worker._replace(held=None))
            return
        if world.truths[held.job].holder != held.claim_id:
            raise Broken("zombie write")
        after = with_record(world, held.job, renewed)
        if renewed.cancel_requested:
            stopped = worker._replace(held=held._replace(said="cancelled"))
            yield f"worker {number}: asked to stop", with_worker(after, number, stopped)
        yield f"worker {number}: renews", after

    def send(self, world: World, number: int, request: Request) -> Iterator[Step]:
        """An exchange is written by the broker in one go; its reply comes back, or is lost and then asked for again."""
        after, claimed = self.exchange(world, number, request)
        what = f"worker {number}: exchange {request.claim_id}"
        yield what, with_worker(after, number, after.workers[number]._replace(held=claimed, sent=None))
        if world.losses:
            waiting = after.workers[number]._replace(held=None, sent=request)
            yield what + ", reply lost", with_worker(after._replace(losses=world.losses - 1), number, waiting)

    def exchange(self, world: World, number: int, request: Request) -> tuple[World, Held | None]:
        if request.settled is not None:
            world = self.settle(world, number, request.settled)
        for job, record in enumerate(world.records):
            if record is not None and record.state is State.RUNNING and record.claim_id == request.claim_id:
                return world, Held(job, request.claim_id, record.attempts)
        if not request.limit:
            return world, None
        return self.claim(world, number, request.claim_id)

    def claim(self, world: World, number: int, claim_id: str) -> tuple[World, Held | None]:
        ready = [(moves.order(r), n, r) for n, r in enumerate(world.records) if r and moves.claimable(r, NOW)]
        if not ready:
            return world, None
        _, job, record = min(ready, key=lambda entry: entry[0])
        claimed = moves.claim(record, claim_id, "w", NOW, TERMS.lease)
        return self.hand_out(world, job, claimed), Held(job, claim_id, claimed.attempts)

    def hand_out(self, world: World, job: int, claimed: Record) -> World:
        """Write the claim down; what has ended must not be handed out."""
        truth = world.truths[job]
        if truth.ends:
            raise Broken("a finished job runs again")
        if claimed.at_most_once and truth.taken:
            raise Broken("an at-most-once job runs twice")
        return with_record(with_truth(world, job, truth._replace(holder=claimed.claim_id)), job, claimed)

    def settle(self, world: World, number: int, held: Held) -> World:
        record = world.records[held.job]
        if record is None:
            return world
        after, answer = self.settled(record, held.claim_id, OUTCOMES[held.said])
        return self.write_down(world, number, held, after, answer)

    def settled(self, record: Record, claim_id: str, outcome: Outcome) -> tuple[Record, Answer]:
        return moves.settle(record, claim_id, outcome, NOW, TERMS)

    def write_down(self, world: World, number: int, held: Held, after: Record, answer: Answer) -> World:
        """Store what a settle made of a record, unless that breaks a promise."""
        truth = world.truths[held.job]
        if truth.holder != held.claim_id and (answer is Answer.DONE or after != world.records[held.job]):
            raise Broken("zombie write")
        if answer is Answer.DONE:
            if truth.ends and after.state.finished:
                raise Broken("two ends")
            truth = truth._replace(holder=None, ends=truth.ends + after.state.finished)
        return with_record(with_truth(world, held.job, truth), held.job, after)

    # ---- the keeper, people, time ----

    def keeper_steps(self, world: World, number: int, record: Record) -> Iterator[Step]:
        """What `tend` does for one job."""
        if moves.overdue(record, NOW):
            yield from self.rescue(world, number, record)
        if moves.expired(record, NOW):
            yield f"job {number} expires", self.end(world, number, moves.expire(record, NOW, TERMS))
        promoted = moves.promote(record, NOW)
        if promoted is not record:
            yield f"job {number} falls due", with_record(world, number, promoted)

    def rescue(self, world: World, number: int, record: Record) -> Iterator[Step]:
        yield f"job {number} is rescued", self.take_away(world, number, moves.rescue(record, NOW, TERMS))

    def take_away(self, world: World, number: int, rescued: Record) -> World:
        truth, before = world.truths[number], world.records[number]
        if before is None or before.lease_until is None or before.lease_until > NOW.steady:
            raise Broken("a worker is robbed")
        truth = truth._replace(holder=None, taken=truth.taken + 1)
        if truth.taken > rescued.max_crashes and not rescued.state.finished:
            raise Broken("poison loop")
        return self.end(with_truth(world, number, truth), number, rescued)

    def end(self, world: World, number: int, record: Record) -> World:
        truth = world.truths[number]
        truth = truth._replace(ends=truth.ends + record.state.finished)
        if truth.ends > 1:
            raise Broken("two ends")
        return with_record(with_truth(world, number, truth), number, record)

    def people_steps(self, world: World, number: int, record: Record) -> Iterator[Step]:
        cancelled = moves.cancel(record, NOW, TERMS) if world.cancels else record
        if cancelled != record:
            after = world._replace(cancels=world.cancels - 1)
            yield f"job {number} is cancelled", self.end(after, number, cancelled)
        again = moves.retry(record, NOW) if world.retries else None
        if again is not None:
            after = world._replace(retries=world.retries - 1)
            yield f"job {number} is retried by hand", with_record(with_truth(after, number, Truth()), number, again)

    def tick(self, world: World) -> World:
        return world._replace(records=tuple(record and closer(record) for record in world.records))


def closer(record: Record) -> Record:
    """What lies ahead of it is 1 nearer; what is past stays at 0."""

    def nearer(moment: float | None) -> float | None:
        return None if moment is None else max(0.0, moment - 1.0)

    return replace(
        record,
        lease_until=nearer(record.lease_until),
        expires_at=nearer(record.expires_at),
        due=max(0.0, record.due - 1.0),
    )


# ---- the search -----------------------------------------------------------------------------------------------------


class Report(NamedTuple):
    """What the search found: how many states there are, and what is wrong, with a shortest way to it."""

    states: int
    verdict: str
    trace: tuple[str, ...] = ()


def check(world: World) -> None:
    """What must hold in every state."""
    for number, record in enumerate(world.records):
        half_done = [worker.half for worker in world.workers if worker.half and worker.half[1] == number]
        if record is None:
            if not half_done:
                raise Broken("lost")
        elif record.state is State.SUCCESSFUL and record.result is None and not half_done:
            raise Broken("result missing")


def at_end(world: World) -> bool:
    return all(record is not None and record.state.finished for record in world.records)


def explore(design: Design, at_most: int = 1_000_000) -> Report:
    """Visit every reachable state, the nearest first."""
    worlds = [tidy(design.setting.world())]
    numbers = {worlds[0]: 0}
    came_from: list[tuple[int, str]] = [(-1, "")]
    origins: list[list[int]] = [[]]
    here = 0
    while here < len(worlds):
        label = ""
        try:
            for label, after in design.steps(worlds[here]):
                check(after)
                after = tidy(after)
                there = numbers.setdefault(after, len(worlds))
                if there == len(worlds):
                    worlds.append(after)
                    came_from.append((here, label))
                    origins.append([])
                origins[there].append(here)
        except Broken as broken:
            return Report(len(worlds), str(broken), (*way_to(here, came_from), f"after {label!r}: {broken}"))
        assert len(worlds) <= at_most, f"more than {at_most} states"
        here += 1
    stuck = first_stuck(worlds, origins)
    return Report(len(worlds), "holds") if stuck is None else Report(len(worlds), "stuck", way_to(stuck, came_from))


def way_to(number: int, came_from: list[tuple[int, str]]) -> tuple[str, ...]:
    """The labels of a shortest way to a state."""
    labels: list[str] = []
    while number > 0:
        number, label = came_from[number]
        labels.append(label)
    return tuple(reversed(labels))


def first_stuck(worlds: list[World], origins: list[list[int]]) -> int | None:
    """The nearest state from which no end can be reached."""
    waiting = [number for number, world in enumerate(worlds) if at_end(world)]
    good = set(waiting)
    while waiting:
        for origin in origins[waiting.pop()]:
            if origin not in good:
                good.add(origin)
                waiting.append(origin)
    return next((number for number in range(len(worlds)) if number not in good), None)
