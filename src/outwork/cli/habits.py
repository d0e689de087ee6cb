"""What commands and options of other libraries are called here: for the first mistakes of those who come from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

OPTIONS: Final[Mapping[str, str]] = {
    "--burst": "--drain",
    "--batch": "--drain",
    "--url": "--broker URL",
    "-u": "--broker URL",
    "-Q": "--queues A,B",
    "-B": "not needed: every worker enqueues what is periodic",
    "--beat": "not needed: every worker enqueues what is periodic",
    "--with-scheduler": "not needed: every worker runs what is scheduled",
    "-l": "-v, to say more",
    "--loglevel": "-v, to say more",
    "--log-level": "-v, to say more",
    "-P": 'said by each task: def, async def, or executor="process"',
    "--pool": 'said by each task: def, async def, or executor="process"',
    "-w": "--concurrency (jobs at once) or --processes",
    "--workers": "--concurrency (jobs at once) or --processes",
    "--hostname": "--worker-id",
    "--name": "--worker-id",
    "--watch": "--reload",
    "--max-jobs": "--max-tasks",
    "--max-tasks-per-child": "--max-tasks",
    "--max-memory-per-child": "--max-memory",
}
"""What to write for an option of another library's worker."""

_STATUS: Final = "status, or jobs ls"
COMMANDS: Final[Mapping[str, str]] = {
    "beat": "not needed: every worker enqueues what is periodic; see periodic ls",
    "scheduler": "not needed: every worker enqueues what is periodic; see periodic ls",
    "info": _STATUS,
    "inspect": _STATUS,
    "events": _STATUS,
    "stats": _STATUS,
    "monitor": _STATUS,
    "queues": _STATUS,
    "list": _STATUS,
    "purge": "jobs delete --queue NAME",
    "empty": "jobs delete --queue NAME",
    "flush": "jobs delete --queue NAME",
    "requeue": "jobs retry",
    "revoke": "jobs cancel",
    "suspend": "pause",
    "call": "enqueue TASK",
    "send": "enqueue TASK",
    "run": "worker, or enqueue TASK",
    "start": "worker",
}
"""What to write for a command of another library."""
