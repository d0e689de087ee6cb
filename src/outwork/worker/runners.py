"""Where attempts run: `def` tasks on threads, `async def` tasks on one event loop.

(Tasks with `executor="process"` run in `outwork.worker.children`.) Each runner can stop an attempt from outside: the
attempt is told the reason first, then an exception is raised in its thread at the next bytecode, or its coroutine is
cancelled. A task that takes no notice goes on; the worker then abandons it.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from outwork.attempt import Attempt
from outwork.errors import TimeLimitExceeded
from outwork.job import Cancelled, Outcome, Release
from outwork.worker.bell import Bell
from outwork.worker.slots import Slots

StopReason = BaseException | Cancelled | Release

MayStart = Callable[[Attempt, float], bool]
"""(attempt, monotonic time) -> whether its lease is still ours: after a freeze, what was claimed must not start."""

_set_async_exception: Final = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exception.argtypes = (ctypes.c_ulong, ctypes.py_object)
_NONE_PENDING: Final = ctypes.py_object()
"""NULL, which takes a pending exception back; None would be raised."""


class Threads:
    """Runs attempts on up to `most` threads, which are made when they are needed."""

    def __init__(self, most: int, slots: Slots, may_start: MayStart) -> None:
        self._most = most
        self._slots = slots
        self._may_start = may_start
        self._queue: deque[Attempt] = deque()
        self._idle: list[_Thread] = []
        self._threads: list[_Thread] = []
        self._lock = threading.Lock()
        self._waking = False

    def start(self, attempt: Attempt) -> None:
        self._queue.append(attempt)
        self._wake()

    def follow(self, attempt: Attempt) -> None:
        self._queue.append(attempt)

    def stop(self, attempt: Attempt, reason: StopReason) -> bool:
        """Raise an exception in the thread that runs this attempt. False if none does (any more)."""
        return any(thread.stop(attempt, reason) for thread in self._threads)

    def abandon(self, attempt: Attempt) -> bool:
        """Give up the thread that runs this attempt: its outcome, if ever there is one, is dropped."""
        return any(thread.abandon(attempt) for thread in self._threads)

    def running(self) -> list[Attempt]:
        """The attempts that run now."""
        return [attempt for thread in self._threads if (attempt := thread.attempt) is not None]

    def waiting(self) -> list[Attempt]:
        """Take out the attempts that have a slot but no thread yet."""
        taken: list[Attempt] = []
        while self._queue:
            try:
                taken.append(self._queue.popleft())
            except IndexError:  # a thread was faster
                break
        return taken

    def close(self) -> None:
        """End the idle threads; one that runs a task ends after it."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._most = 0
        for thread in idle:
            thread.bell.ring()
        for thread in idle:
            thread.join(5.0)

    def _wake(self) -> None:
        """Wake or make one thread; when it is awake it wakes the next if there is more to do.

        One at a time: with tiny tasks the first thread has done the whole batch before a second one gets the
        interpreter, and twenty wake-ups cost more than two hundred tasks.
        """
        if self._waking:
            return
        with self._lock:
            if self._idle:
                self._waking = True
                self._idle.pop().bell.ring()
            elif len(self._threads) < self._most:
                self._waking = True
                thread = _Thread(self._work, f"outwork-task-{len(self._threads) + 1}")
                self._threads.append(thread)
                thread.start()

    def _work(self, thread: _Thread) -> None:
        self._waking = False
        while True:
            try:
                attempt = self._queue.popleft()
            except IndexError:
                with self._lock:
                    if self._queue:
                        continue
                    if not self._most:
                        return
                    self._idle.append(thread)
                thread.bell.wait()
                self._waking = False
                continue
            if self._queue:
                self._wake()
            attempt.started_at = monotonic()
            outcome = thread.run_one(attempt) if self._may_start(attempt, attempt.started_at) else Release()
            if not thread.abandoned:
                self._slots.finish(attempt, outcome, self)
                continue
            with self._lock:
                self._threads.remove(thread)
            return


