"""An SQL database as the store beside a transport."""

from __future__ import annotations

from collections.abc import Sequence

from outwork.brokers.base import SENDABLE, Claimed, Outbox, Pace, Ticket
from outwork.brokers.ledger import concerns, pass_gates
from outwork.brokers.sql.broker import SQLBroker
from outwork.brokers.sql.connections import Role
from outwork.brokers.sql.dialect import Interrupted, Transaction
from outwork.job import State, claimable


class SQLStore(SQLBroker, Outbox):
    """Jobs in a database whose messages may be elsewhere."""

    def keep_outbox(self, pace: Pace) -> None:
        self._database.pace = pace

    def unsent(self, limit: int) -> list[Ticket]:
        there, gone = self._read(lambda tx: tx.to_send(limit), Role.KEEP)
        if gone:
            self._write(Role.KEEP, lambda tx: tx.unmark(gone))
        return there

    def mark_sent(self, ids: Sequence[str]) -> None:
        if ids:
            self._write(Role.ACCEPT, lambda tx: tx.put_off(ids, tx.now.wall + _pace(tx).stale))

    def claim_these(self, claim_id: str, ids: Sequence[str], worker: str) -> list[Claimed]:
        wanted = list(dict.fromkeys(ids))

        def work(tx: Transaction) -> list[Claimed]:
            ready = tx.ready_among(wanted)
            rest = [job_id for job_id in wanted if job_id not in ready]
            bound: list[str] = []
            held = self._look_closer(tx, claim_id, rest, ready, bound) if rest else []
            until = tx.now.steady + self.terms.lease
            free = [job_id for job_id in wanted if job_id in ready]
            taken = tx.take_these(free, claim_id, worker, until) if free else []
            taken += tx.take_bound(bound, claim_id, worker, until) if bound else []
            if taken:
                tx.unmark([one.id for one in taken])
            self._remember_bound(bound)
            place = {job_id: at for at, job_id in enumerate(wanted)}
            return [*held, *sorted(taken, key=lambda one: place[one.id])]

        try:
            return self._write(Role.WORK, work) if wanted else []
        except Interrupted:  # an idle connection that the server had closed, most likely; if not, this claim holds them
            return self._write(Role.WORK, work)

    def _look_closer(
        self, tx: Transaction, claim_id: str, rest: Sequence[str], ready: set[str], bound: list[str]
    ) -> list[Claimed]:
        """What is not ready among the free: due meanwhile (it becomes so), too early, held by this claim, nothing of
        ours; or bound, and then it may be claimed if it passes its gates."""
        records = tx.load(rest).values()
        claimables = [record for record in records if claimable(record, tx.now)]
        due = [record.id for record in claimables if not concerns(record)]
        if due:
            tx.seat(due)
            ready.update(due)
        gated = [record for record in claimables if record.ties is not None and record.ties.gates]
        kept = pass_gates(tx, gated)[1] if gated else []
        tx.move(kept)
        stay = {change.after.id for change in kept}
        bound += [record.id for record in claimables if concerns(record) and record.id not in stay]
        going = {*ready, *stay, *bound}
        early = [one for one in records if one.state in SENDABLE and one.id not in going]
        if early:
            tx.mark([(one.id, _pace(tx).send_at(tx.now.wall, one.due)) for one in early])
        return [
            Claimed(one.id, claim_id, one.body, one.failures, one.crashes, one.misses, one.errors)
            for one in records
            if one.state is State.RUNNING and one.claim_id == claim_id
        ]


def _pace(tx: Transaction) -> Pace:
    assert tx.pace is not None, "keep_outbox() comes first"
    return tx.pace
