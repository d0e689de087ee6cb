"""A ledger of what really ran: one line for each start and end, each written by a single append, so that no line is
lost or torn when its writer is killed."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Final, Literal, NamedTuple

VARIABLE: Final = "LEDGER"
"""The environment variable that tells tasks where the ledger is."""

Event = Literal["A", "K", "S", "E", "F"]
"""The producer attempted an enqueue, it was acknowledged; a task started, it ended, it failed as it was asked to."""


class Entry(NamedTuple):
    """A line of the ledger. `at` is the monotonic clock of this host, `note` whatever the writer added."""

    event: str
    key: str
    at: float
    pid: int
    note: str


def write(event: Event, key: str, note: str = "", path: str | None = None) -> None:
    """Append one line; from any process. A key has no spaces."""
    line = f"{event} {key} {time.monotonic():.6f} {os.getpid()} {note}\n".encode()
    handle = os.open(path or os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)


class Ledger:
    """The ledger as a test reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def _lines(self) -> list[str]:
        """The lines that are whole: the last one may be seen half written."""
        whole, _, _ = self.path.read_text().rpartition("\n")
        return whole.splitlines()

    def entries(self) -> list[Entry]:
        return [
            Entry(event, key, float(at), int(pid), note)
            for event, key, at, pid, note in (line.split(" ", 4) for line in self._lines())
        ]

    def count(self, event: Event, key: str | None = None) -> int:
        """How many lines of this kind there are (of this key)."""
        return sum(1 for entry in self.entries() if entry.event == event and key in (None, entry.key))

    def keys(self, event: Event) -> Counter[str]:
        """How often each key has a line of this kind."""
        return Counter(entry.key for entry in self.entries() if entry.event == event)

    def lost(self) -> set[str]:
        """What was acknowledged and has not ended."""
        return set(self.keys("K")) - set(self.keys("E"))

    def twice(self) -> dict[str, int]:
        """What ended more than once."""
        return {key: times for key, times in self.keys("E").items() if times > 1}

    def in_flight(self) -> set[str]:
        """What was started and has not ended (at this moment)."""
        starts, ends = self.keys("S"), self.keys("E")
        return {key for key, times in starts.items() if times > ends[key]}
