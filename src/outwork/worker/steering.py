"""What is ordered from outside, and what tasks say of themselves: one look and one word to the broker a second."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from outwork.attempt import Attempt
from outwork.brokers.base import Broker, Report, Store
from outwork.progress import encode_progress

logger = logging.getLogger("outwork.worker")

EVERY: Final = 1.0
QUEUE: Final = "queue:"
TASK: Final = "task:"


class Steering:
    """Asks the broker every second which queues and tasks are paused and which of this worker's jobs are to stop, and
    sends on what running tasks said of their progress.

    `hand` are the jobs in hand; `stop` is called with those that are to stop, `changed` when pauses begin or end.
    """

    def __init__(
        self,
        broker: Broker,
        worker: str,
        hand: Mapping[str, Attempt],
        stop: Callable[[Iterable[str]], None],
        changed: Callable[[], None],
    ) -> None:
        self.paused: frozenset[str] = frozenset()
        self._broker = broker
        self._worker = worker
        self._hand = hand
        self._stop = stop
        self._changed = changed
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        can = broker.capabilities
        self._reports = broker if isinstance(broker, Store) and can.progress else None
        self._asks = can.pause or can.cancel

    def start(self) -> None:
        """Ask once, so that nothing paused is claimed at first, and from then on every second."""
        if self._asks or self._reports is not None:
            self._ask()
            self._thread = threading.Thread(target=self._run, name="outwork-orders", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def queue_goes_on(self, queue: str) -> bool:
        """Whether jobs of this queue may be claimed."""
        return not self.paused or QUEUE + queue not in self.paused

    def task_goes_on(self, task: str) -> bool:
        """Whether jobs of this task may start."""
        return not self.paused or TASK + task not in self.paused

    def send_progress(self, attempts: Iterable[Attempt]) -> None:
        """Send what these tasks said since the last time. Raises nothing: the next word says more."""
        if self._reports is None:
            return
        said = [(attempt, news) for attempt in attempts if (news := attempt.context.take_news()) is not None]
        if not said:
            return
        try:
            self._reports.report(
                [Report(a.claimed.id, a.claimed.claim_id, encode_progress(progress)) for a, progress in said]
            )
        except Exception as error:  # noqa: BLE001 - the puller meets and reports an outage
            logger.debug("progress could not be sent: %s", error)

    def _run(self) -> None:
        while not self._closing.wait(EVERY):
            self._ask()
            self.send_progress(list(self._hand.values()))

    def _ask(self) -> None:
        if not self._asks:
            return
        try:
            orders = self._broker.orders(self._worker)
        except Exception as error:  # noqa: BLE001 - asked again in a second; the puller reports an outage
            logger.debug("orders could not be asked for: %s", error)
            return
        if orders.cancel:
            self._stop(orders.cancel)
        if orders.paused != self.paused:
            for what in sorted(orders.paused - self.paused):
                kind, _, name = what.partition(":")
                command = "periodic resume" if kind == "schedule" else f"resume --{kind}"
                logger.warning("%s %s is paused; let it go on with:  outwork %s %s", kind, name, command, name)
            for what in sorted(self.paused - orders.paused):
                logger.info("%s goes on", what.replace(":", " ", 1))
            self.paused = orders.paused
            self._changed()
