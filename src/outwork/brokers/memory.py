"""Jobs in this process' memory: the executable specification of the contract.

One class serves `immediate:` (jobs run in their caller), `dummy:` (jobs are recorded and never run), `thread:` and
`process:` (jobs run in a worker inside this process). The moves are the pure functions of `outwork.job`, applied to the
records of one shelf under one lock.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from heapq import heappop
from itertools import islice
from threading import Condition
from typing import Final, Self

from msgspec.structs import replace

from outwork import codec
from outwork import job as moves
from outwork.brokers import ledger
from outwork.brokers.base import (
    Accepted,
    Broker,
    Capabilities,
    Claim,
    Claimed,
    Count,
    Embedding,
    Exchanged,
    Extended,
    Filter,
    Orders,
    Page,
    Presence,
    Report,
    RunsIn,
    Settlement,
    Share,
    Store,
    Tended,
)
from outwork.brokers.memory_shelf import MemoryShelf
from outwork.brokers.url import BrokerURL, number
from outwork.job import Answer, Job, Moment, Record, State, Terms

BATCH: Final = 1000
KEPT: Final = 10_000
"""How many finished jobs are remembered at most: memory is not a place for archives."""

RUNS_IN: Final[dict[str, RunsIn]] = {
    "immediate": "caller",
    "dummy": "nowhere",
    "thread": "embedded",
    "process": "embedded",
    "memory": "elsewhere",
}


class MemoryBroker(Broker, Store):
    """A broker and store in memory. Its lock is held for the length of a verb, never while a task runs."""

    capabilities = Capabilities(durable=False, server_crash=False, transactional=False, shared=False)

    def __init__(
        self,
        url: str = "memory:",
        terms: Terms | None = None,
        *,
        kept: int = KEPT,
        embedding: Embedding | None = None,
    ) -> None:
        self.url = url
        self.scheme = url.partition(":")[0]
        self.runs_in = RUNS_IN[self.scheme]
        if self.runs_in == "caller":
            self.capabilities = replace(self.capabilities, defer=False)
        self.embedding = embedding or Embedding(isolated=self.scheme == "process")
        self.terms = terms or Terms()
        self._kept = kept
        self._changed = Condition()
        self._presences: dict[str, Presence] = {}
        self._exchanges: deque[str] = deque(maxlen=64)
        self._shelf = MemoryShelf(self._put)
        self._let_go = 0
        self._interrupted = False
        self._result_interrupted = False
        self._closed = False

    @classmethod
    def from_url(cls, url: str, terms: Terms | None = None) -> Self:
        parts = BrokerURL(url if ":" in url else f"{url}:")
        chosen = parts.terms(terms or Terms())
        kept = parts.option("kept", number, KEPT)
        embedding: Embedding | None = None
        if RUNS_IN[parts.scheme] == "embedded":
            embedding = Embedding(
                concurrency=parts.option("concurrency", number, 0) or None,
                threads=parts.option("threads", number, 0) or None,
                children=parts.option("children", number, 0) or None,
                isolated=parts.scheme == "process",
            )
        parts.done()
        return cls(parts.shown, chosen, kept=kept, embedding=embedding)

    # ---- the six verbs ----------------------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[Job]) -> list[Accepted]:
        with self._changed:
            now = self._moment()
            answers: list[Accepted] = [None] * len(jobs)
            if any(job.ties is not None and job.ties.bound_at_enqueue for job in jobs):
                self._promote()
                answers = ledger.enqueue(self._shelf, [(job, codec.encode_job(job)) for job in jobs])
            else:
                for job in jobs:
                    if job.id not in self._shelf.records:
                        self._put(moves.admit(job, codec.encode_job(job), now))
            self._changed.notify_all()
        return answers

    def exchange(
        self,
        claim_id: str,
        outcomes: Sequence[Settlement],
        queues: Sequence[Share],
        limit: int,
        free: int,
        worker: str,
    ) -> Exchanged:
        with self._changed:
            now = self._moment()
            before = self._let_go
            answers = [self._settle(one, now) for one in outcomes]
            freed = self._let_go > before
            if outcomes:
                self._shelf.forget_surplus(self._kept)
            self._promote()
            taken = self._held_by(claim_id)
            if not taken:
                taken = self._claim(claim_id, queues, limit, free, worker, now)
            self._changed.notify_all()
            return Exchanged(
                answers,
                [_as_claimed(record) for record in taken],
                self._shelf.due_in([queue for queue, _ in queues], BATCH),
                freed,
            )

    def extend(self, claims: Sequence[Claim]) -> Extended:
        lost: set[str] = set()
        cancel: set[str] = set()
        with self._changed:
            now = self._moment()
            for job_id, claim_id in claims:
                record = self._shelf.records.get(job_id)
                extended = record and moves.extend(record, claim_id, now, self.terms.lease)
                if not extended:
                    lost.add(job_id)
                    continue
                self._shelf.records[job_id] = extended
                if extended.cancel_requested:
                    cancel.add(job_id)
        return Extended(frozenset(lost), frozenset(cancel))

    def orders(self, worker: str) -> Orders:
        with self._changed:
            own = (self._shelf.records[job_id] for job_id in self._shelf.running)
            cancel = frozenset(r.id for r in own if r.cancel_requested and r.worker == worker)
            return Orders(frozenset(self._shelf.named(ledger.PAUSE)), cancel)

    def tend(self, presence: Presence | None, *, rescue: bool, dead: Collection[str] = ()) -> Tended:
        rescued = buried = 0
        with self._changed:
            now = self._moment()
            self._promote()  # so that what fell due unseen can expire
            if presence is not None:
                self._presences[presence.worker] = replace(presence, seen_at=now.wall)
            for job_id in list(self._shelf.running):
                record = self._shelf.records[job_id]
                if record.worker in dead or (rescue and moves.overdue(record, now)):
                    record = moves.rescue(record, now, self.terms)
                    self._put(record)
                    rescued += 1
                    buried += record.state is State.FAILED
            expired, pruned, more = self._end_and_forget(now)
            for gone in [
                p.worker for p in self._presences.values() if p.seen_at + p.ttl < now.wall or p.worker in dead
            ]:
                del self._presences[gone]
            self._shelf.forget_cells(BATCH)
            self._changed.notify_all()
        return Tended(rescued=rescued, buried=buried, expired=expired, pruned=pruned, more=more)

    def leave(self, worker: str) -> None:
        with self._changed:
            self._presences.pop(worker, None)

    def workers(self) -> list[Presence]:
        with self._changed:
            wall = self._moment().wall
            return [presence for presence in self._presences.values() if presence.seen_at + presence.ttl >= wall]

    def wait(self, queues: Sequence[str], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self._closed:
                if self._interrupted:
                    self._interrupted = False
                    return False
                self._moment()
                self._promote()
                if any(self._shelf.top(queue) for queue in queues):
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                due = self._shelf.due_in(queues, BATCH)
                self._changed.wait(left if due is None else min(left, due))
            return False

    def interrupt(self) -> None:
        with self._changed:
            self._interrupted = True
            self._changed.notify_all()

    def queues(self) -> list[str]:
        with self._changed:
            return sorted({record.queue for record in self._shelf.records.values()})

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def now(self) -> float:
        return self._moment().wall

    # ---- the store --------------------------------------------------------------------------------------------------

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        with self._changed:
            self._moment()
            self._promote()
            return [self._shelf.records.get(job_id) for job_id in ids]

    def find(self, which: Filter, limit: int = 50, cursor: str | None = None) -> Page:
        with self._changed:
            self._moment()
            self._promote()
            fitting = sorted(
                (r for r in self._shelf.records.values() if _fits(r, which)), key=lambda r: r.id, reverse=True
            )
        later = (record for record in fitting if cursor is None or record.id < cursor)
        page = list(islice(later, limit + 1))
        return Page(page[:limit], page[limit - 1].id if len(page) > limit else None)

    def counts(self) -> list[Count]:
        with self._changed:
            self._moment()
            self._promote()
            tally = Counter((r.queue, r.task, r.state) for r in self._shelf.records.values())
        return [Count(queue, task, state, n) for (queue, task, state), n in sorted(tally.items())]

    def cancel(self, ids: Sequence[str]) -> list[State | None]:
        with self._changed:
            now = self._moment()
            return [self._steer(job_id, lambda r: moves.cancel(r, now, self.terms)) for job_id in ids]

    def retry(self, ids: Sequence[str]) -> list[State | None]:
        with self._changed:
            now = self._moment()
            return [self._steer(job_id, lambda r: moves.retry(r, now) or r) for job_id in ids]

    def delete(self, ids: Sequence[str]) -> list[State | None]:
        with self._changed:
            self._moment()
            self._promote()
            states: list[State | None] = []
            for job_id in ids:
                record = self._shelf.records.get(job_id)
                states.append(record.state if record else None)
                if record and record.state is not State.RUNNING:
                    if not record.state.finished:
                        self._put(moves.cancel(record, self._shelf.now, self.terms))
                    self._shelf.forget(job_id)
            self._changed.notify_all()
            return states

    def prune(
        self, which: Filter, *, older_than: float, failed_older_than: float, limit: int = 1000, dry_run: bool = False
    ) -> int:
        with self._changed:
            wall = self._moment().wall
            old = [
                record.id
                for record in self._shelf.records.values()
                if record.finished_at is not None
                and record.finished_at <= wall - (older_than if record.state is State.SUCCESSFUL else failed_older_than)
                and _fits(record, which)
            ]
            if dry_run:
                return len(old)
            for job_id in old[:limit]:
                self._shelf.forget(job_id)
            return len(old[:limit])

    def pause(self, what: str) -> None:
        with self._changed:
            self._moment()
            ledger.pause(self._shelf, what)

    def resume(self, what: str) -> None:
        with self._changed:
            self._moment()
            ledger.resume(self._shelf, what)
            self._changed.notify_all()

    def report(self, reports: Sequence[Report]) -> None:
        with self._changed:
            for job_id, claim_id, progress in reports:
                record = self._shelf.records.get(job_id)
                if record and record.state is State.RUNNING and record.claim_id == claim_id:
                    self._shelf.progress[job_id] = progress

    def progress(self, ids: Sequence[str]) -> list[bytes | None]:
        with self._changed:
            return [self._shelf.progress.get(job_id) for job_id in ids]

    def tick(self, schedule: str, last: float | None, slot: float, jobs: Sequence[Job]) -> bool:
        with self._changed:
            self._moment()
            given = [(job, codec.encode_job(job)) for job in jobs]
            ticked = ledger.tick(self._shelf, schedule, last, slot, given)
            self._changed.notify_all()
            return ticked

    def schedules(self) -> dict[str, float]:
        with self._changed:
            return {name: cell.first for name, cell in self._shelf.named("schedule:").items()}

    def wait_result(self, ids: Collection[str], timeout: float) -> set[str]:
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self._closed:
                if self._result_interrupted:
                    self._result_interrupted = False
                    return set()
                ended = {i for i in ids if (r := self._shelf.records.get(i)) is None or r.state.finished}
                left = deadline - time.monotonic()
                if ended or left <= 0:
                    return ended
                self._changed.wait(left)
            return set()

    def interrupt_wait_result(self) -> None:
        with self._changed:
            self._result_interrupted = True
            self._changed.notify_all()

    # ---- for `immediate:`, `dummy:` and tests -----------------------------------------------------------------------

    def enqueue_claimed(self, job: Job, claim_id: str, worker: str) -> Claimed:
        """Record a job as already claimed: how a caller runs its own job at once (`immediate:`)."""
        with self._changed:
            now = self._moment()
            record = moves.admit(job, codec.encode_job(job), now)
            record = moves.claim(replace(record, state=State.READY), claim_id, worker, now, self.terms.lease)
            self._put(record)
            return _as_claimed(record)

    @property
    def results(self) -> list[Record]:
        """All jobs that were enqueued and not cleared, the oldest first (`dummy:`)."""
        with self._changed:
            return list(self._shelf.records.values())

    def clear(self) -> None:
        """Forget everything."""
        with self._changed:
            self._shelf.clear()
            self._changed.notify_all()

    # ---- inside the lock --------------------------------------------------------------------------------------------

    def _moment(self) -> Moment:
        self._shelf.now = Moment(time.time() + self.clock_offset, time.monotonic() + self.clock_offset)
        return self._shelf.now

    def _put(self, record: Record) -> None:
        """Store a record and note where it waits, if it waits; then do what follows for those it is bound to."""
        before = self._shelf.records.get(record.id)
        self._shelf.place(record)
        if before is not None and (ledger.concerns(before) or ledger.concerns(record)):
            self._let_go += ledger.follow(self._shelf, [ledger.Change(before, record)])

    def _end_and_forget(self, now: Moment) -> tuple[int, int, bool]:
        """Expire and prune a batch of those whose moment has come: how many of each, and whether there are more."""
        expired = pruned = 0
        for _ in range(BATCH):
            if not self._shelf.moments or self._shelf.moments[0][0] > now.wall:
                return expired, pruned, False
            _, job_id = heappop(self._shelf.moments)
            record = self._shelf.records.get(job_id)
            if record is None:
                continue
            if moves.expired(record, now):
                self._put(moves.expire(record, now, self.terms))
                expired += 1
            elif record.prune_at is not None and record.prune_at <= now.wall:
                self._shelf.forget(job_id)
                pruned += 1
        return expired, pruned, True

    def _promote(self) -> None:
        ledger.attend(self._shelf)
        self._shelf.promote()

    def _claim(
        self, claim_id: str, queues: Sequence[Share], limit: int, free: int, worker: str, now: Moment
    ) -> list[Record]:
        taken: list[Record] = []
        held = 0
        for queue, most in queues:
            left = min(most, limit - len(taken))
            passed_over: list[Record] = []
            while left > 0 and (record := self._shelf.top(queue)):
                self._shelf.pop(record)
                if record.solo and free <= 0:
                    passed_over.append(record)
                    if len(passed_over) >= limit:
                        break
                    continue
                if record.ties is not None and record.ties.gates:
                    _, kept = ledger.pass_gates(self._shelf, [record])
                    if kept:
                        self._put(kept[0].after)
                        held += 1
                        if held >= BATCH:
                            break
                        continue
                free -= record.solo
                left -= 1
                record = moves.claim(record, claim_id, worker, now, self.terms.lease)
                self._put(record)
                taken.append(record)
            for record in passed_over:
                self._put(record)
        return taken

    def _held_by(self, claim_id: str) -> list[Record]:
        """What an earlier exchange of this id claimed: only a repeated one can hold anything."""
        if claim_id not in self._exchanges:
            self._exchanges.append(claim_id)
            return []
        return [record for i in self._shelf.running if (record := self._shelf.records[i]).claim_id == claim_id]

    def _settle(self, settlement: Settlement, now: Moment) -> Answer:
        record = self._shelf.records.get(settlement.job_id)
        if record is None:
            return Answer.STALE
        after, answer = moves.settle(record, settlement.claim_id, settlement.outcome, now, self.terms)
        if answer is Answer.DONE:
            self._put(after)
        return answer

    def _steer(self, job_id: str, move: Callable[[Record], Record]) -> State | None:
        record = self._shelf.records.get(job_id)
        if record is None:
            return None
        moved = move(moves.promote(record, self._moment()))
        if moved is not record:
            self._put(moved)
            self._changed.notify_all()
        return moved.state


def _as_claimed(record: Record) -> Claimed:
    assert record.claim_id is not None
    return Claimed(
        record.id, record.claim_id, record.body, record.failures, record.crashes, record.misses, record.errors
    )


def _fits(record: Record, which: Filter) -> bool:
    return (
        (which.states is None or record.state in which.states)
        and (which.queue is None or record.queue == which.queue)
        and (which.task is None or record.task == which.task)
        and (which.ids is None or record.id in which.ids)
        and (which.attempted is None or which.attempted == (record.failures + record.crashes > 0))
    )
