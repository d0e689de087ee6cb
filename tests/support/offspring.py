"""Tasks that try the patience of whoever keeps them in a child process."""

from __future__ import annotations

import signal
import time

from outwork import Outwork
from support import ledger

app = Outwork()


@app.task(retry=None)
def eat(size: int) -> int:
    return len(bytearray(size))


@app.task
def deaf(key: str) -> None:
    """Takes no notice of SIGTERM, and does not end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ledger.write("S", key)
    while True:
        time.sleep(60)
