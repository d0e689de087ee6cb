"""What a worker process is told: made by the command line, sent to the processes by the supervisor."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class WorkerOptions(Struct, frozen=True, kw_only=True):
    """The command line of `outwork worker`.

    `targets` are MODULE or MODULE:OBJECT; `command_line` are settings by their dotted keys (`worker.concurrency`). A
    process that has ended `max_tasks` jobs, or holds `max_memory` bytes, is replaced.
    """

    targets: tuple[str, ...] = ()
    config: str | None = None
    command_line: dict[str, Any] = field(default_factory=dict)
    drain: bool = False
    reload: bool = False
    max_tasks: int | None = None
    max_memory: int | None = None
    verbose: bool = False
