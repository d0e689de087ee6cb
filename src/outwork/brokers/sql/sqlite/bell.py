"""Sleeping until a SQLite file changes: inotify on its log, `data_version` for the truth, a slow poll as the net."""

from __future__ import annotations

import random
import select
import time
from collections.abc import Callable, Collection
from typing import Final

from outwork.brokers.sql.pipe_bell import PipeBell
from outwork.brokers.sql.sqlite.inotify import FileWatch

SUSPICION: Final = 1.0
"""Seconds after a write to the log in which its commit is looked for: a slow disk's fsync lies between."""
LATER_SUSPICION: Final = 0.1
FIRST_STEP: Final = 0.00005
STEP_GROWTH: Final = 1.25
LONGEST_STEP: Final = 0.02
SAFETY_POLL: Final = 1.0
"""Seconds between two looks where inotify works: for file systems that lose events. 10 µs each."""
BLIND_FIRST: Final = 0.05


class SQLiteBell(PipeBell):
    """inotify tells that the log was written, before the commit is visible to others; so after an event the cheap
    `PRAGMA data_version` (8 µs) is asked in short growing steps until it has changed.
    """

    def __init__(self, log: str, version: Callable[[], object]) -> None:
        super().__init__()
        self._log = log
        self._version = version
        self._seen: object = None
        self._suspect_until = 0.0
        self._watch: FileWatch | None = None
        self._blind = False
        self._poll = select.poll()
        self._poll.register(self._read_end, select.POLLIN)

    def mark(self) -> None:
        with self._in_use:
            if self._closed:
                return
            self._see()
            written = self._watch is not None and self._watch.drain()
        before, self._seen = self._seen, self._version()
        if written:  # by the commit that is visible now, most likely, and perhaps by one more
            seen = self._seen != before
            self._suspect_until = time.monotonic() + (LATER_SUSPICION if seen else SUSPICION)

    def wait(self, seconds: float, queues: Collection[str] = ()) -> None:
        with self._in_use:
            self._sleep(time.monotonic() + seconds)

    def _sleep(self, deadline: float) -> None:
        step, blind = FIRST_STEP, BLIND_FIRST
        while not self._rung and not self._closed and self._version() == self._seen:
            now = time.monotonic()
            if now >= deadline:
                return
            if now < self._suspect_until:
                pause = step
                step = min(step * STEP_GROWTH, LONGEST_STEP)
            elif self._watch is not None:
                pause = SAFETY_POLL * random.uniform(0.5, 1.0)
            else:
                pause = blind * random.uniform(0.5, 1.0)
                blind = min(blind * 1.5, SAFETY_POLL)
            if self._pause(min(pause, deadline - now)):
                self._suspect_until = time.monotonic() + SUSPICION
                step = FIRST_STEP

    def _pause(self, seconds: float) -> bool:
        """Sleep, at most so long; whether the log was written meanwhile."""
        if seconds < 0.001:  # poll() counts in milliseconds
            time.sleep(seconds)
        else:
            self._poll.poll(seconds * 1000)
        return self._watch is not None and self._watch.drain()

    def _see(self) -> None:
        if self._watch is None and not self._blind:
            try:
                self._watch = FileWatch(self._log)
            except OSError:  # not Linux, or no instance is left: the poll in `_sleep` does it
                self._blind = True
            else:
                self._poll.register(self._watch.fd, select.POLLIN)

    def _let_go(self) -> None:
        if self._watch is not None:
            self._watch.close()
        super()._let_go()
