"""Waiting for results: all waiters of a process, threads and coroutines alike, share one thread that asks the store."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from outwork.brokers.base import Broker, Presence, Store
from outwork.errors import ResultTimeout
from outwork.job import Record, State

logger = logging.getLogger("outwork")

ROUND: Final = 30.0
"""Seconds after which the store is asked anew, whatever it announced."""
LINGER: Final = 1.0
"""Seconds for which the thread stays when nobody waits any more."""


class Waiter:
    """One thread that waits for all the jobs that somebody waits for. It starts with the first and ends by itself."""

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._waiting: dict[str, list[Future[None]]] = {}
        self._thread: threading.Thread | None = None
        self._closing = False

    def watch(self, job_id: str) -> Future[None]:
        """A future that is done when the job has ended (or is not known); it fails if the store cannot be asked."""
        if self._pid != os.getpid():
            self._reset()
        future: Future[None] = Future()
        with self._changed:
            self._waiting.setdefault(job_id, []).append(future)
            self._closing = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="outwork-results", daemon=True)
                self._thread.start()
            self._changed.notify()
        self._store().interrupt_wait_result()
        return future

    def forget(self, job_id: str, future: Future[None]) -> None:
        """Nobody waits for this future any more."""
        with self._changed:
            futures = self._waiting.get(job_id, [])
            if future in futures:
                futures.remove(future)
            if not futures:
                self._waiting.pop(job_id, None)

    def close(self) -> None:
        """End the thread without lingering, if nobody waits."""
        with self._changed:
            thread = None if self._waiting else self._thread
            self._closing = True
            self._changed.notify()
        if thread is not None and self._pid == os.getpid():
            thread.join(5.0)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting and not self._closing:
                    self._changed.wait(LINGER)
                if not self._waiting:
                    self._thread = None
                    return
                ids = list(self._waiting)
            try:
                ended = self._store().wait_result(ids, ROUND)  # asked anew: the application may have been closed
            except Exception as error:  # noqa: BLE001 - it belongs to those who wait
                logger.debug("waiting for results failed: %s", error)
                self._resolve(ids, error)
            else:
                self._resolve(ended, None)

    def _resolve(self, ids: list[str] | set[str], error: Exception | None) -> None:
        with self._changed:
            futures = [future for job_id in ids for future in self._waiting.pop(job_id, [])]
        for future in futures:
            if not future.set_running_or_notify_cancel():
                continue  # a coroutine that waited was cancelled, or ran into its timeout, at this moment
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)


def timed_out(job_id: str, timeout: float | None, record: Record | None, broker: Broker) -> ResultTimeout:
    """Says what is known of the job, and whether a worker listens on its queue at all."""
    if record is None:
        return ResultTimeout(f"job {job_id} is not known to {broker.url}: it was pruned, or never enqueued")
    text = f"job {job_id} is still {record.state.lower()} after {timeout:g} s"
    workers = broker.workers()
    if record.state is State.READY and not any(record.queue in worker.queues for worker in workers):
        text += f": {_nobody(record.queue, broker, workers)}"
    elif record.state is State.SCHEDULED and record.misses:
        text += (
            f": the worker that took it does not know the task {record.task}. Start one with the module that has it:  "
            "outwork worker MODULE"
        )
    elif record.state is State.SCHEDULED and record.errors:
        last = record.errors[-1]
        said = f"{last.exception}: {last.message}".partition("\n")[0]
        text += f": attempt {record.attempts} failed ({said}), and another one follows"
    return ResultTimeout(text)


def _nobody(queue: str, broker: Broker, workers: Sequence[Presence]) -> str:
    """Why nobody takes the jobs of this queue, and what to do about it."""
    if broker.runs_in == "nowhere":
        return f"{broker.url} runs no jobs. Set another broker, or use immediate:"
    online = ", ".join(f"{worker.worker} ({', '.join(worker.queues)})" for worker in workers) or "none"
    text = f"no worker is listening on queue {queue!r} of {broker.url}. Workers online: {online}. "
    if broker.runs_in == "embedded" and not workers:
        where = (
            "the application's web process, with its first request" if broker.capabilities.shared else "this process"
        )
        return f"{text}This broker's worker starts in {where}"
    return f"{text}Start one:  outwork worker --queues {queue}"
