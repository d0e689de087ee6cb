"""A store beside a pure transport: any broker that only carries messages gets results, cancel, leases and fencing.

The store keeps the records and decides; the transport says who looks at which job next.

    enqueue    record written (unsent) ──> message published and confirmed ──> record marked sent
    claim      message delivered ──> compare-and-set in the store ──> run, or acknowledged and dropped
    settle     state and result in one write ──> message acknowledged; what is to run again is unsent: next message
    tend       what stays unsent is sent again; what is due much later waits in the store, and is sent when it is near

So nothing that the transport loses, delivers twice or delivers late does harm: a message is only a ticket.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from os import urandom
from threading import Lock
from time import monotonic
from typing import Final, NoReturn

from msgspec import Raw
from msgspec.structs import replace

from outwork.brokers.base import (
    SENDABLE,
    Accepted,
    Broker,
    Capabilities,
    Claim,
    Claimed,
    Count,
    Exchanged,
    Extended,
    Filter,
    JoinsTransactions,
    Orders,
    Outbox,
    Pace,
    Page,
    Presence,
    Report,
    Settlement,
    Share,
    Store,
    Tended,
    Ticket,
)
from outwork.brokers.courier import Courier
from outwork.errors import BrokerFull, BrokerUnavailable, EnqueueError, SettingsError, Unsupported
from outwork.ids import new_claim_id
from outwork.job import WIRE_VERSION, Again, Answer, Done, Job, Record, Release, State, Terms

logger = logging.getLogger("outwork.brokers")

BATCH: Final = 1000
NEVER_SPENT: Final = 2**31 - 1
COMPLAIN_EVERY: Final = 60.0
ROUNDS: Final = 3
MARK: Final = "."
EMPTY: Final = Raw(b"{}")


class PairedBroker(Broker, Store):
    """A transport and a store as one broker."""

    def __init__(self, transport: Broker, store: Broker) -> None:
        if not (isinstance(store, Store) and isinstance(store, Outbox)):
            raise SettingsError(f"{store.url} cannot be a store beside {transport.url}: it keeps no outbox")
        self._transport = transport
        self._broker = store
        self._store: Store = store
        self._outbox: Outbox = store
        self._pace = Pace()
        store.keep_outbox(self._pace)
        self._tickets: dict[str, Claim] = {}
        """The ticket of each job in hand."""
        self._lock = Lock()
        self._courier = Courier(self._send_committed)
        self._complained_at = 0.0
        self._away = False
        self.url = f"{transport.url} with {store.url}"
        self.terms = store.terms
        self.runs_in = transport.runs_in
        self.embedding = transport.embedding
        self.capabilities = together(transport.capabilities, store.capabilities)

    @classmethod
    def from_url(cls, url: str, terms: Terms | None = None) -> NoReturn:
        raise SettingsError("a pair is made of broker_url and store_url, not of one URL")

    # ---- sending ----------------------------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[Job]) -> list[Accepted]:
        answers = self._broker.enqueue(jobs)
        now = self.now()
        tickets: list[Ticket] = []
        bound: list[str] = []
        """Where the store has to be asked whether they are held, or have a new time."""
        places: dict[str, int] = {}
        for place, (job, answer) in enumerate(zip(jobs, answers, strict=True)):
            delay = job.delay if job.delay is not None else 0.0 if job.due is None else max(0.0, job.due - now)
            if job.ties is not None and job.ties.bound_at_enqueue and not isinstance(answer, EnqueueError):
                bound.append(job.id if answer is None else answer.job_id)
            elif answer is None and delay <= self._pace.horizon and job.id not in places:
                places[job.id] = place
                tickets.append(Ticket(job.id, job.queue, job.priority, delay, job.at_most_once))
        refused = self._send(tickets)
        self._send_waiting(bound)
        if refused:
            self._store.delete(list(refused))
            for job_id, error in refused.items():
                answers[places[job_id]] = error
        return answers

    def enqueue_on(self, connection: object, jobs: Sequence[Job]) -> None:
        """Write jobs by a connection of the caller's, in its transaction; they are sent when it has been committed."""
        self._joins().enqueue_on(connection, jobs)
        self._courier.expect(job.id for job in jobs)

    async def aenqueue_on(self, connection: object, jobs: Sequence[Job]) -> None:
        """The same by an asynchronous one."""
        await self._joins().aenqueue_on(connection, jobs)
        self._courier.expect(job.id for job in jobs)

    def _joins(self) -> JoinsTransactions:
        if not isinstance(self._broker, JoinsTransactions):
            raise Unsupported(f"{self._broker.url} joins no transaction of yours. Nothing was enqueued")
        return self._broker

    def _send_committed(self, ids: Collection[str]) -> list[str]:
        """Send those of these jobs that the store has by now: which these are."""
        there = [record.id for record in self._store.get(list(ids)) if record is not None]
        self._send_waiting(there)
        return there

    def _send(self, tickets: Sequence[Ticket]) -> dict[str, EnqueueError]:
        """Publish and mark as sent; those that the transport refuses for good. When it is away or full nothing is lost:
        the records stay unsent."""
        if not tickets:
            return {}
        defer = self._transport.capabilities.defer
        sendable = [ticket for ticket in tickets if defer or ticket.delay <= 0]
        try:
            answers = self._transport.enqueue([_message(ticket) for ticket in sendable])
        except (BrokerUnavailable, BrokerFull) as error:
            self._complain(error)
            return {}
        sent: list[str] = []
        refused: dict[str, EnqueueError] = {}
        for ticket, answer in zip(sendable, answers, strict=True):
            if answer is None:
                sent.append(ticket.job_id)
            elif isinstance(answer, BrokerFull):
                self._complain(answer)
            elif isinstance(answer, EnqueueError):
                refused[ticket.job_id] = answer
        self._outbox.mark_sent(sent)
        return refused

    def _send_unsent(self) -> bool:
        """Send what others should have sent, and what comes near; whether there may be more to send at once."""
        tickets = self._outbox.unsent(BATCH)
        self._away = False
        for job_id, error in self._send(tickets).items():
            logger.error("job %s cannot be sent: %s", job_id, error)
        return len(tickets) == BATCH and not self._away

    def _complain(self, error: Exception) -> None:
        self._away = True
        now = monotonic()
        if now - self._complained_at >= COMPLAIN_EVERY:
            self._complained_at = now
            logger.warning("jobs wait in %s until they can be sent: %s", self._broker.url, error)

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
        settled = self._broker.exchange(claim_id, outcomes, queues, 0, 0, worker)
        if outcomes:
            self._send_again(outcomes, settled.answers)
        if settled.let_go:
            self._send_unsent()
        tickets = self._returned(one.job_id for one in outcomes)
        claimed = settled.claimed
        if claimed or limit <= 0:
            if tickets:
                self._transport.exchange(new_claim_id(), tickets, [], 0, 0, worker)
            return settled
        for _ in range(ROUNDS):
            room = limit - len(claimed)
            found = self._transport.exchange(new_claim_id(), tickets, queues, room, min(free, room), worker).claimed
            tickets = []
            if not found:
                break
            taken = self._take(claim_id, found, {one.id for one in claimed}, worker)
            tickets = self._keep(found, taken)
            claimed += taken
            if not tickets:
                break
        if tickets:
            self._transport.exchange(new_claim_id(), tickets, [], 0, 0, worker)
        return Exchanged(settled.answers, claimed, settled.next_due)

    def _take(self, claim_id: str, found: Sequence[Claimed], known: Collection[str], worker: str) -> list[Claimed]:
        """Claim in the store what was delivered, but for the `known` jobs, which this claim has in hand. If the store
        cannot be asked, the messages come again."""
        wanted = [job_id for one in found if (job_id := _job_id(one)) not in known]
        try:
            return self._outbox.claim_these(claim_id, wanted, worker) if wanted else []
        except BaseException:
            back = [Settlement(one.id, one.claim_id, Release()) for one in found]
            self._transport.exchange(new_claim_id(), back, [], 0, 0, worker)
            raise

    def _send_again(self, outcomes: Sequence[Settlement], answers: Sequence[Answer]) -> None:
        """The next message of what is to run again soon."""
        again = [
            one.job_id
            for one, answer in zip(outcomes, answers, strict=True)
            if answer is Answer.DONE
            and isinstance(one.outcome, Again | Release)
            and one.outcome.delay <= self._pace.horizon
        ]
        self._send_waiting(again)

    def _send_waiting(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        now = self.now()
        soon = now + self._pace.horizon
        found = self._store.get(ids)
        self._send([_ticket(r, now) for r in found if r is not None and r.state in SENDABLE and r.due <= soon])

    def _returned(self, ids: Iterable[str]) -> list[Settlement]:
        """The tickets of jobs that are settled, to be acknowledged."""
        with self._lock:
            found = [ticket for job_id in ids if (ticket := self._tickets.pop(job_id, None)) is not None]
        return [Settlement(job_id, claim_id, Done(b"")) for job_id, claim_id in found]

    def _keep(self, found: Sequence[Claimed], taken: Sequence[Claimed]) -> list[Settlement]:
        """Remember the tickets of what is claimed; the others are dropped."""
        ids = {one.id for one in taken}
        dropped: list[Settlement] = []
        with self._lock:
            for one in found:
                job_id = _job_id(one)
                if job_id in ids:
                    ids.discard(job_id)  # a second message of the same job is dropped
                    self._tickets[job_id] = Claim(one.id, one.claim_id)
                else:
                    dropped.append(Settlement(one.id, one.claim_id, Done(b"")))
        return dropped

    # ---- the other verbs --------------------------------------------------------------------------------------------

    def extend(self, claims: Sequence[Claim]) -> Extended:
        """The store says who holds what; the transport is only told that its messages are still in hand."""
        answer = self._broker.extend(claims)
        with self._lock:
            tickets = [ticket for job_id, _ in claims if (ticket := self._tickets.get(job_id)) is not None]
        try:
            self._transport.extend(tickets)
        except (BrokerUnavailable, BrokerFull) as error:
            self._complain(error)
        return answer

    def tend(self, presence: Presence | None, *, rescue: bool, dead: Collection[str] = ()) -> Tended:
        tended = self._broker.tend(presence, rescue=rescue, dead=dead)
        more = self._send_unsent()
        try:
            more |= self._transport.tend(None, rescue=rescue, dead=dead).more
        except (BrokerUnavailable, BrokerFull) as error:
            self._complain(error)
        return replace(tended, more=tended.more or more)

    def leave(self, worker: str) -> None:
        self._broker.leave(worker)
        self._transport.leave(worker)

    def workers(self) -> list[Presence]:
        return self._broker.workers()

    def wait(self, queues: Sequence[str], timeout: float) -> bool:
        return self._transport.wait(queues, timeout)

    def interrupt(self) -> None:
        self._transport.interrupt()

    def queues(self) -> list[str]:
        return sorted({*self._broker.queues(), *self._transport.queues()})

    def close(self) -> None:
        self._courier.close()
        self._transport.close()
        self._broker.close()

    def now(self) -> float:
        return self._broker.now()

    @property
    def clock_offset(self) -> float:
        return self._broker.clock_offset

    @clock_offset.setter
    def clock_offset(self, seconds: float) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._broker.clock_offset = self._transport.clock_offset = seconds

    # ---- the store --------------------------------------------------------------------------------------------------

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        return self._store.get(ids)

    def ends(self, ids: Sequence[str]) -> list[Record | None]:
        return self._store.ends(ids)

    def find(self, which: Filter, limit: int = 50, cursor: str | None = None) -> Page:
        return self._store.find(which, limit, cursor)

    def counts(self) -> list[Count]:
        return self._store.counts()

    def cancel(self, ids: Sequence[str]) -> list[State | None]:
        states = self._store.cancel(ids)
        self._send_unsent()  # what was held until these had ended
        return states

    def retry(self, ids: Sequence[str]) -> list[State | None]:
        states = self._store.retry(ids)
        self._send_waiting([job_id for job_id, state in zip(ids, states, strict=True) if state is State.READY])
        return states

    def delete(self, ids: Sequence[str]) -> list[State | None]:
        states = self._store.delete(ids)
        self._send_unsent()
        return states

    def prune(
        self, which: Filter, *, older_than: float, failed_older_than: float, limit: int = 1000, dry_run: bool = False
    ) -> int:
        return self._store.prune(
            which, older_than=older_than, failed_older_than=failed_older_than, limit=limit, dry_run=dry_run
        )

    def orders(self, worker: str) -> Orders:
        return self._broker.orders(worker)

    def pause(self, what: str) -> None:
        self._store.pause(what)

    def resume(self, what: str) -> None:
        self._store.resume(what)
        self._send_unsent()

    def report(self, reports: Sequence[Report]) -> None:
        self._store.report(reports)

    def progress(self, ids: Sequence[str]) -> list[bytes | None]:
        return self._store.progress(ids)

    def tick(self, schedule: str, last: float | None, slot: float, jobs: Sequence[Job]) -> bool:
        ticked = self._store.tick(schedule, last, slot, jobs)
        if ticked:
            self._send_waiting([job.id for job in jobs])
        return ticked

    def schedules(self) -> dict[str, float]:
        return self._store.schedules()

    def wait_result(self, ids: Collection[str], timeout: float) -> set[str]:
        return self._store.wait_result(ids, timeout)

    def interrupt_wait_result(self) -> None:
        self._store.interrupt_wait_result()


def together(transport: Capabilities, store: Capabilities) -> Capabilities:
    """What a pair can do: the store keeps, the transport orders and wakes."""
    return replace(
        store,
        durable=store.durable,
        priority_levels=min(transport.priority_levels, store.priority_levels),
        push=transport.push,
        shared=transport.shared and store.shared,
        ordered=False,
        fair=False,
    )


def _ticket(record: Record, now: float) -> Ticket:
    return Ticket(record.id, record.queue, record.priority, max(0.0, record.due - now), record.solo)


def _job_id(claimed: Claimed) -> str:
    """The job for which this message was sent."""
    return claimed.id.partition(MARK)[0]


def _message(ticket: Ticket) -> Job:
    """A job without content, which the transport never buries: the store counts what it has been through. One that is
    claimed for a free slot only says that it is to be delivered at most once. Without a task it need not be: its worker
    may die before it has asked the store, which would know of no loss for an hour. Each message has an id of its own:
    the next one of a job may come while this one is in hand."""
    return Job(
        v=WIRE_VERSION,
        id=f"{ticket.job_id}{MARK}{urandom(4).hex()}",
        task="",
        args=EMPTY,
        queue=ticket.queue,
        priority=ticket.priority,
        delay=ticket.delay if ticket.delay > 0 else None,
        max_crashes=NEVER_SPENT,
        at_most_once=ticket.solo,
    )
