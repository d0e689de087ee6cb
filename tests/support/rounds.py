"""A periodic task that workers run in the fault tests. The broker's clock, as each process sees it, is what a file says
it is, read again and again: so processes see a change one after the other, as they do when a clock is put right. The
clock of each process itself may be wrong as well, each by something else.
"""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path
from typing import Final

from outwork import Outwork, TaskContext
from support import ledger

OFFSET: Final = "CLOCK_OFFSET_FILE"
"""The environment variable that names the file with the seconds by which the clock is wrong."""
LOCAL: Final = "LOCAL_CLOCK"
"""The environment variable that makes the clock of each process wrong by up to a day."""

app = Outwork()


@app.task(every=1, misfire="all", keep_result=0, takes_context=True)
def each_second(context: TaskContext) -> None:
    """Writes its slot, and by which job."""
    assert context.slot is not None
    ledger.write("S", f"{context.slot.timestamp():.0f}", context.job_id)


def _follow(path: Path) -> None:
    while True:
        if app._broker is not None:  # opened by the worker, once its settings are known
            app._broker.clock_offset = float(path.read_text())
        time.sleep(0.02)


if OFFSET in os.environ:
    threading.Thread(target=_follow, args=(Path(os.environ[OFFSET]),), name="clock", daemon=True).start()

if LOCAL in os.environ:
    clock, wrong_by = time.time, random.uniform(-86_400.0, 86_400.0)
    time.time = lambda: clock() + wrong_by
