"""Looking up jobs in an SQL database, and steering them from outside."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from outwork import codec
from outwork import job as moves
from outwork.brokers import ledger
from outwork.brokers.base import Count, Filter, Page, Report, Store
from outwork.brokers.ledger import Change
from outwork.brokers.sql.connections import Role
from outwork.brokers.sql.dialect import Database, Transaction
from outwork.errors import BrokerUnavailable
from outwork.job import WAITING, Job, Moment, Record, State, Terms

T = TypeVar("T")


class SQLSteering(Store):
    """The store's half of the SQL broker."""

    def __init__(self, database: Database, url: str, terms: Terms) -> None:
        self.url = url
        self.terms = terms
        self._database = database
        self._closed = False

    @abstractmethod
    def now(self) -> float: ...

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        found = self._read(lambda tx: tx.load(dict.fromkeys(ids)))
        return [found.get(job_id) for job_id in ids]

    def ends(self, ids: Sequence[str]) -> list[Record | None]:
        def look(tx: Transaction) -> list[Record | None]:
            found = tx.successes(ids)
            found.update(tx.load(job_id for job_id in ids if job_id not in found))
            return [found.get(job_id) for job_id in ids]

        return self._read(look)

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
            tx.pace = tx.pace or tx.kept_pace()  # somebody may have begun to keep an outbox after we had connected
            before = tx.load(dict.fromkeys(ids))
            after = {job_id: move(record, tx.now) for job_id, record in before.items()}
            tx.carry_out(
                [Change(record, after[job_id]) for job_id, record in before.items() if after[job_id] is not record]
            )
            return [after[job_id].state if job_id in after else None for job_id in ids]

        return self._write(Role.ACCEPT, work)

    def delete(self, ids: Sequence[str]) -> list[State | None]:
        def work(tx: Transaction) -> list[State | None]:
            found = tx.load(dict.fromkeys(ids))
            bound = [one for one in found.values() if one.state in WAITING and ledger.concerns(one)]
            tx.carry_out([Change(one, moves.cancel(one, tx.now, self.terms)) for one in bound])
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

    # ---- pauses, progress, schedules --------------------------------------------------------------------------------

    def pause(self, what: str) -> None:
        self._write(Role.ACCEPT, lambda tx: ledger.pause(tx, what))

    def resume(self, what: str) -> None:
        self._write(Role.ACCEPT, lambda tx: ledger.resume(tx, what))

    def report(self, reports: Sequence[Report]) -> None:
        if reports:
            self._write(Role.KEEP, lambda tx: tx.report(reports))

    def progress(self, ids: Sequence[str]) -> list[bytes | None]:
        found = self._read(lambda tx: tx.progress(ids)) if ids else {}
        return [found.get(job_id) for job_id in ids]

    def tick(self, schedule: str, last: float | None, slot: float, jobs: Sequence[Job]) -> bool:
        given = [(job, codec.encode_job(job)) for job in jobs]
        return self._write(Role.ACCEPT, lambda tx: ledger.tick(tx, schedule, last, slot, given))

    def schedules(self) -> dict[str, float]:
        return {name: cell.first for name, cell in self._read(lambda tx: tx.named("schedule:")).items()}

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
