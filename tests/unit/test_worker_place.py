"""The supervisor's end of a worker process."""

from __future__ import annotations

import os
from signal import SIGKILL

from outwork.worker.options import WorkerOptions
from outwork.worker.place import HURRY, STOP, Process
from support.waiting import until


def test_what_is_said_to_a_process_that_has_ended_is_lost_and_harms_nobody() -> None:
    """A second signal may come between the end of a process and the moment at which that is seen."""
    process = Process(WorkerOptions(targets=("no_such_module",)))
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    process.say(STOP)
    process.say(HURRY)
    assert until(process.exit_code, "its exit code") == -SIGKILL
