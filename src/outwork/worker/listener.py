"""The listener: sits in the broker's `wait` while the puller has found nothing, and wakes it."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import Final

from outwork.brokers.base import Broker

logger = logging.getLogger("outwork.worker")

LISTEN_SECONDS: Final = 30.0


class Listener:
    """A thread that waits when it is armed, and calls `heard` when there may be work."""

    def __init__(self, broker: Broker, heard: Callable[[], None]) -> None:
        self._broker = broker
        self._heard = heard
        self._queues: tuple[str, ...] = ()
        self._armed = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._listen, name="outwork-listener", daemon=True)

    def start(self) -> None:
        """Start the thread; it sleeps until it is armed."""
        self._thread.start()

    def arm(self, queues: tuple[str, ...]) -> None:
        """Wait for work in these queues."""
        self._queues = queues
        self._armed.set()

    def close(self) -> None:
        """End the wait; `join` waits for the thread."""
        self._closed = True
        self._armed.set()
        self._broker.interrupt()

    def join(self) -> None:
        """Wait until the thread has ended, for some seconds."""
        self._thread.join(5.0)

    def _listen(self) -> None:
        while True:
            self._armed.wait()
            if self._closed:
                return
            try:
                self._broker.wait(self._queues, LISTEN_SECONDS)
            except Exception as error:  # noqa: BLE001 - the exchange that follows meets and reports it
                logger.debug("listening failed: %s", error)
                threading.Event().wait(random.random())
            self._armed.clear()  # here: whoever armed us meanwhile exchanges anew, and must not meet us in its way
            if self._closed:
                return
            self._heard()
