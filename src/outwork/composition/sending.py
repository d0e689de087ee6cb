"""Enqueueing jobs that wait for each other: those that wait first, in batches each of which is written whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

from msgspec.structs import replace

from outwork.brokers.base import Broker
from outwork.brokers.memory import MemoryBroker
from outwork.client.blocking import enqueueing
from outwork.client.immediate import arun_here, run_here
from outwork.composition.weaving import Web, in_order
from outwork.errors import EnqueueError, OutworkError, PartlyEnqueued, Unsupported
from outwork.job import Job, Record

if TYPE_CHECKING:
    from outwork.app import Outwork

BATCH: Final = 1000


class Sent(NamedTuple):
    """The jobs by their ids, and the records of those that have run already (`immediate:`)."""

    jobs: dict[str, Job]
    records: dict[str, Record]


def app_of(web: Web) -> Outwork:
    """The application of these jobs."""
    return cast("Outwork", web.app)


def send(web: Web) -> Sent:
    """Enqueue all; returns when they are durable. Raises EnqueueError; PartlyEnqueued when a later batch failed."""
    app = app_of(web)
    broker, jobs = _prepared(web)
    records: dict[str, Record] = {}
    if isinstance(broker, MemoryBroker) and broker.runs_in == "caller":
        for job in _to_run(web, jobs):
            records[job.id] = run_here(broker, job, app.tasks)
    else:
        _send(app, broker, jobs)
    return Sent({job.id: job for job in jobs}, records)


async def asend(web: Web) -> Sent:
    """As `send`, without blocking the event loop."""
    app = app_of(web)
    broker, jobs = await app.in_thread(_prepared, web)
    records: dict[str, Record] = {}
    if isinstance(broker, MemoryBroker) and broker.runs_in == "caller":
        for job in _to_run(web, jobs):
            records[job.id] = await arun_here(broker, job, app.tasks)
    else:
        await app.in_thread(_send, app, broker, jobs)
    return Sent({job.id: job for job in jobs}, records)


def _prepared(web: Web) -> tuple[Broker, list[Job]]:
    """The broker, which can keep all that is asked, and the jobs, those that wait first."""
    app = app_of(web)
    broker = app.broker
    for task in {id(node.call.task): node.call.task for node in web.nodes}.values():
        app.admit(task)
    if not broker.capabilities.composition and any(node.awaits for node in web.nodes):
        raise Unsupported(
            f"{broker.url} cannot let jobs wait for each other. Set OUTWORK_STORE_URL to a database for it, or use "
            "sqlite://, postgresql://, mysql:// or redis://. Nothing was enqueued"
        )
    jobs = [node.job() for node in in_order(web.nodes)]
    if app.hooks.touches_jobs:
        jobs = [app.hooks.prepare(job) for job in jobs]
    return broker, jobs


def _to_run(web: Web, jobs: list[Job]) -> list[Job]:
    """The jobs as they run in their caller: one after the other, so that none waits for another."""
    hooks = app_of(web).hooks
    if hooks.listens:
        hooks.tell_enqueued(jobs)
    levels = {node.id: node.level for node in web.nodes}
    return [replace(job, ties=None) for job in sorted(jobs, key=lambda job: levels[job.id])]


def _send(app: Outwork, broker: Broker, jobs: list[Job]) -> None:
    for start in range(0, len(jobs), BATCH):
        batch = jobs[start : start + BATCH]
        try:
            answers = enqueueing(broker.enqueue, batch)
        except Exception as error:
            if not start:
                raise
            raise PartlyEnqueued(
                f"{start} of {len(jobs)} jobs were accepted, then: {error}. What waits for the others goes on without "
                "them ten minutes after it was enqueued",
                [job.id for job in jobs[:start]],
                [(start, error)],
            ) from error
        refused = next((answer for answer in answers if isinstance(answer, EnqueueError)), None)
        if refused is not None:
            _withdraw(app, [job.id for job in jobs[: start + len(batch)]])
            raise refused
        if app.hooks.listens:
            app.hooks.tell_enqueued(batch)
    if broker.runs_in == "embedded":
        app.start_worker()


def _withdraw(app: Outwork, ids: list[str]) -> None:
    """One was refused: cancel the others, as far as that can be done."""
    try:
        app.cancel_all(ids)
    except OutworkError:
        return  # what waits for it ends in ten minutes, and says why
