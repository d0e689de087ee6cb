"""A sleep in `poll`, which a byte in a pipe ends."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from outwork.brokers.sql.dialect import Bell


class PipeBell(Bell):
    """What the bells have in common that wait for a file descriptor of their database: they poll `_read_end` as well.
    Whoever waits or marks holds `_in_use`, and leaves when `_rung` or `_closed` is set."""

    def __init__(self) -> None:
        self._rung = False
        self._closed = False
        self._in_use = threading.Lock()
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)

    def ring(self) -> None:
        self._rung = True
        if not self._closed:
            self._nudge()

    def _nudge(self) -> None:
        with suppress(BlockingIOError):  # full of earlier ones: whoever waits is awake
            os.write(self._write_end, b"!")

    def rung(self) -> bool:
        with self._in_use:
            if self._closed:
                return False
            with suppress(BlockingIOError):
                os.read(self._read_end, 4096)
            rung, self._rung = self._rung, False
            return rung

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._nudge()
        with self._in_use:  # whoever waits has left
            self._let_go()

    def _let_go(self) -> None:
        """Close what it has open."""
        os.close(self._read_end)
        os.close(self._write_end)
