"""What a worker process tells its supervisor: that it is ready, that its loop turns, that it should be replaced."""

from __future__ import annotations

import os
import resource
import sys
import threading
from pathlib import Path
from typing import Final

from outwork.worker.options import WorkerOptions
from outwork.worker.worker import Worker

PULSE: Final = 2.0
"""Seconds between two signs of life."""


class Reporter:
    """Writes to the supervisor's pipe. A sign of life is sent only if the puller's loop has turned since the last."""

    def __init__(self, handle: int, worker: Worker, options: WorkerOptions) -> None:
        self._handle = handle
        self._worker = worker
        self._max_tasks = options.max_tasks
        self._max_memory = options.max_memory
        self._ready = False
        self._replace = False
        self._turns = 0
        self._ending = threading.Event()
        worker.on_turn = self._turned
        threading.Thread(target=self._run, name="outwork-pulse", daemon=True).start()

    def close(self) -> None:
        self._ending.set()
        self._worker.on_turn = None

    def _turned(self) -> None:
        """Called by the puller after each successful exchange."""
        if not self._ready:
            self._ready = True
            self._say(f"ready {self._load()}")
        if self._max_tasks is not None and not self._replace and self._worker.ended >= self._max_tasks:
            self._ask_for_replacement(f"it has ended {self._worker.ended:,} jobs")

    def _run(self) -> None:
        while not self._ending.wait(PULSE):
            turns, self._turns = self._turns, self._worker.turns
            if turns != self._turns:
                self._say(f"alive {self._load()}")
            if self._max_memory is not None and not self._replace and (held := memory_held()) > self._max_memory:
                self._ask_for_replacement(f"it holds {held / 1e6:,.0f} MB of memory")
            self._worker.bell.ring()  # an idle loop turns once for this

    def _load(self) -> str:
        slots = self._worker.slots
        return f"{slots.total - slots.free}/{slots.total}"

    def _ask_for_replacement(self, why: str) -> None:
        self._replace = True
        self._say(f"replace {why}")

    def _say(self, line: str) -> None:
        try:
            os.write(self._handle, line.encode() + b"\n")
        except OSError:  # the supervisor is gone; the end of the standard input says so, too
            self._ending.set()


def memory_held() -> int:
    """The resident memory of this process in bytes."""
    if sys.platform == "linux":
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # elsewhere only the peak is told
    return peak if sys.platform == "darwin" else peak * 1024
