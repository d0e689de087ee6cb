"""The verbs of the contract over an SQL database: the state machine once, the database behind `dialect.py`.

What is hot (claim, a successful end, a lease renewed) is a statement over a whole batch. Everything else reads records,
lets the functions of `outwork.job` move them, and writes them: the machine is stated there and nowhere else.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeVar

from outwork import codec
from outwork import job as moves
from outwork.brokers.base import (
    Broker,
    Claim,
    Claimed,
    Count,
    Exchanged,
    Extended,
    Filter,
    Page,
    Presence,
    Settlement,
    Share,
    Store,
    Tended,
)
from outwork.brokers.sql import foreign
from outwork.brokers.sql.connections import Role
from outwork.brokers.sql.dialect import Bell, Change, Database, Interrupted, Look, Transaction
from outwork.brokers.sql.migrate import Step, todo
from outwork.brokers.sql.outcomes import writable
from outwork.errors import BrokerFull, BrokerUnavailable, EnqueueError, NotSerializable, PayloadTooLarge
from outwork.job import Answer, Done, Job, Moment, Record, State, Terms

T = TypeVar("T")

BATCH: Final = 500
"""How many jobs one tend rescues, expires or promotes at most: a write lock held for some 10 ms."""
PRUNE_BATCH: Final = 1000
EXCHANGES_REMEMBERED: Final = 64


class _Contested(Exception):
    """The quick way found a claim that does not hold its job: start again, one by one."""


class SQLBroker(Broker, Store):
    """A broker that is its own store, on any database that has a dialect."""

    def __init__(self, database: Database, url: str, terms: Terms) -> None:
        self.url = url
        self.terms = terms
        self._database = database
        self._exchanges: deque[str] = deque(maxlen=EXCHANGES_REMEMBERED)
        self._bells: dict[tuple[int, Role], Bell] = {}
        self._closed = False

    # ---- enqueue ----------------------------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[Job]) -> list[EnqueueError | None]:
        answers: list[EnqueueError | None] = [None] * len(jobs)
        accepted: list[tuple[Job, bytes]] = []
        for index, job in enumerate(jobs):
            try:
                body = codec.encode_job(job)
            except (TypeError, ValueError) as error:  # a lone surrogate in a text, say
                answers[index] = NotSerializable(f"job {job.id} of {job.task} cannot be written: {error}")
                continue
            if len(body) > self._database.largest:
                answers[index] = PayloadTooLarge(
                    f"job {job.id} of {job.task} has {len(body)} bytes; {self.url} takes {self._database.largest}"
                )
                continue
            accepted.append((job, body))
        if accepted:
            self._database.reserve(sum(len(body) for _, body in accepted))
            self._refuse_if_closed()
            self._database.accept(accepted)
        return answers

    def enqueue_on(self, connection: object, jobs: Sequence[Job]) -> None:
        """Write jobs by a connection of the caller's, in its transaction, all or none."""
        self._refuse_if_closed()
        foreign.enqueue(self._database, self.url, connection, jobs)

    async def aenqueue_on(self, connection: object, jobs: Sequence[Job]) -> None:
        """The same by an asynchronous one."""
        self._refuse_if_closed()
        await foreign.aenqueue(self._database, self.url, connection, jobs)

    # ---- exchange ---------------------------------------------------------------------------------------------------

    def exchange(
        self,
        claim_id: str,
        outcomes: Sequence[Settlement],
        queues: Sequence[Share],
        limit: int,
        free: int,
        worker: str,
    ) -> Exchanged:
        # No index on claim ids: only an id that was sent before, or the first one of this object (it may stand in for
        # one that broke), can hold jobs already.
        repeated = claim_id in self._exchanges or not self._exchanges
        if claim_id not in self._exchanges:
            self._exchanges.append(claim_id)
        try:
            if not repeated and (swapped := self._swap(claim_id, outcomes, queues, limit, free, worker)):
                return swapped
            return self._exchange(claim_id, outcomes, queues, limit, free, worker, repeated)
        except Interrupted:  # an idle connection that the server had closed, most likely: once more, as a repetition
            return self._exchange(claim_id, outcomes, queues, limit, free, worker, True)

    def _swap(
        self,
        claim_id: str,
        outcomes: Sequence[Settlement],
        queues: Sequence[Share],
        limit: int,
        free: int,
        worker: str,
    ) -> Exchanged | None:
        """The exchange of one round trip, where all went well and the database can do it."""
        largest = self._database.largest
        if any(type(one.outcome) is not Done or len(one.outcome.result) > largest for one in outcomes):
            return None
        if len({one.job_id for one in outcomes}) != len(outcomes):
            return None
        self._refuse_if_closed()
        swap = self._database.swap(claim_id, outcomes, queues, limit, free, worker)
        if swap is None:
            return None
        if not swap.care:
            due = None if swap.due_in is None else max(0.0, swap.due_in)
            return Exchanged([Answer.DONE] * len(outcomes), swap.claimed, due)
        settled = {one.job_id for one in outcomes} if swap.settled is None else swap.settled
        rest = [one for one in outcomes if one.job_id not in settled]
        more = self._exchange(claim_id, rest, queues, limit, free, worker, False)
        told = iter(more.answers)
        return more._replace(answers=[Answer.DONE if one.job_id in settled else next(told) for one in outcomes])

    def _exchange(
        self,
        claim_id: str,
        outcomes: Sequence[Settlement],
        queues: Sequence[Share],
        limit: int,
        free: int,
        worker: str,
        repeated: bool,
    ) -> Exchanged:
        names = [queue for queue, _ in queues]
        careful = False

        def work(tx: Transaction) -> Exchanged:
            answers = (self._settle_carefully if careful else self._settle)(tx, outcomes)
            looks = tx.look(names)
            if any(look.due_in is not None and look.due_in <= 0 for look in looks):
                tx.promote(names, BATCH)
                looks = tx.look(names)
            claimed = tx.held(claim_id) if repeated else []
            if not claimed and limit > 0:
                claimed = self._claim(tx, claim_id, queues, looks, limit, free, worker)
            due = [look.due_in for look in looks if look.due_in is not None]
            return Exchanged(answers, claimed, max(0.0, min(due)) if due else None)

        try:
            return self._write(Role.WORK, work)
        except _Contested:
            careful = True
            return self._write(Role.WORK, work)
        except BrokerFull:
            if not outcomes:
                raise
            return Exchanged(self._settle_apart(outcomes), [], None)

    def _settle(self, tx: Transaction, outcomes: Sequence[Settlement]) -> list[Answer]:
        """Settle the successful ones by their claim, a statement or two for each, and the others one by one."""
        if len({settlement.job_id for settlement in outcomes}) != len(outcomes):
            raise _Contested
        groups: dict[tuple[str, float | None], dict[str, bytes]] = {}
        rest: list[Settlement] = []
        for settlement in outcomes:
            job_id, claim_id, outcome = settlement
            if type(outcome) is Done:
                groups.setdefault((claim_id, outcome.keep), {})[job_id] = outcome.result
            else:
                rest.append(settlement)
        for (claim_id, keep), results in groups.items():
            lasting = max(self.terms.keep if keep is None else keep, moves.TOMBSTONE_SECONDS)
            try:
                done = tx.succeed(claim_id, results, tx.now.wall + lasting)
            except ValueError as error:
                raise _Contested from error
            if done != len(results):
                raise _Contested
        if not rest:
            return [Answer.DONE] * len(outcomes)
        if len(rest) == len(outcomes):
            return self._settle_carefully(tx, rest)
        answers = iter(self._settle_carefully(tx, rest))
        return [Answer.DONE if type(one.outcome) is Done else next(answers) for one in outcomes]

    def _settle_carefully(self, tx: Transaction, outcomes: Sequence[Settlement]) -> list[Answer]:
        """Settle in order, by the machine; a job may be there twice."""
        before = tx.load(dict.fromkeys(job_id for job_id, _, _ in outcomes))
        after = dict(before)
        answers: list[Answer] = []
        for job_id, claim_id, outcome in outcomes:
            record = after.get(job_id)
            if record is None:
                answers.append(Answer.STALE)
                continue
            after[job_id], answer = moves.settle(
                record, claim_id, writable(outcome, record, tx.now, self._database.largest), tx.now, self.terms
            )
            answers.append(answer)
        tx.move([Change(record, after[job_id]) for job_id, record in before.items() if after[job_id] is not record])
        return answers

    def _settle_apart(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        """Settle each in a transaction of its own: when the disk is full, a small one may still fit."""
        self._database.relieve()
        answers: list[Answer] = []
        for settlement in outcomes:
            answers += self._write(Role.WORK, lambda tx, one=settlement: self._settle_carefully(tx, [one]))  # type: ignore[misc]
        return answers

    def _claim(
        self,
        tx: Transaction,
        claim_id: str,
        queues: Sequence[Share],
        looks: Sequence[Look],
        limit: int,
        free: int,
        worker: str,
    ) -> list[Claimed]:
        by_queue = {look.queue: look for look in looks}
        until = tx.now.steady + self.terms.lease
        claimed: list[Claimed] = []
        for queue, share in queues:
            look, most = by_queue[queue], min(share, limit - len(claimed))
            if most <= 0:
                continue
            if look.solo and free > 0:
                mixed = tx.mix(queue, most, free)
                free -= sum(solo for _, solo in mixed)
                claimed += tx.take_these([job_id for job_id, _ in mixed], claim_id, worker, until)
            elif look.common:
                claimed += tx.take(queue, most, claim_id, worker, until)
        return claimed

    # ---- leases and housekeeping ------------------------------------------------------------------------------------

    def extend(self, claims: Sequence[Claim]) -> Extended:
        rounds: list[dict[str, Claim]] = []  # a job may be there under two claims: no job twice in a round
        for claim in claims:
            for one in rounds:
                if claim.job_id not in one:
                    one[claim.job_id] = claim
                    break
            else:
                rounds.append({claim.job_id: claim})

        def work(tx: Transaction) -> Extended:
            lost: set[str] = set()
            held: set[str] = set()
            for one in rounds:
                missed = tx.extend(list(one.values()), tx.now.steady + self.terms.lease)
                lost |= missed
                held |= one.keys() - missed
            return Extended(frozenset(lost), frozenset(tx.cancelling() & held))

        return self._write(Role.KEEP, work) if claims else Extended(frozenset(), frozenset())

    def tend(self, presence: Presence | None, *, rescue: bool, dead: Collection[str] = ()) -> Tended:
        def work(tx: Transaction) -> Tended:
            if presence is not None:
                tx.be_present(presence)
            if dead:
                tx.forget_workers(dead)
            tx.forget_silent()
            promoted = tx.promote(tx.queues(), BATCH)
            ids = tx.lost(rescue, dead, BATCH) if rescue or dead else []
            lost = [Change(r, moves.rescue(r, tx.now, self.terms)) for r in tx.load(ids).values()]
            tx.move(lost)
            late = [Change(r, moves.expire(r, tx.now, self.terms)) for r in tx.load(tx.expired(BATCH)).values()]
            tx.move(late)
            pruned = tx.forget_ended(PRUNE_BATCH)
            return Tended(
                rescued=len(lost),
                buried=sum(change.after.state is State.FAILED for change in lost),
                expired=len(late),
                pruned=pruned,
                more=max(len(lost), len(late), promoted) >= BATCH or pruned >= PRUNE_BATCH,
            )

        return self._write(Role.KEEP, work)

    def leave(self, worker: str) -> None:
        self._write(Role.KEEP, lambda tx: tx.forget_workers([worker]))

    def workers(self) -> list[Presence]:
        return self._read(lambda tx: tx.workers())

    # ---- waiting ----------------------------------------------------------------------------------------------------

    def wait(self, queues: Sequence[str], timeout: float) -> bool:
        try:
            return self._wait(queues, timeout)
        except BrokerUnavailable:
            if self._closed:  # meanwhile
                return False
            raise

    def _wait(self, queues: Sequence[str], timeout: float) -> bool:
        bell = self._bell(Role.LISTEN)
        bell.start()
        deadline = time.monotonic() + timeout
        while not self._closed:
            if bell.rung():
                return False
            bell.mark()
            looks = self._read(lambda tx: tx.look(queues), Role.LISTEN)
            if any(look.work for look in looks):
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            due = [look.due_in for look in looks if look.due_in is not None]
            if bell.wait(min([left, *due]), queues):
                return True
        return False

    def interrupt(self) -> None:
        self._bell(Role.LISTEN).ring()

    def wait_result(self, ids: Collection[str], timeout: float) -> set[str]:
        try:
            return self._wait_result(ids, timeout)
        except BrokerUnavailable:
            if self._closed:
                return set()
            raise

    def _wait_result(self, ids: Collection[str], timeout: float) -> set[str]:
        bell = self._bell(Role.RESULT)
        bell.start()
        deadline = time.monotonic() + timeout
        while not self._closed:
            if bell.rung():
                return set()
            bell.mark()
            ended = self._read(lambda tx: tx.ended(ids), Role.RESULT)
            left = deadline - time.monotonic()
            if ended or left <= 0:
                return ended
            bell.wait(left)
        return set()

    def interrupt_wait_result(self) -> None:
        self._bell(Role.RESULT).ring()

    # ---- the store --------------------------------------------------------------------------------------------------

    def queues(self) -> list[str]:
        return sorted(self._read(lambda tx: tx.queues()))

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        found = self._read(lambda tx: tx.load(dict.fromkeys(ids)))
        return [found.get(job_id) for job_id in ids]

    def find(self, which: Filter, limit: int = 50, cursor: str | None = None) -> Page:
        records = self._read(lambda tx: tx.find(which, limit + 1, cursor))
        return Page(records[:limit], records[limit - 1].id if len(records) > limit else None)

    def counts(self) -> list[Count]:
        tally: Counter[tuple[str, str, State]] = Counter()
        for queue, task, state, jobs in self._read(lambda tx: tx.counts()):
            tally[queue, task, state] += jobs
        return [Count(queue, task, state, jobs) for (queue, task, state), jobs in sorted(tally.items()) if jobs]

    def cancel(self, ids: Sequence[str]) -> list[State | None]:
        return self._steer(ids, lambda record, now: moves.cancel(record, now, self.terms))

    def retry(self, ids: Sequence[str]) -> list[State | None]:
        return self._steer(ids, lambda record, now: moves.retry(record, now) or record)

    def _steer(self, ids: Sequence[str], move: Callable[[Record, Moment], Record]) -> list[State | None]:
        def work(tx: Transaction) -> list[State | None]:
            before = tx.load(dict.fromkeys(ids))
            after = {job_id: move(record, tx.now) for job_id, record in before.items()}
            tx.move([Change(record, after[job_id]) for job_id, record in before.items() if after[job_id] is not record])
            return [after[job_id].state if job_id in after else None for job_id in ids]

        return self._write(Role.ACCEPT, work)

    def delete(self, ids: Sequence[str]) -> list[State | None]:
        def work(tx: Transaction) -> list[State | None]:
            found = tx.load(dict.fromkeys(ids))
            tx.delete([record.id for record in found.values() if record.state is not State.RUNNING])
            states: list[State | None] = []
            for job_id in ids:
                record = found.get(job_id)
                states.append(record.state if record else None)
                if record and record.state is not State.RUNNING:
                    del found[job_id]  # named twice: the second time it is not there any more
            return states

        return self._write(Role.ACCEPT, work)

    def prune(
        self, which: Filter, *, older_than: float, failed_older_than: float, limit: int = 1000, dry_run: bool = False
    ) -> int:
        wall = self.now()
        ended_by, failed_by = wall - older_than, wall - failed_older_than
        if dry_run:
            return len(self._read(lambda tx: tx.old(which, ended_by, failed_by, None)))
        # Looked for outside the write lock, which nobody should hold for the length of a search.
        old = self._read(lambda tx: tx.old(which, ended_by, failed_by, limit))

        def work(tx: Transaction) -> int:
            still = [record.id for record in tx.load(old).values() if record.state.finished]
            tx.delete(still)
            return len(still)

        return self._write(Role.ACCEPT, work) if old else 0

    # ---- the schema -------------------------------------------------------------------------------------------------

    def migrate(self, to: int | None = None) -> list[str]:
        """Bring the tables to version `to` (None: the newest), under a lock. The names of the steps taken."""
        return [_title(step) for step in self._database.apply(to)]

    def pending(self) -> list[str]:
        """The names of the steps that `migrate` would take. Changes nothing."""
        return [_title(step) for step in todo(self._database.steps(), self._database.version(), self.url)]

    def sql(self) -> str:
        """The text of the steps that `migrate` would take, for those who run DDL themselves."""
        missing = todo(self._database.steps(), self._database.version(), self.url)
        return "\n".join(f"-- {_title(step)}\n{step.sql}" for step in missing)

    def identity(self) -> str:
        """The random id that tells this set of tables from every other."""
        return self._database.identity()

    def close(self) -> None:
        self._closed = True
        for (pid, _), bell in list(self._bells.items()):
            if pid == os.getpid():
                bell.close()
        self._bells.clear()
        self._database.close()

    # ---- within -----------------------------------------------------------------------------------------------------

    def _write(self, role: Role, work: Callable[[Transaction], T]) -> T:
        self._refuse_if_closed()
        return self._database.write(role, work)

    def _read(self, work: Callable[[Transaction], T], role: Role = Role.READ) -> T:
        self._refuse_if_closed()
        return self._database.read(role, work)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise BrokerUnavailable(f"{self.url} was closed in this process")

    def _bell(self, role: Role) -> Bell:
        key = os.getpid(), role  # a child of a fork must not read its parent's events
        bell = self._bells.get(key)
        return bell or self._bells.setdefault(key, self._database.bell(role))


def _title(step: Step) -> str:
    return f"{step.number:04} {step.name}"
