"""Exchanges on their way: where the broker takes several at once, a busy worker has the next one under way while the
server still writes the last one to its disk, and while this process starts what another one brought."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from queue import SimpleQueue
from threading import Thread
from time import monotonic

from outwork.attempt import Attempt
from outwork.brokers.base import Broker, Claim, Exchanged, Settlement, Share
from outwork.worker.bell import Bell
from outwork.worker.distance import Distance
from outwork.worker.slots import Ended


class Exchange:
    """One exchange: what it settles and asks for, and its answer or error once it is back. `apart`: attempts that start
    when it is. `first_asked`: when its claim id was sent for the first time, if this is a repetition."""

    def __init__(
        self,
        claim_id: str,
        pending: list[Ended],
        shares: list[Share],
        room: int,
        free: int,
        apart: list[Attempt],
        first_asked: float | None = None,
    ) -> None:
        self.claim_id = claim_id
        self.pending = pending
        self.room = room
        self.apart = apart
        self.began = monotonic() if first_asked is None else first_asked
        self.took = 0.0
        """Seconds."""
        self.answer: Exchanged | None = None
        self.error: Exception | None = None
        self._settlements = [Settlement(one.claimed.id, one.claimed.claim_id, one.outcome) for one in pending]
        self._shares = shares
        self._free = free

    def carry_out(self, broker: Broker, worker: str) -> None:
        """Ask the broker. Raises nothing: whatever the error is, outcomes are kept and settled later."""
        sent = monotonic()
        try:
            self.answer = broker.exchange(self.claim_id, self._settlements, self._shares, self.room, self._free, worker)
            self.took = monotonic() - sent
        except Exception as error:  # noqa: BLE001
            self.error = error


class Pipeline:
    """Carries out the exchanges of one worker, as many at once as fit its `distance` from the broker; `bell` is rung
    when one of those is back that nobody waits for."""

    def __init__(self, broker: Broker, worker: str, bell: Bell, distance: Distance) -> None:
        self.under_way: list[Exchange] = []
        """Those that were begun and not yet taken account of."""
        self._broker = broker
        self._worker = worker
        self._bell = bell
        self._distance = distance
        self._sent_at = 0.0
        self._sent: SimpleQueue[Exchange | None] = SimpleQueue()
        self._back: SimpleQueue[Exchange] = SimpleQueue()
        self._threads: list[Thread] = []

    @property
    def asked(self) -> int:
        """How many jobs those under way may bring."""
        return sum(exchange.room for exchange in self.under_way)

    @property
    def full(self) -> bool:
        return len(self.under_way) >= self._distance.at_once

    def pause(self) -> float:
        """Seconds until the next one may begin beside those under way."""
        if not (self.under_way and self._distance.apart):
            return 0.0
        return max(0.0, self._sent_at + self._distance.apart - monotonic())

    def begin(self, exchange: Exchange) -> None:
        self.under_way.append(exchange)
        self._sent_at = monotonic()

    def end(self, exchange: Exchange) -> None:
        """Its answer is taken account of."""
        self.under_way.remove(exchange)
        if exchange.answer is not None:
            bodies = [len(claimed.body) for claimed in exchange.answer.claimed]
            self._distance.learn(exchange.took, len(exchange.pending), bodies)

    def settling(self, others: Iterable[Ended]) -> set[Claim]:
        """The claims of what is being settled, and of some others; any thread may ask."""
        under_way = [exchange.pending for exchange in list(self.under_way)]
        return {Claim(ended.claimed.id, ended.claimed.claim_id) for ended in chain(others, *under_way)}

    def carry_out(self, exchange: Exchange) -> None:
        """Carry out an exchange on the caller's thread."""
        exchange.carry_out(self._broker, self._worker)

    def send(self, exchange: Exchange) -> None:
        """Carry out an exchange on a thread; it comes `back`."""
        if len(self._threads) < self._distance.at_once:
            thread = Thread(target=self._carry, name=f"outwork-exchange-{len(self._threads) + 1}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._sent.put(exchange)

    def back(self) -> list[Exchange]:
        """Those that came back since the last call."""
        return [self._back.get() for _ in range(self._back.qsize())]

    def rest(self) -> list[Exchange]:
        """Wait for all that are under way."""
        return [self._back.get() for _ in self.under_way]

    def close(self) -> None:
        """End the threads."""
        for _ in self._threads:
            self._sent.put(None)
        for thread in self._threads:
            thread.join(5.0)

    def _carry(self) -> None:
        while (exchange := self._sent.get()) is not None:
            exchange.carry_out(self._broker, self._worker)
            self._back.put(exchange)
            self._bell.ring()
