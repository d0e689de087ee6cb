"""Claiming from several lines of one queue: jobs that anybody may take, solo jobs, and bound ones, of which some stand
before gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from outwork.brokers.base import Claimed, Share
from outwork.brokers.ledger import pass_gates
from outwork.brokers.sql.dialect import Head, Look, Transaction
from outwork.job import Record, Terms, gated

ROUNDS: Final = 8
"""How often one claim looks again for others after it has held some back at their gates."""
AHEAD: Final = 200
"""Solo jobs that it looks at beyond those it may take: where the first is held back, mostly others are, too."""


class Claiming:
    """The claims of one exchange. `bound` are ids of bound jobs that it took; `held_back`: it has moved
    some to closed gates; `more`: as many as it may, and there may be others to take."""

    def __init__(self, tx: Transaction, terms: Terms, claim_id: str, worker: str) -> None:
        self.bound: list[str] = []
        self.held_back = False
        self.more = False
        self._tx = tx
        self._claim_id = claim_id
        self._worker = worker
        self._until = tx.now.steady + terms.lease
        self._closed: set[str] = set()
        """Gates that were found closed."""

    def claim(self, queues: Sequence[Share], looks: Sequence[Look], limit: int, free: int) -> list[Claimed]:
        """Claim up to `limit` jobs, at most `free` solo ones among them."""
        by_queue = {look.queue: look for look in looks}
        claimed: list[Claimed] = []
        for queue, share in queues:
            look, most = by_queue[queue], min(share, limit - len(claimed))
            if most <= 0:
                continue
            if look.bound or (look.solo and free > 0):
                heads = self._choose(look, most, free)
                free -= sum(head.solo for head in heads)
                claimed += self._take(heads)
            elif look.common:
                claimed += self._tx.take(queue, most, self._claim_id, self._worker, self._until)
        return claimed

    def _choose(self, look: Look, most: int, free: int) -> list[Head]:
        """The next jobs that may be claimed now; those before a closed gate are moved there."""
        chosen: list[Head] = []
        for _ in range(ROUNDS if look.bound else 1):
            solos = min(free, most) + (AHEAD if self._closed and free > 0 else 0)
            heads = self._tx.heads(look, most, solos)
            known = {head.id for head in chosen}
            slots = free - sum(head.solo for head in chosen)
            fresh: list[Head] = []
            beyond: list[Head] = []
            for head in heads:
                if head.id in known:
                    continue
                if len(chosen) + len(fresh) < most and (slots > 0 or not head.solo):
                    slots -= head.solo
                    fresh.append(head)
                elif head.solo and head.bound:
                    beyond.append(head)
            kept = self._hold_back(fresh, beyond)
            chosen += [head for head in fresh if head.id not in kept]
            if not kept:
                return sorted(chosen)
        self.more = look.bound
        return sorted(chosen)

    def _hold_back(self, fresh: Sequence[Head], beyond: Sequence[Head]) -> set[str]:
        """Of the `fresh` ones those that do not pass their gates; with them go those `beyond` that stand before gates
        which are known to be closed."""
        before = [head.id for head in fresh if head.solo and head.bound]
        if not before:
            return set()
        records = self._tx.load([*before, *([head.id for head in beyond] if self._closed else [])])
        asking = [records[job_id] for job_id in before if job_id in records and _has_gates(records[job_id])]
        asking += [
            record
            for head in beyond
            if (record := records.get(head.id)) and any(gate in self._closed for gate in _gates(record))
        ]
        if not asking:
            return set()
        _, kept = pass_gates(self._tx, asking)
        self._tx.move(kept)
        self.held_back = self.held_back or bool(kept)
        self._closed.update(change.after.knot for change in kept if change.after.knot is not None)
        return {change.after.id for change in kept}

    def _take(self, heads: Sequence[Head]) -> list[Claimed]:
        tx, how = self._tx, (self._claim_id, self._worker, self._until)
        free, bound = [head.id for head in heads if not head.bound], [head.id for head in heads if head.bound]
        taken = tx.take_these(free, *how) if free else []
        if not bound:
            return taken
        self.bound += bound
        taken += tx.take_bound(bound, *how)
        place = {head.id: at for at, head in enumerate(heads)}
        return sorted(taken, key=lambda one: place[one.id])


def _gates(record: Record) -> list[str]:
    return [] if record.ties is None else [gated(gate.key) for gate in record.ties.gates]


def _has_gates(record: Record) -> bool:
    return bool(_gates(record))
