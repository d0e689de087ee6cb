"""What a worker does again and again beside its jobs, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 5.0
"""Seconds that `stop` waits for the round under way."""


class Rounds:
    """Calls `go` at once, and again after as many seconds as it returns each time. `go` raises nothing."""

    def __init__(self, name: str, go: Callable[[], float]) -> None:
        self._go = go
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The end of it, whether it was started or not."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(PATIENCE)

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            pause = self._go()
