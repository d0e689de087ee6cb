"""Jobs in this process' memory: the executable specification of the contract.

One class serves `immediate:` (jobs run in their caller), `dummy:` (jobs are recorded and never run), `thread:` and
`process:` (jobs run in a worker inside this process). The moves are the pure functions of `outwork.job`, applied to one
dictionary of records under one lock; heaps say which record is next. A heap entry may be out of date (its job moved
on); it is recognised when it comes to the top, and dropped.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from heapq import heappop, heappush
from itertools import islice
from threading import Condition
from typing import Final, Self

from msgspec.structs import replace

from outwork import codec
from outwork import job as moves
from outwork.brokers.base import (
    Broker,
    Capabilities,
    Claim,
    Claimed,
    Count,
    Embedding,
    Exchanged,
    Extended,
    Filter,
    Page,
    Presence,
    RunsIn,
    Settlement,
    Share,
    Store,
    Tended,
)
from outwork.brokers.url import BrokerURL, number
from outwork.errors import EnqueueError
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
        self._records: dict[str, Record] = {}
        self._ready: dict[str, list[tuple[tuple[int, float, str], str]]] = {}
        self._scheduled: list[tuple[float, str]] = []
        self._running: set[str] = set()
        self._finished: deque[str] = deque()
        self._moments: list[tuple[float, str]] = []
        self._presences: dict[str, Presence] = {}
        self._exchanges: deque[str] = deque(maxlen=64)
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

    def enqueue(self, jobs: Sequence[Job]) -> list[EnqueueError | None]:
        with self._changed:
            now = self._moment()
            for job in jobs:
                if job.id not in self._records:
                    self._put(moves.admit(job, codec.encode_job(job), now))
            self._changed.notify_all()
        return [None] * len(jobs)

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
            answers = [self._settle(one, now) for one in outcomes]
            if outcomes:
                self._forget_surplus()
            self._promote(now)
            taken = self._held_by(claim_id)
            if not taken:
                taken = self._claim(claim_id, queues, limit, free, worker, now)
            self._changed.notify_all()
            return Exchanged(answers, [_as_claimed(record) for record in taken], self._next_due(queues, now))

    def extend(self, claims: Sequence[Claim]) -> Extended:
        lost: set[str] = set()
        cancel: set[str] = set()
        with self._changed:
            now = self._moment()
            for job_id, claim_id in claims:
                record = self._records.get(job_id)
                extended = record and moves.extend(record, claim_id, now, self.terms.lease)
                if not extended:
                    lost.add(job_id)
                    continue
                self._records[job_id] = extended
                if extended.cancel_requested:
                    cancel.add(job_id)
        return Extended(frozenset(lost), frozenset(cancel))

    def tend(self, presence: Presence | None, *, rescue: bool, dead: Collection[str] = ()) -> Tended:
        rescued = buried = 0
        with self._changed:
            now = self._moment()
            self._promote(now)  # so that what fell due unseen can expire
            if presence is not None:
                self._presences[presence.worker] = replace(presence, seen_at=now.wall)
            for job_id in list(self._running):
                record = self._records[job_id]
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
        shares = [Share(queue, 1) for queue in queues]
        with self._changed:
            while not self._closed:
                if self._interrupted:
                    self._interrupted = False
                    return False
                now = self._moment()
                self._promote(now)
                if any(self._top(queue, now) for queue in queues):
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                due = self._next_due(shares, now)
                self._changed.wait(left if due is None else min(left, due))
            return False

    def interrupt(self) -> None:
        with self._changed:
            self._interrupted = True
            self._changed.notify_all()

    def queues(self) -> list[str]:
        with self._changed:
            return sorted({record.queue for record in self._records.values()})

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def now(self) -> float:
        return self._moment().wall

    # ---- the store --------------------------------------------------------------------------------------------------

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        with self._changed:
            self._promote(self._moment())
            return [self._records.get(job_id) for job_id in ids]

    def find(self, which: Filter, limit: int = 50, cursor: str | None = None) -> Page:
        with self._changed:
            self._promote(self._moment())
            fitting = sorted((r for r in self._records.values() if _fits(r, which)), key=lambda r: r.id, reverse=True)
        later = (record for record in fitting if cursor is None or record.id < cursor)
        page = list(islice(later, limit + 1))
        return Page(page[:limit], page[limit - 1].id if len(page) > limit else None)

    def counts(self) -> list[Count]:
        with self._changed:
            self._promote(self._moment())
            tally = Counter((r.queue, r.task, r.state) for r in self._records.values())
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
            self._promote(self._moment())
            states: list[State | None] = []
            for job_id in ids:
                record = self._records.get(job_id)
                states.append(record.state if record else None)
                if record and record.state is not State.RUNNING:
                    del self._records[job_id]
            self._changed.notify_all()
            return states

    def prune(
        self, which: Filter, *, older_than: float, failed_older_than: float, limit: int = 1000, dry_run: bool = False
    ) -> int:
        with self._changed:
            wall = self._moment().wall
            old = [
                record.id
                for record in self._records.values()
                if record.finished_at is not None
                and record.finished_at <= wall - (older_than if record.state is State.SUCCESSFUL else failed_older_than)
                and _fits(record, which)
            ]
            if dry_run:
                return len(old)
            for job_id in old[:limit]:
                del self._records[job_id]
            return len(old[:limit])

    def wait_result(self, ids: Collection[str], timeout: float) -> set[str]:
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self._closed:
                if self._result_interrupted:
                    self._result_interrupted = False
                    return set()
                ended = {i for i in ids if (r := self._records.get(i)) is None or r.state.finished}
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
            return list(self._records.values())

    def clear(self) -> None:
        """Forget everything."""
        with self._changed:
            self._records.clear()
            self._ready.clear()
            self._scheduled.clear()
            self._running.clear()
            self._finished.clear()
            self._moments.clear()
            self._changed.notify_all()

    # ---- inside the lock --------------------------------------------------------------------------------------------

    def _moment(self) -> Moment:
        return Moment(time.time() + self.clock_offset, time.monotonic() + self.clock_offset)

    def _put(self, record: Record) -> None:
        """Store a record and note where it waits, if it waits."""
        self._records[record.id] = record
        self._running.discard(record.id)
        moment = record.prune_at if record.state.finished else record.expires_at
        if moment is not None:
            heappush(self._moments, (moment, record.id))
        match record.state:
            case State.READY:
                heappush(self._ready.setdefault(record.queue, []), (moves.order(record), record.id))
            case State.SCHEDULED:
                heappush(self._scheduled, (record.due, record.id))
            case State.RUNNING:
                self._running.add(record.id)
            case _:
                self._finished.append(record.id)

    def _end_and_forget(self, now: Moment) -> tuple[int, int, bool]:
        """Expire and prune a batch of those whose moment has come: how many of each, and whether there are more."""
        expired = pruned = 0
        for _ in range(BATCH):
            if not self._moments or self._moments[0][0] > now.wall:
                return expired, pruned, False
            _, job_id = heappop(self._moments)
            record = self._records.get(job_id)
            if record is None:
                continue
            if moves.expired(record, now):
                self._put(moves.expire(record, now, self.terms))
                expired += 1
            elif record.prune_at is not None and record.prune_at <= now.wall:
                del self._records[job_id]
                pruned += 1
        return expired, pruned, True

    def _promote(self, now: Moment) -> None:
        while self._scheduled and self._scheduled[0][0] <= now.wall:
            due, job_id = heappop(self._scheduled)
            record = self._records.get(job_id)
            if record and record.state is State.SCHEDULED and record.due == due:
                self._put(moves.promote(record, now))

    def _top(self, queue: str, now: Moment) -> Record | None:
        """The next job to claim from a queue, still in its heap."""
        heap = self._ready.get(queue, [])
        while heap:
            place, job_id = heap[0]
            record = self._records.get(job_id)
            if record and moves.claimable(record, now) and moves.order(record) == place:
                return record
            heappop(heap)  # moved on, or expired: tend ends an expired one by its record
        return None

    def _claim(
        self, claim_id: str, queues: Sequence[Share], limit: int, free: int, worker: str, now: Moment
    ) -> list[Record]:
        taken: list[Record] = []
        for queue, most in queues:
            left = min(most, limit - len(taken))
            passed_over: list[Record] = []
            while left > 0 and (record := self._top(queue, now)):
                heappop(self._ready[queue])
                if record.solo and free <= 0:
                    passed_over.append(record)
                    if len(passed_over) >= limit:
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
        return [record for i in self._running if (record := self._records[i]).claim_id == claim_id]

    def _settle(self, settlement: Settlement, now: Moment) -> Answer:
        record = self._records.get(settlement.job_id)
        if record is None:
            return Answer.STALE
        after, answer = moves.settle(record, settlement.claim_id, settlement.outcome, now, self.terms)
        if answer is Answer.DONE:
            self._put(after)
        return answer

    def _steer(self, job_id: str, move: Callable[[Record], Record]) -> State | None:
        record = self._records.get(job_id)
        if record is None:
            return None
        moved = move(moves.promote(record, self._moment()))
        if moved is not record:
            self._put(moved)
            self._changed.notify_all()
        return moved.state

    def _next_due(self, queues: Sequence[Share], now: Moment) -> float | None:
        """Seconds until the next scheduled job of these queues; what moved on is dropped from the top."""
        names = {queue for queue, _ in queues}
        while self._scheduled:
            due, job_id = self._scheduled[0]
            record = self._records.get(job_id)
            if record and record.state is State.SCHEDULED and record.due == due:
                break
            heappop(self._scheduled)
        waiting = (
            due
            for due, job_id in self._scheduled
            if (r := self._records.get(job_id)) and r.state is State.SCHEDULED and r.due == due and r.queue in names
        )
        first = min(waiting, default=None) if len(self._scheduled) <= BATCH else self._scheduled[0][0]
        return None if first is None else max(0.0, first - now.wall)

    def _forget_surplus(self) -> None:
        while len(self._finished) > self._kept:
            job_id = self._finished.popleft()
            record = self._records.get(job_id)
            if record and record.state.finished:
                del self._records[job_id]


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
