"""Runs the attempts of tasks with `executor="process"` in child processes, which can be killed.

Each child is served by a thread of the worker that sends it a job and waits for the outcome. A child that dies, or is
killed for its time limit, fails that attempt only; the next job gets a new child. The worker renews the leases
meanwhile, so code that holds the interpreter's lock harms nobody.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from time import monotonic

import msgspec

from outwork.attempt import Attempt
from outwork.errors import ChildDied, TimeLimitExceeded
from outwork.job import Outcome, Release
from outwork.worker import pipe
from outwork.worker.child import Hello, News, Welcome
from outwork.worker.runners import MayStart, StopReason
from outwork.worker.slots import Slots

logger = logging.getLogger("outwork.worker")

_encode = msgspec.msgpack.Encoder().encode
_decode_said = msgspec.msgpack.Decoder(Outcome | News).decode


class Children:
    """Up to `most` child processes, made when they are needed and kept."""

    def __init__(self, most: int, slots: Slots, may_start: MayStart, hello: Hello) -> None:
        self._most = most
        self._slots = slots
        self._may_start = may_start
        self._hello = hello
        self._queue: deque[Attempt] = deque()
        self._changed = threading.Condition()
        self._servants: list[_Servant] = []
        self._idle = 0
        self._closing = False

    def start(self, attempt: Attempt) -> None:
        with self._changed:
            self._queue.append(attempt)
            if self._idle >= len(self._queue):
                self._changed.notify()
            elif len(self._servants) < self._most:
                servant = _Servant(self._hello)
                self._servants.append(servant)
                threading.Thread(target=self._serve, args=(servant,), name="outwork-child", daemon=True).start()

    def follow(self, attempt: Attempt) -> None:
        with self._changed:
            self._queue.append(attempt)

    def stop(self, attempt: Attempt, reason: StopReason) -> bool:
        """Kill the child that runs this attempt. False if none does (any more)."""
        return any(servant.stop(attempt, reason) for servant in self._servants)

    def abandon(self, attempt: Attempt) -> bool:
        """Never needed: a child that is killed ends."""
        return False

    def running(self) -> list[Attempt]:
        """The attempts that run now."""
        return [attempt for servant in self._servants if (attempt := servant.attempt) is not None]

    def waiting(self) -> list[Attempt]:
        """Take out the attempts that have a slot but no child yet."""
        with self._changed:
            taken = list(self._queue)
            self._queue.clear()
        return taken

    def pids(self) -> list[int]:
        """The process ids of the children that live."""
        return [pid for servant in self._servants if (pid := servant.pid) is not None]

    def close(self) -> None:
        """End the idle children, and the servants' threads when their job is done."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for servant in self._servants:
            if servant.attempt is None:
                servant.end()

    def _serve(self, servant: _Servant) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._queue and not self._closing:
                    self._changed.wait()
                self._idle -= 1
                if not self._queue:
                    break
                attempt = self._queue.popleft()
            attempt.started_at = monotonic()
            outcome = servant.run(attempt) if self._may_start(attempt, attempt.started_at) else Release()
            self._slots.finish(attempt, outcome, self)
        servant.end()


class _Servant:
    """One thread's child process."""

    def __init__(self, hello: Hello) -> None:
        self._hello = hello
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: socket.socket | None = None
        self._guard = threading.Lock()
        self.attempt: Attempt | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def run(self, attempt: Attempt) -> Outcome:
        """Run an attempt in the child."""
        with self._guard:
            self.attempt = attempt
        try:
            return self._run(attempt)
        except Exception as error:  # noqa: BLE001 - a child that cannot be started or read fails the attempt
            self.end()
            return attempt.failed(error.with_traceback(None))  # where in our code is of no help
        finally:
            with self._guard:
                self.attempt = None

    def _run(self, attempt: Attempt) -> Outcome:
        if attempt.job.feed is not None and (unfed := attempt.feed()) is not None:
            return unfed
        pipe_to_child = self._pipe or self._spawn()
        if attempt.stop_reason is not None:
            raise ChildDied("the attempt was stopped before its child was ready")
        pipe.send(pipe_to_child, _encode(attempt.claimed))
        limit = attempt.task.options.timeout
        pipe_to_child.settimeout(limit)
        try:
            answer = self._hear(pipe_to_child, attempt)
        except TimeoutError:
            attempt.stop_reason = TimeLimitExceeded(f"ran longer than its timeout of {limit:g} s; its child was killed")
            answer = None
        pipe_to_child.settimeout(None)
        if answer is not None:
            return answer
        return attempt.failed(ChildDied(f"the child process {self._how_it_ended()} while it ran the task"))

    def _hear(self, pipe_to_child: socket.socket, attempt: Attempt) -> Outcome | None:
        """What the child says until it has the outcome; None when it is gone. Raises TimeoutError."""
        until = None if attempt.task.options.timeout is None else monotonic() + attempt.task.options.timeout
        while (frame := pipe.receive(pipe_to_child)) is not None:
            said: Outcome | News = _decode_said(frame)
            if not isinstance(said, News):
                return said
            attempt.context.hear(said.progress)
            if until is not None:
                pipe_to_child.settimeout(max(0.001, until - monotonic()))
        return None

    def _spawn(self) -> socket.socket:
        """Start a child and wait until it has loaded the tasks."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "outwork.worker.child", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._pipe = ours
        pipe.send(ours, _encode(self._hello))
        answer = pipe.receive(ours)
        if answer is None:
            raise ChildDied(f"a child process {self._how_it_ended()} before it was ready")
        problem = msgspec.msgpack.decode(answer, type=Welcome).problem
        if problem:
            raise ChildDied(f"a child process could not load the tasks: {problem}")
        logger.debug("child process %d is ready", self._process.pid)
        return ours

    def _how_it_ended(self) -> str:
        """Collect the dead child (killing one that only closed its pipe) and say how it ended."""
        process = self._process
        code = self.end()
        if process is None or code is None:
            return "was gone"
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def stop(self, attempt: Attempt, reason: StopReason) -> bool:
        with self._guard:
            if self.attempt is not attempt:
                return False
            attempt.stop_reason = reason
            if self._process is not None:
                self._process.kill()
            return True

    def end(self) -> int | None:
        """Close the pipe, kill the child if it lives, and collect it; its exit code."""
        process, self._process = self._process, None
        pipe_to_child, self._pipe = self._pipe, None
        if pipe_to_child is not None:
            pipe_to_child.close()
        if process is None:
            return None
        try:
            return process.wait(0.2 if process.poll() is None else 0)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def default_children() -> int:
    """One child a core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
