"""The in-memory broker as a store beside a transport: the executable specification of `Outbox`, and for tests."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from outwork.brokers.base import SENDABLE, Claimed, Outbox, Pace, Presence, Tended, Ticket
from outwork.brokers.ledger import pass_gates
from outwork.brokers.memory import MemoryBroker
from outwork.job import Record, State, Terms, claim, claimable, order


class MemoryStore(MemoryBroker, Outbox):
    """Jobs in memory whose messages are elsewhere."""

    def __init__(self, url: str = "memory:", terms: Terms | None = None, *, kept: int = 10_000) -> None:
        super().__init__(url, terms, kept=kept)
        self._pace: Pace | None = None
        self._send_at: dict[str, float] = {}
        """When a keeper is to send each waiting job, again or for the first time."""

    def keep_outbox(self, pace: Pace) -> None:
        with self._changed:
            for record in self._shelf.records.values() if self._pace is None else ():
                if record.state in SENDABLE:
                    self._send_at[record.id] = pace.send_at(self._moment().wall, record.due, grace=False)
            self._pace = pace

    def unsent(self, limit: int) -> list[Ticket]:
        with self._changed:
            wall = self._moment().wall
            longest = sorted((at, job_id) for job_id, at in self._send_at.items() if at <= wall)[:limit]
            return [
                Ticket(record.id, record.queue, record.priority, max(0.0, record.due - wall), record.solo)
                for record in sorted((self._shelf.records[job_id] for _, job_id in longest), key=order)
            ]

    def mark_sent(self, ids: Sequence[str]) -> None:
        with self._changed:
            wall = self._moment().wall
            for job_id in self._send_at.keys() & ids:
                assert self._pace is not None
                self._send_at[job_id] = wall + self._pace.stale

    def claim_these(self, claim_id: str, ids: Sequence[str], worker: str) -> list[Claimed]:
        with self._changed:
            now = self._moment()
            self._promote()
            taken: list[Record] = []
            for job_id in dict.fromkeys(ids):
                record = self._shelf.records.get(job_id)
                if record is None:
                    continue
                if claimable(record, now):
                    if record.ties is not None and (kept := pass_gates(self._shelf, [record])[1]):
                        self._put(kept[0].after)
                        continue
                    record = claim(record, claim_id, worker, now, self.terms.lease)
                    self._put(record)
                    taken.append(record)
                elif record.state is State.RUNNING and record.claim_id == claim_id:
                    taken.append(record)
                elif record.state in SENDABLE and self._pace is not None:
                    self._send_at[job_id] = self._pace.send_at(now.wall, record.due)
            return [Claimed(r.id, claim_id, r.body, r.failures, r.crashes, r.misses, r.errors) for r in taken]

    def tend(self, presence: Presence | None, *, rescue: bool, dead: Collection[str] = ()) -> Tended:
        with self._changed:
            tended = super().tend(presence, rescue=rescue, dead=dead)
            self._forget_marks()
            return tended

    def clear(self) -> None:
        with self._changed:
            super().clear()
            self._forget_marks()

    def delete(self, ids: Sequence[str]) -> list[State | None]:
        with self._changed:
            states = super().delete(ids)
            self._forget_marks()
            return states

    def _forget_marks(self) -> None:
        for job_id in self._send_at.keys() - self._shelf.records.keys():
            del self._send_at[job_id]

    def _put(self, record: Record) -> None:
        before = self._shelf.records.get(record.id)
        super()._put(record)
        if self._shelf.records.get(record.id) is not record:
            return  # let go at once
        if record.state not in SENDABLE:
            self._send_at.pop(record.id, None)
        elif self._pace is not None and (before is None or before.state not in SENDABLE):
            held = before is not None and before.state is State.HELD
            again = before is not None and (held or before.state.finished or record.crashes > before.crashes)
            self._send_at[record.id] = self._pace.send_at(self._shelf.now.wall, record.due, grace=not again)
