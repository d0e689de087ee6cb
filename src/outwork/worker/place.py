"""A place for one worker process, as the supervisor sees it: the process, its successor, and the pipes to both."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
from contextlib import suppress
from time import monotonic
from typing import Final

import msgspec

from outwork.worker.options import WorkerOptions

logger = logging.getLogger("outwork.worker")

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
HEALTHY_AFTER: Final = 60.0
"""A process that has lived so long starts its backoff anew."""

STOP: Final = b"stop\n"
HURRY: Final = b"hurry\n"


class Process:
    """One worker process. It is told things on its standard input and tells things on a pipe of its own: `ready`,
    `alive RUNNING SLOTS`, `replace WHY`. Its standard output belongs to the tasks."""

    def __init__(self, options: WorkerOptions) -> None:
        self.started_at = monotonic()
        self.ready = False
        self.alive_at = monotonic()
        self.load = ""
        self.replace = ""
        """Why it wants to be replaced; "" if it does not."""
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        self._buffer = b""
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "outwork.worker.process", str(writer)],
            stdin=subprocess.PIPE,
            pass_fds=[writer],
            process_group=0,
        )
        os.close(writer)
        self.pid = self._popen.pid
        self.say(msgspec.json.encode(options) + b"\n")

    def say(self, line: bytes) -> None:
        """Write to its standard input."""
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(line)
            self._popen.stdin.flush()
        except BrokenPipeError:
            logger.debug("worker process %d does not listen any more", self.pid)

    def listen(self) -> None:
        """Read what it has said since the last time."""
        try:
            self._buffer += os.read(self.reader, 65_536)
        except BlockingIOError:
            return
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            word, _, rest = line.decode().partition(" ")
            if word == "ready":
                self.ready = True
            elif word == "replace":
                self.replace = rest
            if word in ("ready", "alive"):
                self.alive_at, self.load = monotonic(), rest or self.load

    def exit_code(self) -> int | None:
        """Its exit code (negative: the signal), None while it runs. Collects it."""
        code = self._popen.poll()
        if code is not None and self.reader >= 0:
            assert self._popen.stdin is not None
            with suppress(BrokenPipeError):  # what was said last, and never read, is still in its buffer
                self._popen.stdin.close()
            os.close(self.reader)
            self.reader = -1
        return code

    def kill(self) -> None:
        self._popen.kill()


class Place:
    """Where one process works. While it is replaced there are two: the new one first gets ready."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._deaths = 0
        self.process: Process | None = None
        self.successor: Process | None = None
        self.leaving: list[Process] = []
        self.start_at: float | None = monotonic()
        self.finished = False
        self.renew = False
        """Whether its process is to be replaced, when its turn comes."""

    def start(self) -> None:
        self.start_at = None
        self.renew = False
        self.process = Process(self._options)

    def start_successor(self) -> None:
        self.renew = False
        self.successor = Process(self._options)

    def promote(self) -> None:
        """The successor is ready: the old process may end."""
        if self.process is not None:
            self.process.say(STOP)
            self.leaving.append(self.process)
        self.process, self.successor = self.successor, None

    def all(self) -> list[Process]:
        """Every process here that may still live."""
        return [process for process in (self.process, self.successor, *self.leaving) if process is not None]

    def backoff(self, process: Process) -> float:
        """How long to wait before the next start: longer with each early death, with full jitter."""
        self._deaths = 0 if monotonic() - process.started_at > HEALTHY_AFTER else self._deaths
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self._deaths)
        self._deaths = min(self._deaths + 1, 10)
        return random.uniform(0.0, longest)

    def stop(self, word: bytes) -> None:
        """Let all end; nothing is started here any more."""
        self.start_at, self.renew = None, False
        for process in self.all():
            process.say(word)
        if not self.all():
            self.finished = True