class _Thread(threading.Thread):
    """A thread that runs one attempt after the other, each of which can be stopped."""

    def __init__(self, work: Callable[[_Thread], None], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.bell = Bell()
        self.attempt: Attempt | None = None
        self.abandoned = False
        self._work = work
        self._guard = threading.Lock()

    def run(self) -> None:
        self._work(self)

    def run_one(self, attempt: Attempt) -> Outcome:
        """Run an attempt. A stop that arrives at its very end, in our own code, does not escape from here."""
        self.attempt = attempt
        outcome: Outcome | None = None
        while True:
            try:
                if outcome is None:
                    outcome = attempt.run()
                with self._guard:  # nobody stops this attempt from here on
                    self.attempt = None
                    if attempt.stop_reason is not None:
                        _set_async_exception(self.ident or 0, _NONE_PENDING)
                return outcome
            except BaseException as error:  # noqa: BLE001 - only a stop is raised here, once
                if outcome is None:
                    outcome = attempt.failed(error)

    def stop(self, attempt: Attempt, reason: StopReason) -> bool:
        with self._guard:
            if self.attempt is not attempt:
                return False
            attempt.stop_reason = reason
            kind = type(reason) if isinstance(reason, BaseException) else TimeLimitExceeded
            _set_async_exception(self.ident or 0, kind)
            return True

    def abandon(self, attempt: Attempt) -> bool:
        """Give the thread up, if it still runs this attempt: its outcome, if ever there is one, is dropped."""
        with self._guard:
            if self.attempt is not attempt:
                return False
            self.abandoned = True
            return True


class Loop:
    """Runs attempts of coroutine functions on one event loop: `loop`, an application's own that runs already, or one on
    a thread that is made when it is needed (also when the application's has ended)."""

    def __init__(self, slots: Slots, may_start: MayStart, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._slots = slots
        self._may_start = may_start
        self._queue: deque[Attempt] = deque()
        self._tasks: dict[Attempt, asyncio.Task[None]] = {}
        self._lock = threading.Lock()
        self._loop = loop
        self._thread: threading.Thread | None = None
        self._pumping = False

    def start(self, attempt: Attempt) -> None:
        self._queue.append(attempt)
        if not self._pumping or (self._loop is not None and self._loop.is_closed()):
            self._pumping = True
            self._running_loop().call_soon_threadsafe(self._pump)

    def follow(self, attempt: Attempt) -> None:
        self._tasks[attempt] = asyncio.get_running_loop().create_task(self._one(attempt))

    def stop(self, attempt: Attempt, reason: StopReason) -> bool:
        """Cancel the coroutine of this attempt. False if it does not run (any more)."""
        if self._loop is None or attempt not in self._tasks:
            return False
        try:
            self._loop.call_soon_threadsafe(self._cancel, attempt, reason)
        except RuntimeError:  # the application's loop has ended, and with it all that ran on it
            return False
        return True

    def running(self) -> list[Attempt]:
        """The attempts that run now."""
        return list(self._tasks)

    def abandon(self, attempt: Attempt) -> bool:
        """Give an attempt up that does not end although it was cancelled: its outcome is dropped."""
        return self._tasks.pop(attempt, None) is not None

    def close(self) -> None:
        """End the loop and its thread."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5.0)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._turn, args=(self._loop,), name="outwork-loop", daemon=True)
                self._thread.start()
            return self._loop

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.get_loop().run_forever()

    def _pump(self) -> None:
        self._pumping = False
        while self._queue:
            self.follow(self._queue.popleft())

    async def _one(self, attempt: Attempt) -> None:
        attempt.started_at = monotonic()
        outcome = await attempt.arun() if self._may_start(attempt, attempt.started_at) else Release()
        if self._tasks.pop(attempt, None) is not None:
            self._slots.finish(attempt, outcome, self)

    def _cancel(self, attempt: Attempt, reason: StopReason) -> None:
        task = self._tasks.get(attempt)
        if task is not None:
            attempt.stop_reason = reason
            task.cancel()
