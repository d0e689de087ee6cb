"""What the jobs of every contestant do, and the ledger in which they leave their traces. It runs inside every peer's
virtual environment, and needs nothing but the standard library.

`BENCH_LEDGER` is a folder with three files that the harness has made:

- `slots`: 64-bit integers in the machine's order. The first is the number of slots that are taken; then, for each slot,
  the jobs counted, and the monotonic nanoseconds of the first and of the last of them. Every thread of every process
  takes one at its first job, so that nobody waits for anybody and nothing depends on how the process ends.
- `starts`, `ends`: the number of each slow job that was entered, and that came to its end, as 64-bit integers.

`BENCH_STAMPS` is a FIFO: the jobs that measure latency write there when they were entered.
"""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SLOTS = 300_000
"""Most slots of a ledger; a peer that forks for each job takes one for each."""
SLOW = 0.02
"""Seconds that a slow job takes."""
_WIDTH = 3


def noop(number: int, text: str) -> int:
    """Counts itself."""
    now = time.monotonic_ns()
    try:
        slots, at = _own.slot
    except AttributeError:
        slots, at = _own.slot = _take()
    slots[at + 2] = now
    slots[at + 1] = slots[at + 1] or now
    slots[at] += 1
    return number


def slow(number: int) -> int:
    """Takes 20 ms of a thread."""
    _write("starts", number)
    time.sleep(SLOW)
    _write("ends", number)
    return number


async def aslow(number: int) -> int:
    """Takes 20 ms and lets others run."""
    _write("starts", number)
    await asyncio.sleep(SLOW)
    _write("ends", number)
    return number


def stamp() -> None:
    """Says when it was entered, by the clock that all processes of a machine share."""
    entered = time.monotonic()
    handle = os.open(os.environ["BENCH_STAMPS"], os.O_WRONLY)
    os.write(handle, b"%r\n" % entered)
    os.close(handle)


class Producer:
    """What a contestant's `Producer` inherits: see produce.py."""

    def open(self) -> object:
        return None

    def setup(self) -> object:
        return None

    def close(self) -> object:
        return None


# ---- what is written -------------------------------------------------------------------------------------------------

_own = threading.local()
_lock = threading.Lock()


def _forget() -> None:
    """A forked child is another thread of another process."""
    global _own, _lock
    _own, _lock = threading.local(), threading.Lock()


os.register_at_fork(after_in_child=_forget)


def _take() -> tuple[memoryview, int]:
    """A slot that nobody else has: the integers, and where it begins. The lock is one between threads and processes."""
    handle = os.open(Path(os.environ["BENCH_LEDGER"], "slots"), os.O_RDWR)
    try:
        with _lock:
            fcntl.lockf(handle, fcntl.LOCK_EX)
            slots = memoryview(mmap.mmap(handle, 0)).cast("q")
            at = 1 + _WIDTH * slots[0]
            slots[0] += 1
            fcntl.lockf(handle, fcntl.LOCK_UN)
    finally:
        os.close(handle)
    return slots, at


def _write(name: str, number: int) -> None:
    """Append in one write, so that nothing is torn when its writer is killed."""
    handle = os.open(Path(os.environ["BENCH_LEDGER"], name), os.O_WRONLY | os.O_APPEND)
    os.write(handle, struct.pack("q", number))
    os.close(handle)


# ---- what is read ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """No-op jobs that were run so far; when the first and the last of them were entered, in monotonic nanoseconds."""

    count: int
    first: int
    last: int

    @property
    def seconds(self) -> float:
        return (self.last - self.first) / 1e9


class Ledger:
    """The ledger as the harness sees it, from outside, while it is being written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("starts", "ends"):
            (folder / name).write_bytes(b"")
        with (folder / "slots").open("wb") as file:
            file.truncate(8 * (1 + _WIDTH * SLOTS))

    def progress(self) -> Progress:
        with (self.folder / "slots").open("rb") as file:
            (taken,) = struct.unpack("q", file.read(8))
            slots = memoryview(file.read(8 * _WIDTH * taken)).cast("q")
        used = [at for at in range(0, len(slots), _WIDTH) if slots[at]]
        if not used:
            return Progress(0, 0, 0)
        return Progress(
            sum(slots[at] for at in used),
            min(slots[at + 1] for at in used),
            max(slots[at + 2] for at in used),
        )

    def slow(self, name: str) -> list[int]:
        """The slow jobs that were entered (`starts`) or came to their end (`ends`), in this order."""
        written = (self.folder / name).read_bytes()
        return list(memoryview(written[: len(written) // 8 * 8]).cast("q"))
