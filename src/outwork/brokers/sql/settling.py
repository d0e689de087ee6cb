"""What becomes of claimed jobs, in as few statements as it can be written down.

Free jobs that ended well are settled by their claim, hundreds at a time; so are bound ones, together with what follows
for others. Everything else is read, moved by `outwork.job`, and written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from outwork import job as moves
from outwork.brokers.base import Settlement
from outwork.brokers.ledger import Change, follow
from outwork.brokers.sql.dialect import Transaction
from outwork.brokers.sql.outcomes import writable
from outwork.job import Answer, Done, State, Terms


class Contested(Exception):
    """The quick way found a claim that does not hold its job: start again, one by one."""


class Settling:
    """The outcomes of one exchange. `bound`: ids of jobs that are known to be bound; `let_go` counts the jobs that were
    held until these ended."""

    def __init__(self, tx: Transaction, terms: Terms, largest: int, bound: Collection[str]) -> None:
        self.let_go = 0
        self._tx = tx
        self._terms = terms
        self._largest = largest
        self._bound = bound

    def settle(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        """Settle the successful ones by their claim, a statement or two for each, and the others one by one. Raises
        Contested."""
        if len({settlement.job_id for settlement in outcomes}) != len(outcomes):
            raise Contested
        free: dict[tuple[str, float | None], dict[str, bytes]] = {}
        bound: dict[tuple[str, float | None], dict[str, bytes]] = {}
        rest: list[Settlement] = []
        for settlement in outcomes:
            job_id, claim_id, outcome = settlement
            if type(outcome) is Done:
                groups = bound if job_id in self._bound else free
                groups.setdefault((claim_id, outcome.keep), {})[job_id] = outcome.result
            else:
                rest.append(settlement)
        for (claim_id, keep), results in free.items():
            lasting = max(self._terms.keep if keep is None else keep, moves.TOMBSTONE_SECONDS)
            try:
                done = self._tx.succeed(claim_id, results, self._tx.now.wall + lasting)
            except ValueError as error:
                raise Contested from error
            if done != len(results):
                raise Contested
        for (claim_id, keep), results in bound.items():
            self._succeed_bound(claim_id, keep, results)
        if not rest:
            return [Answer.DONE] * len(outcomes)
        if len(rest) == len(outcomes):
            return self.settle_carefully(rest)
        answers = iter(self.settle_carefully(rest))
        return [Answer.DONE if type(one.outcome) is Done else next(answers) for one in outcomes]

    def _succeed_bound(self, claim_id: str, keep: float | None, results: dict[str, bytes]) -> None:
        tx, terms = self._tx, self._terms
        records = tx.running_bound(claim_id, results)
        if len(records) != len(results) or max(map(len, results.values())) > self._largest:
            raise Contested
        by_keep: dict[float, dict[str, bytes]] = {}
        for record in records:
            lasting = terms.keep if keep is None else keep
            if record.ties is not None and record.ties.reports:
                lasting = max(lasting, terms.keep_failed)
            by_keep.setdefault(max(lasting, moves.TOMBSTONE_SECONDS), {})[record.id] = results[record.id]
        for lasting, some in by_keep.items():
            try:
                tx.succeed_bound(claim_id, some, tx.now.wall + lasting)
            except ValueError as error:
                raise Contested from error
        ended = replace(
            records[0], state=State.SUCCESSFUL
        )  # one for all: of what became of a job its state is looked at
        self.let_go += follow(tx, [Change(one, ended) for one in records])

    def settle_carefully(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        """Settle in order, by the machine; a job may be there twice."""
        tx = self._tx
        before = tx.load(dict.fromkeys(job_id for job_id, _, _ in outcomes))
        after = dict(before)
        answers: list[Answer] = []
        for job_id, claim_id, outcome in outcomes:
            record = after.get(job_id)
            if record is None:
                answers.append(Answer.STALE)
                continue
            after[job_id], answer = moves.settle(
                record, claim_id, writable(outcome, record, tx.now, self._largest), tx.now, self._terms
            )
            answers.append(answer)
        self.let_go += tx.carry_out(
            [Change(record, after[job_id]) for job_id, record in before.items() if after[job_id] is not record]
        )
        return answers
