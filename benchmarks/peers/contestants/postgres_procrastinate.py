"""Procrastinate on PostgreSQL."""

from __future__ import annotations

import os

import course
from procrastinate import App, JobContext, PsycopgConnector

PEER = "Procrastinate"
BROKER = "postgresql"
REQUIREMENTS = ["procrastinate", "psycopg[binary]"]
SETTINGS = (
    "--concurrency 20 (1 is its default), async tasks on the event loop, psycopg in C with a pool of up to 10 "
    "connections, woken by NOTIFY (its default), finished jobs kept (its default). It acknowledges after the job; a "
    "killed worker's jobs are put back by the periodic task that its guide shows, here each minute where the guide "
    "says each ten, once the worker's heartbeat is 30 s old. Bulk by batch_defer of 1,000."
)
ACKS = "after"
BULK = True
WORKER = ["{bin}/procrastinate", "--app={name}.app", "--log-level=warning", "worker", "--concurrency=20"]

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_URL"], min_size=1, max_size=10))


@app.task(name="noop")
async def noop(number: int, text: str) -> None:
    course.noop(number, text)


@app.task(name="slow")
async def slow(number: int) -> None:
    await course.aslow(number)


@app.task(name="stamp")
async def stamp() -> None:
    course.stamp()


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="retry_stalled_jobs", pass_context=True)
async def retry_stalled_jobs(context: JobContext, timestamp: int) -> None:
    for job in await app.job_manager.get_stalled_jobs():
        await app.job_manager.retry_job(job)


class Producer(course.Producer):
    def open(self) -> None:
        app.open()

    def setup(self) -> None:
        app.schema_manager.apply_schema()

    def noop(self, number: int) -> None:
        noop.defer(number=number, text="hello")

    def bulk(self, numbers: range) -> None:
        for start in range(0, len(numbers), 1000):
            noop.batch_defer(*({"number": number, "text": "hello"} for number in numbers[start : start + 1000]))

    def slow(self, number: int) -> None:
        slow.defer(number=number)

    def stamp(self) -> None:
        stamp.defer()

    def close(self) -> None:
        app.close()
