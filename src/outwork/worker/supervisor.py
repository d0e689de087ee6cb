"""The supervisor: starts the worker processes, replaces those that die, are full or have old code, passes signals on.

It loads nothing of the application, so nothing of the application can kill it. The processes are in groups of their
own and are told to stop on their standard input: Ctrl-C in a terminal, or a signal to the whole group, is one signal
and not two. When the supervisor is killed itself, they notice the end of their standard input, and stop as well.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Final

from outwork.errors import MissingDriver
from outwork.settings import load
from outwork.worker import logs
from outwork.worker.exits import BROKER_AWAY, CLEAN, FAILED, RECYCLE, USAGE
from outwork.worker.notify import Notifier
from outwork.worker.options import WorkerOptions
from outwork.worker.place import HURRY, STOP, Place, Process

logger = logging.getLogger("outwork.worker")

LAST_PATIENCE: Final = 15.0
"""Seconds beyond the grace period after which a process that does not end is killed."""
STATUS_EVERY: Final = 5.0
SILENCE: Final = 10.0
"""A process that has said nothing for so long does not count as alive."""


def supervise(options: WorkerOptions) -> int:
    """Run the worker processes until they are told to stop or have drained; the exit code.

    Raises MissingDriver when `reload` is asked for and watchfiles is not installed.
    """
    logs.set_up(str(options.command_line.get("worker.log_format", "text")), verbose=options.verbose)
    return Supervisor(options).run()


class Supervisor:
    """Keeps `worker.processes` processes alive."""

    def __init__(self, options: WorkerOptions) -> None:
        config = Path(options.config) if options.config else None
        settings = load(environ=os.environ, config_file=config, command_line=options.command_line).settings.worker
        self._options = options
        self._patience = settings.grace + LAST_PATIENCE
        self._places = [Place(options) for _ in range(settings.processes)]
        self._notifier = Notifier()
        self._signals = 0
        self._told = 0
        self._renewals = 0
        self._renewed = 0
        self._ready = False
        self._kill_at: float | None = None
        self._status_at = 0.0
        self._code = CLEAN
        self._terminal = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _has_terminal()

    def run(self) -> int:
        """Supervise; the exit code."""
        reader, writer = socket.socketpair()
        changes = _Changes(self._renew) if self._options.reload else None
        with reader, writer:
            reader.setblocking(False)
            writer.setblocking(False)
            signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_stop)
            signal.signal(signal.SIGHUP, self._on_hangup)
            signal.signal(signal.SIGCHLD, lambda number, frame: None)
            try:
                self._loop(reader)
            finally:
                signal.set_wakeup_fd(-1)
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)  # one more would only spoil the exit code
                if changes is not None:
                    changes.close()
        return self._code

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        """New code, or the end of the terminal, which the shell and the kernel may both tell of: that is one stop."""
        if self._terminal and not _has_terminal():
            self._signals = max(self._signals, 1)
        else:
            self._renewals += 1

    def _renew(self) -> None:
        """The code has changed (called by the thread that watches the files)."""
        os.kill(os.getpid(), signal.SIGHUP)

    def _loop(self, reader: socket.socket) -> None:
        while True:
            self._heed_signals()
            for place in self._places:
                self._look_after(place)
            self._replace_one()
            self._report()
            if all(place.finished for place in self._places):
                return
            talking = [process.reader for place in self._places for process in place.all() if process.reader >= 0]
            if reader.fileno() in select.select([reader.fileno(), *talking], [], [], self._pause())[0]:
                reader.recv(4096)

    def _pause(self) -> float:
        moments = [place.start_at for place in self._places if place.start_at is not None]
        if self._kill_at is not None:
            moments.append(self._kill_at)
        soonest = min(moments, default=monotonic() + STATUS_EVERY) - monotonic()
        return max(0.0, min(soonest, STATUS_EVERY, self._notifier.watchdog_every or STATUS_EVERY))

    # ---- signals ----------------------------------------------------------------------------------------------------

    def _heed_signals(self) -> None:
        while self._told < min(self._signals, 2):
            self._told += 1
            self._notifier.tell(stopping=1)
            for place in self._places:
                place.stop(STOP if self._told == 1 else HURRY)
        if self._signals and self._kill_at is None:
            self._kill_at = monotonic() + self._patience
        if self._kill_at is not None and monotonic() >= self._kill_at:
            for process in (process for place in self._places for process in place.all()):
                process.kill()
        if self._renewed < self._renewals and not self._signals:
            self._renewed = self._renewals
            logger.info("restarting the worker processes one by one, with the code as it is now")
            self._notifier.reloading()
            for place in self._places:
                place.renew = True

    # ---- processes --------------------------------------------------------------------------------------------------

    def _look_after(self, place: Place) -> None:
        """Hear the processes of a place, collect those that ended, and start one where there should be one."""
        for process in place.all():
            if process.reader >= 0:
                process.listen()
            code = process.exit_code()
            if code is not None:
                self._ended(place, process, code)
        if place.process is not None and place.process.replace and not self._signals:
            logger.info("worker process %d is replaced: %s", place.process.pid, place.process.replace)
            place.process.replace, place.renew = "", True
        if place.successor is not None and place.successor.ready:
            place.promote()
        if place.start_at is not None and place.start_at <= monotonic():
            place.start()

    def _replace_one(self) -> None:
        """One place after the other gets a new process, so that most of them always work."""
        if any(place.successor is not None for place in self._places):
            return
        for place in self._places:
            if place.renew and not self._signals:
                if place.process is None:
                    place.start()
                else:
                    place.start_successor()
                return
        if self._renewals and not any(place.renew for place in self._places):
            self._renewals = self._renewed = 0
            self._notifier.tell(ready=1)

    def _ended(self, place: Place, process: Process, code: int) -> None:
        if process in place.leaving:
            place.leaving.remove(process)
        elif process is place.successor:
            place.successor = None
            if not self._signals:
                logger.error("the new worker process ended with exit code %d; the old one goes on", code)
        else:
            place.process = None
            self._judge(place, process, code)
        if self._signals and not place.all():
            place.finished = True
            if code in (FAILED, USAGE, BROKER_AWAY):
                self._code = max(self._code, code)

    def _judge(self, place: Place, process: Process, code: int) -> None:
        """What follows when the process of a place has ended."""
        if self._signals:
            return
        if code == RECYCLE or (code == CLEAN and not self._options.drain):
            place.start_at = monotonic()
        elif code == USAGE and self._options.reload:
            logger.info("waiting for the code to change")
        elif code in (CLEAN, USAGE, BROKER_AWAY) or (code == FAILED and self._options.drain):
            place.finished = True
            self._code = max(self._code, code)
            if code in (USAGE, BROKER_AWAY):  # the others would find the same
                self._signals = max(self._signals, 1)
        else:
            pause = place.backoff(process)
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            logger.error("worker process %d %s; another one starts in %.1f s", process.pid, how, pause)
            place.start_at = monotonic() + pause

    # ---- telling systemd --------------------------------------------------------------------------------------------

    def _report(self) -> None:
        working = [place.process for place in self._places if place.process is not None]
        everyone = len(working) == len(self._places)
        if not self._ready and everyone and all(process.ready for process in working):
            self._ready = True
            self._notifier.tell(ready=1)
        now = monotonic()
        if now >= self._status_at:
            self._status_at = now + min(STATUS_EVERY, self._notifier.watchdog_every or STATUS_EVERY)
            loads = ", ".join(process.load or "starting" for process in working)
            self._notifier.tell(status=f"{len(working)} of {len(self._places)} processes; slots busy: {loads}")
            if self._ready and everyone and all(now - process.alive_at < SILENCE for process in working):
                self._notifier.tell(watchdog=1)


def _has_terminal() -> bool:
    """Whether there is a terminal whose end would be told by SIGHUP (below nohup nobody wants to hear of it)."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


class _Changes:
    """Watches the Python files below the current directory, on a thread."""

    def __init__(self, changed: Callable[[], None]) -> None:
        try:
            from watchfiles import PythonFilter, watch
        except ImportError as error:
            raise MissingDriver("--reload needs watchfiles:  pip install 'outwork[watch]'") from error
        self._stop = threading.Event()

        def run() -> None:
            for _ in watch(".", watch_filter=PythonFilter(extra_extensions=(".toml",)), stop_event=self._stop):
                changed()

        self._thread = threading.Thread(target=run, name="outwork-reload", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5.0)
