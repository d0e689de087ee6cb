"""A worker in a thread of the test's own process, over a broker in memory that can be made to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from outwork import Outwork
from outwork.brokers.base import Claim, Exchanged, Extended, Presence, Settlement, Share, Tended
from outwork.brokers.memory import MemoryBroker
from outwork.errors import BrokerUnavailable
from outwork.job import Answer, Terms
from outwork.worker.plan import Plan, Summary
from outwork.worker.worker import Worker

PATIENCE = 60.0


class FaultyBroker(MemoryBroker):
    """Notes every exchange. `away`: it cannot be reached; `lost_replies`: so many are done and not answered."""

    def __init__(self, lease: float = 30.0) -> None:
        super().__init__("memory:", Terms(lease=lease))
        self.away = False
        self.lost_replies = 0
        self.exchanges: list[tuple[str, list[Settlement], list[Share]]] = []
        self.answers: list[Answer] = []
        self.claimed: list[str] = []
        self.in_exchange: Callable[[], None] = lambda: None

    def _reach(self) -> None:
        if self.away:
            raise BrokerUnavailable("the cable is out")

    def exchange(
        self,
        claim_id: str,
        outcomes: Sequence[Settlement],
        queues: Sequence[Share],
        limit: int,
        free: int,
        worker: str,
    ) -> Exchanged:
        self.exchanges.append((claim_id, list(outcomes), list(queues)))
        self._reach()
        done = super().exchange(claim_id, outcomes, queues, limit, free, worker)
        self.in_exchange()
        self.answers += done.answers
        self.claimed += [one.id for one in done.claimed]
        if self.lost_replies:
            self.lost_replies -= 1
            raise BrokerUnavailable("the reply is lost")
        return done

    def extend(self, claims: Sequence[Claim]) -> Extended:
        self._reach()
        return super().extend(claims)

    def tend(self, presence: Presence | None, *, rescue: bool, dead: Collection[str] = ()) -> Tended:
        self._reach()
        return super().tend(presence, rescue=rescue, dead=dead)

    def wait(self, queues: Sequence[str], timeout: float) -> bool:
        self._reach()
        return super().wait(queues, min(timeout, 1.0))  # two workers share this object, and an interrupt ends one wait


class Inside:
    """A worker that runs in a thread."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._summary: Summary | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="worker-under-test", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._summary = self.worker.run()
        except BaseException as error:  # noqa: BLE001 - raised again in the test
            self._error = error

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def join(self, seconds: float = PATIENCE) -> Summary:
        """What it did, once it has ended by itself."""
        self._thread.join(seconds)
        assert self.ended, "the worker did not end"
        if self._error is not None:
            raise self._error
        assert self._summary is not None
        return self._summary

    def stop(self) -> Summary:
        """Tell it to stop, and wait until it has."""
        self.worker.stop()
        return self.join()


@contextmanager
def working(app: Outwork, **plan: Any) -> Iterator[Inside]:
    """A worker for the length of the block, stopped in haste at its end."""
    inside = Inside(Worker(app, Plan(**plan)))
    try:
        yield inside
    finally:
        while not inside.ended:
            inside.worker.stop(hurry=True)
            inside._thread.join(1.0)
        inside.join()


def memory_app(lease: float = 30.0) -> tuple[Outwork, FaultyBroker]:
    """An application over a broker in memory."""
    broker = FaultyBroker(lease)
    return Outwork(broker=broker), broker
