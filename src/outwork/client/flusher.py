"""The async face of `enqueue`: coroutines hand their jobs to one thread, which sends all that waits in one batch.

So an event loop is never blocked, brokers need no async twin, and concurrent coroutines share round trips: while one
batch is on its way, the next one gathers.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from outwork.brokers.base import Accepted, Standing
from outwork.job import Job

BATCH: Final = 1000

Send = Callable[[Sequence[Job]], list[Accepted]]
Answer = BaseException | Standing | None


class _Waiting:
    """One job and the coroutine that waits for it."""

    __slots__ = ("future", "job", "loop")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Standing | None] = self.loop.create_future()

    def finish(self, answer: Answer) -> None:
        """Called on the loop. The coroutine may have been cancelled meanwhile; the job was sent all the same."""
        if self.future.done():
            return
        if isinstance(answer, BaseException):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)


class Flusher:
    """Sends jobs for coroutines. Its thread starts with the first job and ends with `close`; after a fork the child
    begins with nothing waiting, because what waited is the parent's."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    async def enqueue(self, job: Job) -> Standing | None:
        """Send one job; returns when it, or another that stands for it, is durable. Raises what the broker said."""
        if self._pid != os.getpid():
            self._reset()
        waiting = _Waiting(job)
        with self._changed:
            self._waiting.append(waiting)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="outwork-flusher", daemon=True)
                self._thread.start()
            self._changed.notify()
        return await waiting.future

    def close(self) -> None:
        """Send what waits, then end the thread."""
        if self._pid != os.getpid():
            self._reset()
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and self._thread is threading.current_thread():
                    self._changed.wait()
                if not self._waiting:
                    return
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                answers: Sequence[Answer] = self._send([one.job for one in batch])
            except Exception as error:  # noqa: BLE001 - it belongs to the coroutines that wait
                answers = [error] * len(batch)
            self._answer(batch, answers)

    def _answer(self, batch: list[_Waiting], answers: Sequence[Answer]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, Answer]]] = {}
        for one, answer in zip(batch, answers, strict=True):
            by_loop.setdefault(one.loop, []).append((one, answer))
        for loop, ends in by_loop.items():
            try:
                loop.call_soon_threadsafe(_finish_all, ends)
            except RuntimeError:
                continue  # that loop is closed: nobody waits there any more, and the jobs are sent


def _finish_all(ends: list[tuple[_Waiting, Answer]]) -> None:
    for one, answer in ends:
        one.finish(answer)
