"""The in-memory broker as a store beside a transport: the executable specification of `Outbox`, and for tests."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from outwork.brokers.base import Claimed, Outbox, Presence, Tended, Ticket
from outwork.brokers.memory import MemoryBroker
from outwork.job import WAITING, Record, State, Terms, claim, claimable, order


class MemoryStore(MemoryBroker, Outbox):
    """Jobs in memory whose messages are elsewhere."""

    def __init__(self, url: str = "memory:", terms: Terms | None = None, *, kept: int = 10_000) -> None:
        super().__init__(url, terms, kept=kept)
        self._since: dict[str, float] = {}
        """When each unsent job began to wait."""
        self._sent: dict[str, float] = {}
        """When the message of each other waiting job was sent."""

    def unsent(self, horizon: float, grace: float, stale: float, limit: int) -> list[Ticket]:
        with self._changed:
            wall = self._moment().wall
            for job_id in [job_id for job_id, at in self._sent.items() if at <= wall - stale]:
                del self._sent[job_id]
                self._since[job_id] = 0.0
            waiting = sorted((self._records[job_id] for job_id in self._since), key=order)
            found: list[Ticket] = []
            for record in waiting:
                since = self._since[record.id]
                if record.due <= wall + horizon and max(since, record.due - horizon) <= wall - grace * (since > 0):
                    delay = max(0.0, record.due - wall)
                    found.append(Ticket(record.id, record.queue, record.priority, delay, record.solo))
            return found[:limit]

    def mark_sent(self, ids: Sequence[str]) -> None:
        with self._changed:
            wall = self._moment().wall
            for job_id in ids:
                if self._since.pop(job_id, None) is not None:
                    self._sent[job_id] = wall

    def claim_these(self, claim_id: str, ids: Sequence[str], worker: str) -> list[Claimed]:
        with self._changed:
            now = self._moment()
            self._promote(now)
            taken: list[Record] = []
            for job_id in ids:
                record = self._records.get(job_id)
                if record is None:
                    continue
                if claimable(record, now):
                    record = claim(record, claim_id, worker, now, self.terms.lease)
                    self._put(record)
                    taken.append(record)
                elif record.state in WAITING and self._sent.pop(job_id, None) is not None:
                    self._since[job_id] = now.wall
            return [Claimed(r.id, claim_id, r.body, r.failures, r.crashes, r.misses, r.errors) for r in taken]

    def tend(self, presence: Presence | None, *, rescue: bool, dead: Collection[str] = ()) -> Tended:
        with self._changed:
            running = set(self._running)
            tended = super().tend(presence, rescue=rescue, dead=dead)
            for job_id in running & self._since.keys():
                self._since[job_id] = 0.0
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
        for marks in (self._since, self._sent):
            for job_id in [job_id for job_id in marks if job_id not in self._records]:
                del marks[job_id]

    def _put(self, record: Record) -> None:
        before = self._records.get(record.id)
        super()._put(record)
        if record.state not in WAITING:
            self._since.pop(record.id, None)
            self._sent.pop(record.id, None)
        elif before is None or before.state not in WAITING:
            self._since[record.id] = self._moment().wall
