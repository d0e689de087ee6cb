"""What other task queues do, each as one small change of the protocol. The search must find what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from model.lease_protocol import NOBODY, NOW, TERMS, Design, Held, Step, Worker, World, with_record, with_worker
from outwork import job as moves
from outwork.job import Answer, Outcome, Record, State


class AcknowledgedById(Design):
    """A settle names the job only: any running attempt is settled by it."""

    def settled(self, record: Record, claim_id: str, outcome: Outcome) -> tuple[Record, Answer]:
        if record.state is not State.RUNNING:
            return record, Answer.ALREADY
        return moves.settle(record, record.claim_id or "", outcome, NOW, TERMS)


class UpdateWhereId(Design):
    """A settle is `UPDATE ... WHERE id = ...`, whatever became of the job since."""

    def settled(self, record: Record, claim_id: str, outcome: Outcome) -> tuple[Record, Answer]:
        return moves.settle(replace(record, state=State.RUNNING, claim_id=NOBODY), NOBODY, outcome, NOW, TERMS)


class HalfDone(Design):
    """The base of protocols that do in two writes what should be one; a worker may die between them."""

    def worker_steps(self, world: World, number: int, worker: Worker) -> Iterator[Step]:
        if worker.half is None:
            yield from super().worker_steps(world, number, worker)
        else:
            what, job, record = worker.half
            done = with_worker(world, number, worker._replace(half=None))
            yield f"worker {number}: {what}", self.second_write(done, job, record)

    def second_write(self, world: World, job: int, record: Record) -> World:
        return with_record(world, job, record)

    def first_write(self, world: World, number: int, job: int, now: Record | None, then: tuple[str, Record]) -> World:
        half = (then[0], job, then[1])
        return with_record(with_worker(world, number, world.workers[number]._replace(half=half)), job, now)


class PopThenRecord(HalfDone):
    """A claim pops the job from its queue, then writes down that it runs."""

    def claim(self, world: World, number: int, claim_id: str) -> tuple[World, Held | None]:
        after, held = super().claim(world, number, claim_id)
        if held is None or (claimed := after.records[held.job]) is None:
            return after, held
        return self.first_write(after, number, held.job, None, ("writes down the claim", claimed)), held


class AcknowledgeThenRetry(HalfDone):
    """A failed attempt is acknowledged, which removes the job; then the retry is enqueued."""

    def write_down(self, world: World, number: int, held: Held, after: Record, answer: Answer) -> World:
        written = super().write_down(world, number, held, after, answer)
        if answer is not Answer.DONE or after.state.finished:
            return written
        return self.first_write(written, number, held.job, None, ("enqueues the retry", after))


class AcknowledgeThenResult(HalfDone):
    """The end is written first, the result after it."""

    def write_down(self, world: World, number: int, held: Held, after: Record, answer: Answer) -> World:
        written = super().write_down(world, number, held, after, answer)
        if answer is not Answer.DONE or after.state is not State.SUCCESSFUL:
            return written
        return self.first_write(written, number, held.job, replace(after, result=None), ("stores the result", after))


class CountedOnFailure(Design):
    """Attempts are counted when they fail; a worker that dies counts nothing."""

    def rescue(self, world: World, number: int, record: Record) -> Iterator[Step]:
        again = replace(record, state=State.READY, claim_id=None, lease_until=None)
        yield f"job {number} is rescued", self.take_away(world, number, again)


class NoReaper(Design):
    """Nobody looks after leases that ran out."""

    def rescue(self, world: World, number: int, record: Record) -> Iterator[Step]:
        yield from ()


class ReaperLockWithoutExpiry(HalfDone):
    """Who rescues takes a lock in the broker first; if it dies, the lock stays."""

    def rescue(self, world: World, number: int, record: Record) -> Iterator[Step]:
        for keeper, worker in enumerate(world.workers):
            if not world.locked and worker.half is None:
                half = worker._replace(half=("rescues and unlocks", number, record))
                yield f"worker {keeper}: locks", with_worker(world._replace(locked=True), keeper, half)

    def second_write(self, world: World, job: int, record: Record) -> World:
        world = world._replace(locked=False)
        now = world.records[job]
        if now is None or not moves.overdue(now, NOW):
            return world
        return self.take_away(world, job, moves.rescue(now, NOW, TERMS))
