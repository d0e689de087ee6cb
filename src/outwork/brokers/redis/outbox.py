"""Redis as the store beside a transport."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Final

from outwork.brokers.base import Claimed, Outbox, Pace, Ticket
from outwork.brokers.redis import records
from outwork.brokers.redis.connections import Argument
from outwork.brokers.redis.server import Server
from outwork.job import Terms

CHUNK: Final = 1000
"""Jobs in one script at most: some 5 ms in which the server does nothing else."""


class RedisOutbox(Outbox):
    """The outbox of `RedisBroker`."""

    terms: Terms
    clock_offset: float
    _pace: Pace | None = None
    _kept = False

    @abstractmethod
    def _run(self, name: str, *arguments: Argument) -> Any: ...

    @abstractmethod
    def _handed(self, claim_id: str, reply: Sequence[Any]) -> list[Claimed]: ...

    def keep_outbox(self, pace: Pace) -> None:
        self._pace, self._kept = pace, False

    def _keep(self, server: Server) -> None:
        """Write down that an outbox is kept, before anything else is done."""
        if self._pace is not None and not self._kept:
            place: str | bytes = "-"
            while place:
                place = server.run("keep", self.clock_offset, *map(str, self._pace), place, CHUNK)
            self._kept = True

    def unsent(self, limit: int) -> list[Ticket]:
        self._kept = False  # a server that was emptied meanwhile has forgotten it
        now, found = self._run("unsent", limit)
        tickets = [
            records.ticket(job_id.decode(), packed, gated, float(now))
            for job_id, packed, gated in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]
        return [ticket for _, ticket in sorted(tickets)]

    def mark_sent(self, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), CHUNK):
            self._run("mark_sent", *ids[start : start + CHUNK])

    def claim_these(self, claim_id: str, ids: Sequence[str], worker: str) -> list[Claimed]:
        wanted = list(dict.fromkeys(ids))
        claimed: list[Claimed] = []
        for start in range(0, len(wanted), CHUNK):
            some = wanted[start : start + CHUNK]
            claimed += self._handed(claim_id, self._run("claim_these", claim_id, worker, self.terms.lease, *some))
        return claimed
