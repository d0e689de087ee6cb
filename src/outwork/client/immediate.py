"""`immediate:`: a job runs in its caller, before `enqueue` returns.

The payload rules, the attempt and the record are those of every broker; there is one attempt. An error is recorded in
the result and logged with its traceback, not raised into the web request. Time limits need a worker and do not apply.
"""

from __future__ import annotations

import logging
from contextvars import copy_context
from typing import Final

from outwork.attempt import Attempt, Tasks, begin, failure_of
from outwork.brokers.base import Claimed, Settlement
from outwork.brokers.memory import MemoryBroker
from outwork.client.blocking import loop_runs_here
from outwork.errors import UnknownTask, Unsupported
from outwork.ids import new_claim_id
from outwork.job import Dead, Failure, Job, Outcome, Record, Release, remember

logger = logging.getLogger("outwork")

WORKER: Final = "caller"
NO_PLACE: Final = Unsupported("a task that runs in its caller cannot snooze: there is no place to wait. Set a broker")


class OnlyAttempt(Attempt):
    """There is no other one after it."""

    __slots__ = ()

    def again(self, delay: float, failures: tuple[Failure, ...], *, counted: bool) -> Outcome:
        if counted:
            return Dead(failures)
        return Dead(remember(failures, failure_of(NO_PLACE, self.claimed, WORKER)))


def run_here(broker: MemoryBroker, job: Job, tasks: Tasks) -> Record:
    """Run a job now, on this thread; its record afterwards."""
    claimed = broker.enqueue_claimed(job, new_claim_id(), WORKER)
    begun = begin(claimed, tasks, WORKER, OnlyAttempt)
    outcome = call_here(begun) if isinstance(begun, Attempt) else begun
    return _settle(broker, claimed, job, outcome)


async def arun_here(broker: MemoryBroker, job: Job, tasks: Tasks) -> Record:
    """As `run_here`: an async task on this event loop, any other on a thread beside it."""
    claimed = broker.enqueue_claimed(job, new_claim_id(), WORKER)
    begun = begin(claimed, tasks, WORKER, OnlyAttempt)
    outcome = await acall_here(begun) if isinstance(begun, Attempt) else begun
    return _settle(broker, claimed, job, outcome)


def call_here(attempt: Attempt) -> Outcome:
    """Run an attempt on this thread; that of an async task beside it, if an event loop runs here."""
    if attempt.task.is_async and loop_runs_here():
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1, "outwork-immediate") as thread:
            return thread.submit(copy_context().run, attempt.run).result()
    return attempt.run()


async def acall_here(attempt: Attempt) -> Outcome:
    """Run an attempt: of an async task on this event loop, of any other on a thread beside it."""
    import asyncio

    if attempt.task.is_async:
        return await asyncio.create_task(attempt.arun())
    return await asyncio.to_thread(attempt.run)


def _settle(broker: MemoryBroker, claimed: Claimed, job: Job, outcome: Outcome) -> Record:
    if isinstance(outcome, Release):
        unknown = UnknownTask(f"the task {job.task!r} is not declared in this application")
        outcome = Dead(remember(claimed.errors, failure_of(unknown, claimed, WORKER)))
    broker.exchange(new_claim_id(), [Settlement(job.id, claimed.claim_id, outcome)], (), 0, 0, WORKER)
    if isinstance(outcome, Dead):
        failure = outcome.failures[-1]
        logger.error(
            "%s failed in its caller (job %s): %s: %s\n%s",
            job.task,
            job.id,
            failure.exception,
            failure.message,
            failure.traceback,
        )
    [record] = broker.get([job.id])
    assert record is not None
    return record
