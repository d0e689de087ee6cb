"""The supervisor: starts the worker processes, replaces those that die, and passes signals on.

It loads nothing of the application, so nothing of the application can kill it. The processes are in a group of their
own: Ctrl-C in a terminal reaches the supervisor only, which asks them to stop; when it is killed itself they notice the
end of their standard input, and stop as well.
"""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Final

import msgspec

from outwork.settings import load
from outwork.worker import logs
from outwork.worker.exits import BROKER_AWAY, CLEAN, FAILED, RECYCLE, USAGE
from outwork.worker.options import WorkerOptions

logger = logging.getLogger("outwork.worker")

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
HEALTHY_AFTER: Final = 60.0
"""A process that has lived so long starts its backoff anew."""
LAST_PATIENCE: Final = 15.0
"""Seconds beyond the grace period after which a process that does not end is killed."""


def supervise(options: WorkerOptions) -> int:
    """Run the worker processes until they are told to stop or have drained; the exit code."""
    logs.set_up(str(options.command_line.get("worker.log_format", "text")), verbose=options.verbose)
    return Supervisor(options).run()


class Supervisor:
    """Keeps `worker.processes` processes alive."""

    def __init__(self, options: WorkerOptions) -> None:
        config = Path(options.config) if options.config else None
        settings = load(environ=os.environ, config_file=config, command_line=options.command_line).settings.worker
        self._options = options
        self._patience = settings.grace + LAST_PATIENCE
        self._places = [_Place(options) for _ in range(settings.processes)]
        self._signals = 0
        self._told = 0
        self._kill_at: float | None = None
        self._code = CLEAN

    def run(self) -> int:
        """Supervise; the exit code."""
        reader, writer = socket.socketpair()
        with reader, writer:
            writer.setblocking(False)
            signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)
            signal.signal(signal.SIGCHLD, lambda number, frame: None)
            try:
                self._loop(reader)
            finally:
                signal.set_wakeup_fd(-1)
        return self._code

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _loop(self, reader: socket.socket) -> None:
        while True:
            self._pass_signals_on()
            for place in self._places:
                self._look_after(place)
            if all(place.finished for place in self._places):
                return
            pauses = [place.start_at - monotonic() for place in self._places if place.start_at is not None]
            if self._kill_at is not None:
                pauses.append(self._kill_at - monotonic())
            if select.select([reader], [], [], max(0.0, min(pauses)) if pauses else None)[0]:
                reader.recv(1024)

    def _pass_signals_on(self) -> None:
        while self._told < min(self._signals, 2):
            self._told += 1
            for place in self._places:
                place.tell_to_stop()
        if self._signals and self._kill_at is None:
            self._kill_at = monotonic() + self._patience
        if self._kill_at is not None and monotonic() >= self._kill_at:
            for place in self._places:
                place.kill()

    def _look_after(self, place: _Place) -> None:
        """Collect a process that ended, and start one where there should be one."""
        code = place.ended()
        if code is not None:
            self._judge(place, code)
        if place.start_at is not None and place.start_at <= monotonic():
            place.start()

    def _judge(self, place: _Place, code: int) -> None:
        if self._signals:
            place.finished = True
            self._code = max(self._code, code) if code in (FAILED, USAGE, BROKER_AWAY) else self._code
        elif code == RECYCLE:
            place.start_at = monotonic()
        elif code in (CLEAN, USAGE, BROKER_AWAY) or (code == FAILED and self._options.drain):
            place.finished = True
            self._code = max(self._code, code)
            if code in (USAGE, BROKER_AWAY):  # the others would find the same
                self._signals = max(self._signals, 1)
        else:
            pause = place.backoff()
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            logger.error("worker process %d %s; another one starts in %.1f s", place.pid, how, pause)
            place.start_at = monotonic() + pause


class _Place:
    """A place for one worker process."""

    def __init__(self, options: WorkerOptions) -> None:
        self._hello = msgspec.json.encode(options) + b"\n"
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._deaths = 0
        self.start_at: float | None = monotonic()
        self.finished = False
        self.pid = 0

    def start(self) -> None:
        self.start_at = None
        self._started_at = monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "outwork.worker.process"],
            stdin=subprocess.PIPE,
            process_group=0,
        )
        self.pid = self._process.pid
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(self._hello)
            self._process.stdin.flush()
        except BrokenPipeError:
            logger.debug("worker process %d ended before it was told what to do", self.pid)

    def ended(self) -> int | None:
        """The exit code of a process that has ended since the last look."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None
        return code

    def backoff(self) -> float:
        """How long to wait before the next start: longer with each early death, with full jitter."""
        self._deaths = 0 if monotonic() - self._started_at > HEALTHY_AFTER else self._deaths
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self._deaths)
        self._deaths = min(self._deaths + 1, 10)
        return random.uniform(0.0, longest)

    def tell_to_stop(self) -> None:
        if self._process is None:
            self.finished, self.start_at = True, None
        else:
            self._process.terminate()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
