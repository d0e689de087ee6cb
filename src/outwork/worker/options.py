"""What a worker process is told: made by the command line, sent to the processes by the supervisor."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class WorkerOptions(Struct, frozen=True, kw_only=True):
    """The command line of `outwork worker`.

    `targets` are MODULE or MODULE:OBJECT; `command_line` are settings by their dotted keys (`worker.concurrency`).
    """

    targets: tuple[str, ...] = ()
    config: str | None = None
    command_line: dict[str, Any] = field(default_factory=dict)
    drain: bool = False
    verbose: bool = False
