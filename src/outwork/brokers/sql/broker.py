"""The verbs of the contract over an SQL database: the state machine once, the database behind `dialect.py`.

What is hot (claim, a successful end, a lease renewed) is a statement over a whole batch. Everything else reads records,
lets the functions of `outwork.job` move them, and writes them: the machine is stated there and nowhere else.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from outwork import codec
from outwork import job as moves
from outwork.brokers import ledger
from outwork.brokers.base import (
    Accepted,
    Broker,
    Claim,
    Exchanged,
    Extended,
    Orders,
    Presence,
    Settlement,
    Share,
    Tended,
)
from outwork.brokers.ledger import Change
from outwork.brokers.sql import foreign
from outwork.brokers.sql.books import is_keyed
from outwork.brokers.sql.claiming import Claiming
from outwork.brokers.sql.connections import Role
from outwork.brokers.sql.dialect import Bell, Database, Interrupted, Transaction
from outwork.brokers.sql.migrate import Step, todo
from outwork.brokers.sql.settling import Contested, Settling
from outwork.brokers.sql.steering import SQLSteering
from outwork.errors import BrokerFull, BrokerUnavailable, NotSerializable, PayloadTooLarge
from outwork.job import Answer, Done, Job, State, Terms

BATCH: Final = 500
"""How many jobs one tend rescues, expires or promotes at most: a write lock held for some 10 ms."""
PRUNE_BATCH: Final = 1000
EXCHANGES_REMEMBERED: Final = 64
BOUND_REMEMBERED: Final = 100_000


class SQLBroker(SQLSteering, Broker):
    """A broker that is its own store, on any database that has a dialect."""

    def __init__(self, database: Database, url: str, terms: Terms) -> None:
        super().__init__(database, url, terms)
        self._exchanges: deque[str] = deque(maxlen=EXCHANGES_REMEMBERED)
        self._bells: dict[tuple[int, Role], Bell] = {}
        self._bound: dict[str, None] = {}
        """Bound jobs that were handed out here: which way to settle them, if that can be known."""
        self._bound_ahead = False

    # ---- enqueue ----------------------------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[Job]) -> list[Accepted]:
        answers: list[Accepted] = [None] * len(jobs)
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
            answered = iter(self._accept(accepted))
            answers = [next(answered) if answer is None else answer for answer in answers]
        return answers

    def _accept(self, jobs: Sequence[tuple[Job, bytes]]) -> Sequence[Accepted]:
        if not any(job.ties is not None for job, _ in jobs):
            self._database.accept(jobs)
            return [None] * len(jobs)
        if is_keyed(jobs) and self._database.accept_keyed(jobs):
            return [None] * len(jobs)
        return self._write(Role.ACCEPT, lambda tx: ledger.enqueue(tx, jobs))

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
        if self._bound_ahead or any(one.job_id in self._bound for one in outcomes):
            return None
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

        def work(tx: Transaction) -> tuple[Exchanged, Claiming, bool]:
            settling = Settling(tx, self.terms, self._database.largest, self._bound)
            answers = (settling.settle_carefully if careful else settling.settle)(outcomes)
            let_go = settling.let_go
            looks = tx.look(names)
            if any(look.wake_in is not None and look.wake_in <= 0 for look in looks):
                let_go += ledger.attend(tx)
                tx.promote(names, BATCH)
                looks = tx.look(names)
            claimed = tx.claimed_by(claim_id) if repeated else []
            claiming = Claiming(tx, self.terms, claim_id, worker)
            if not claimed and limit > 0:
                claimed = claiming.claim(queues, looks, limit, free)
                if claiming.held_back and not claiming.more:
                    looks = tx.look(names)  # for when their gates are to be looked at
            wake = [0.0] if claiming.more else [look.wake_in for look in looks if look.wake_in is not None]
            answer = Exchanged(answers, claimed, max(0.0, min(wake)) if wake else None, let_go > 0)
            return answer, claiming, any(look.bound for look in looks)

        try:
            try:
                answer, claiming, self._bound_ahead = self._write(Role.WORK, work)
            except Contested:
                careful = True
                answer, claiming, self._bound_ahead = self._write(Role.WORK, work)
        except BrokerFull:
            if not outcomes:
                raise
            return Exchanged(self._settle_apart(outcomes), [], None)
        self._remember_bound(claiming.bound, outcomes)
        return answer

    def _remember_bound(self, taken: Iterable[str], outcomes: Sequence[Settlement] = ()) -> None:
        for one in outcomes:
            self._bound.pop(one.job_id, None)
        self._bound.update(dict.fromkeys(taken))
        while len(self._bound) > BOUND_REMEMBERED:  # leases that were lost
            del self._bound[next(iter(self._bound))]

    def _settle_apart(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        """Settle each in a transaction of its own: when the disk is full, a small one may still fit."""
        self._database.relieve()
        answers: list[Answer] = []
        for settlement in outcomes:

            def work(tx: Transaction, one: Settlement = settlement) -> list[Answer]:
                return Settling(tx, self.terms, self._database.largest, ()).settle_carefully([one])

            answers += self._write(Role.WORK, work)
        return answers

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

    def orders(self, worker: str) -> Orders:
        def look(tx: Transaction) -> Orders:
            return Orders(frozenset(tx.named(ledger.PAUSE)), frozenset(tx.stopping(worker)))

        return self._read(look, Role.KEEP)

    def tend(self, presence: Presence | None, *, rescue: bool, dead: Collection[str] = ()) -> Tended:
        def work(tx: Transaction) -> Tended:
            if presence is not None:
                tx.be_present(presence)
            if dead:
                tx.forget_workers(dead)
            tx.forget_silent()
            let_go = ledger.attend(tx)
            promoted = tx.promote(tx.queues(), BATCH)
            ids = tx.lost(rescue, dead, BATCH) if rescue or dead else []
            lost = [Change(r, moves.rescue(r, tx.now, self.terms)) for r in tx.load(ids).values()]
            tx.carry_out(lost)
            late = [Change(r, moves.expire(r, tx.now, self.terms)) for r in tx.load(tx.expired(BATCH)).values()]
            tx.carry_out(late)
            pruned = tx.forget_ended(PRUNE_BATCH)
            tx.forget_cells(PRUNE_BATCH)
            return Tended(
                rescued=len(lost),
                buried=sum(change.after.state is State.FAILED for change in lost),
                expired=len(late),
                pruned=pruned,
                more=max(len(lost), len(late), promoted, let_go) >= BATCH or pruned >= PRUNE_BATCH,
            )

        tended = self._write(Role.KEEP, work)
        self._database.look_around()
        return tended

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
            wake = [look.wake_in for look in looks if look.wake_in is not None]
            if bell.wait(min([left, *wake]), queues):
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

    def _bell(self, role: Role) -> Bell:
        key = os.getpid(), role  # a child of a fork must not read its parent's events
        bell = self._bells.get(key)
        return bell or self._bells.setdefault(key, self._database.bell(role))

    # ---- the schema -------------------------------------------------------------------------------------------------

    def migrate(self, to: int | None = None) -> list[str]:
        """Bring the tables to version `to` (None: the newest), under a lock. The names of the steps taken."""
        return [_title(step) for step in self._database.apply(to)]

    def pending(self) -> list[str]:
        """The names of the steps that `migrate` would take. Changes nothing."""
        return [_title(step) for step in todo(self._database.steps(), self._database.standing(), self.url)]

    def sql(self) -> str:
        """The text of the steps that `migrate` would take, for those who run DDL themselves."""
        missing = todo(self._database.steps(), self._database.standing(), self.url)
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


def _title(step: Step) -> str:
    return f"{step.number:04} {step.name}"
