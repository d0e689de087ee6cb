"""What the fault tests of periodic tasks ask of every broker. The task and the clock are those of `support.rounds`."""

from __future__ import annotations

import os
import random
import signal
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from support.ledger import Ledger
from support.waiting import until
from support.workers import Running, send

PROCESSES: Final = 8


def jobs_by_slot(ledger: Ledger) -> dict[int, set[str]]:
    """The jobs that were started for each slot; one that was killed is started again under its id."""
    found: defaultdict[int, set[str]] = defaultdict(set)
    for entry in ledger.entries():
        found[int(entry.key)].add(entry.note)
    return found


def all_since_the_first(ledger: Ledger, count: int) -> bool:
    """Whether there is a job for each slot, and for so many of them."""
    found = jobs_by_slot(ledger)
    return len(found) >= count and set(found) == set(range(min(found), max(found) + 1))


def put(clock: Path, seconds: float) -> None:
    """Change the clock at once: a reader never sees half a number."""
    new = clock.with_suffix(".new")
    new.write_text(str(seconds))
    os.replace(new, clock)


def fire_with_eight_processes(ledger: Ledger, start: Callable[..., Running], clock: Path) -> None:
    """Killed at the slot, three of them, one after the other; then the clock jumps forth, back, and forth again."""
    running = start("--processes", str(PROCESSES))
    running.wait_for_line("slots · worker ", times=PROCESSES, seconds=90)
    for _ in range(3):
        seen = len(jobs_by_slot(ledger))
        until(lambda seen=seen: len(jobs_by_slot(ledger)) > seen, "the next slot", pause=0.001)  # type: ignore[misc]
        send(random.choice(running.worker_pids()), signal.SIGKILL)
    before = 0
    for offset in (60, 58, 100):  # forth by more than `until` waits
        put(clock, offset)
        next_ = max(jobs_by_slot(ledger)) + max(1, offset - before - 1)
        until(lambda next_=next_: max(jobs_by_slot(ledger)) >= next_, "a slot after the change")  # type: ignore[misc]
        before = offset
    until(lambda: all_since_the_first(ledger, 100), "every slot up to the last", seconds=60)
    assert {slot: jobs for slot, jobs in jobs_by_slot(ledger).items() if len(jobs) != 1} == {}
