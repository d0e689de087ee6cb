"""What a worker is asked to do, and what it says it did."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

from msgspec import Struct

from outwork.ids import new_claim_id
from outwork.worker.options import WorkerOptions


class Plan(Struct, frozen=True, kw_only=True):
    """How a worker works. `queues` maps a name to how many of its jobs may run here at once (None: no limit of its
    own); empty means every queue that the tasks or settings name, and those that the broker knows. `weights`: how often
    a queue is the first in its turn. `embedded`: inside a
    process that is not the worker's to end. `isolated`: tasks that name no executor run in child processes."""

    queues: dict[str, int | None] = {}
    weights: dict[str, int] = {}
    concurrency: int = 20
    threads: int | None = None
    children: int | None = None
    grace: float = 25.0
    drain: bool = False
    embedded: bool = False
    isolated: bool = False
    log_format: str = "text"
    options: WorkerOptions = WorkerOptions()


class Summary(Struct, frozen=True, kw_only=True):
    """What a worker did. `left`: how many jobs a drain has left for later, None where it was stopped before its end;
    `stuck`: tasks whose threads could not be ended; `recycle`: a new process should go on."""

    done: int
    failed: int
    given_back: int
    left: int | None = None
    stuck: bool = False
    recycle: bool = False


def queue_limits(texts: Iterable[str]) -> dict[str, int | None]:
    """The queues of the settings (`name` or `name:4`) and how many jobs of each may run here at once."""
    parts = [text.partition(":") for text in texts]
    return {name: int(most) if colon else None for name, colon, most in parts}


def new_worker_id(named: str | None) -> str:
    """An id that no other process ever has, not even the one that takes over from this one. A name that was asked for
    stands at its beginning, in the place of this machine's."""
    return f"{named or socket.gethostname()}-{os.getpid()}-{new_claim_id()[:8]}"
