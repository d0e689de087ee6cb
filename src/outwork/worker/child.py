"""A child process of a worker: runs the attempts of tasks declared with `executor="process"`, one at a time.

`python -m outwork.worker.child FD` — FD is its end of a socket pair. The first frame says what to load; each further
frame is a claimed job and is answered with its outcome. The end of the pipe means that the parent is gone.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
import threading
from pathlib import Path
from time import monotonic
from typing import Final

import msgspec
from msgspec import Struct

from outwork.attempt import Attempt, begin
from outwork.brokers.base import Claimed
from outwork.errors import OutworkError
from outwork.job import Outcome
from outwork.loading import load_app
from outwork.progress import Progress
from outwork.worker import logs, pipe
from outwork.worker.options import WorkerOptions

PR_SET_PDEATHSIG: Final = 1
NEWS_EVERY: Final = 0.2


class Hello(Struct, frozen=True):
    """The first frame: what to load, and whose child this is."""

    options: WorkerOptions
    worker: str
    parent: int
    log_format: str


class Welcome(Struct, frozen=True):
    """The answer: `problem` is "" when the tasks were loaded."""

    problem: str = ""


class News(Struct, frozen=True, tag=True):
    """A frame between a job and its outcome: what its task said of its progress."""

    progress: Progress


class Told:
    """Sends the parent what a task says, some times a second at most; what comes between is told with the next word."""

    def __init__(self, parent: socket.socket) -> None:
        self._parent = parent
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        now = monotonic()
        ended = progress.total is not None and progress.done >= progress.total
        if ended or now - self._last >= NEWS_EVERY:
            self._last = now
            pipe.send(self._parent, msgspec.msgpack.encode(News(progress)))


def main(fd: int) -> int:
    """Serve the parent until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when a job is stopped
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.set_inheritable(fd, False)  # a program that a task starts must not keep the pipe open when this process dies
    with socket.socket(fileno=fd) as parent:
        first = pipe.receive(parent)
        if first is None:
            return 0
        hello = msgspec.msgpack.decode(first, type=Hello)
        _die_with(hello.parent)
        logs.set_up(hello.log_format, verbose=hello.options.verbose)
        try:
            config = Path(hello.options.config) if hello.options.config else None
            app = load_app(hello.options.targets, config=config, command_line=hello.options.command_line)
        except OutworkError as error:
            pipe.send(parent, msgspec.msgpack.encode(Welcome(str(error))))
            return 2
        app.become_child()
        _limit_memory(app.settings.worker.child_memory)
        pipe.send(parent, msgspec.msgpack.encode(Welcome()))
        decode = msgspec.msgpack.Decoder(Claimed).decode
        while (frame := pipe.receive(parent)) is not None:
            begun = begin(decode(frame), app.tasks, hello.worker)
            if isinstance(begun, Attempt):
                begun.context.on_news = Told(parent)
            outcome: Outcome = begun.run() if isinstance(begun, Attempt) else begun
            pipe.send(parent, msgspec.msgpack.encode(outcome))
        app.close()
    return 0


def _limit_memory(size: int | None) -> None:
    """What goes beyond this address space is refused: MemoryError in the task, or the death of this process."""
    if size is not None:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size if most == resource.RLIM_INFINITY else min(size, most), most))


def _die_with(parent: int) -> None:
    """Nothing runs on as an orphan: when the parent is killed, so is the child, whatever it is doing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    """For systems without a death signal, and for a parent that died before it was set."""
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(1.0)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
