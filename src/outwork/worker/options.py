"""What a worker process is told: made by the command line, sent to the processes by the supervisor."""

from __future__ import annotations

import re
from typing import Any, Final

from msgspec import Struct, field

WORKER_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class WorkerOptions(Struct, frozen=True, kw_only=True):
    """The command line of `outwork worker`.

    `targets` are MODULE or MODULE:OBJECT; `command_line` are settings by their dotted keys (`worker.concurrency`). A
    process that has ended `max_tasks` jobs, or holds `max_memory` bytes, is replaced. Their ids begin with `worker_id`.
    """

    targets: tuple[str, ...] = ()
    config: str | None = None
    command_line: dict[str, Any] = field(default_factory=dict)
    drain: bool = False
    reload: bool = False
    max_tasks: int | None = None
    max_memory: int | None = None
    worker_id: str | None = None
    verbose: bool = False


def worker_id_of(text: str) -> str:
    """What may stand at the beginning of a worker's id. Raises ValueError."""
    if not WORKER_ID.fullmatch(text):
        raise ValueError(f"{text!r}: up to 64 letters, digits, dots, dashes and underscores are needed")
    return text
