"""The application: settings, tasks and broker, brought together at first use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from msgspec.structs import replace

from outwork import codec
from outwork.brokers import open_broker
from outwork.brokers.base import Accepted, Broker, JoinsTransactions, Standing, Store
from outwork.brokers.memory import MemoryBroker
from outwork.client import blocking, inquiry
from outwork.client.admission import check, check_call
from outwork.client.immediate import arun_here, run_here
from outwork.client.joining import is_asynchronous, joined_connection, joining
from outwork.errors import (
    EnqueueError,
    JobNotFound,
    PartlyEnqueued,
    ResultTimeout,
    SettingsError,
    Unsupported,
)
from outwork.job import Job, Record, State
from outwork.progress import Progress, decode_progress
from outwork.registry import Registry
from outwork.result import TaskResult
from outwork.settings import Settings, load
from outwork.task import Call, Task

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Future

    from outwork.client.flusher import Flusher
    from outwork.client.waiter import Waiter
    from outwork.worker.embedded import EmbeddedWorker

R = TypeVar("R")

BATCH: Final = 1000


class Outwork(Registry):
    """An application's tasks and where they run.

    `broker_url` says where: nothing (`immediate:`: in the caller), `sqlite:///tasks.db`, ... ; `broker` names a class
    of another package (`module:Class`) or is a broker object; `store_url` names a database beside RabbitMQ. Settings
    that are not given come from the configuration file (`config`, else `outwork.toml` or `pyproject.toml` for the
    default application) and, for the default application only, from the environment. Nothing is read or connected
    before it is needed.
    """

    def __init__(
        self,
        broker_url: str | None = None,
        *,
        broker: Broker | str | None = None,
        store_url: str | None = None,
        config: Path | str | None = None,
        modules: Iterable[str] | None = None,
        queues: Iterable[str] | None = None,
        max_payload: int | None = None,
    ) -> None:
        super().__init__()
        self._arguments: dict[str, object] = {
            "broker_url": broker_url,
            "broker": broker if isinstance(broker, str) else None,
            "store_url": store_url,
            "modules": None if modules is None else tuple(modules),
            "queues": None if queues is None else tuple(queues),
            "max_payload": max_payload,
        }
        self._framework: dict[str, object] = {}
        self._command_line: dict[str, object] = {}
        self._config = None if config is None else Path(config)
        self.is_default = False
        self.loaded_by: tuple[str, ...] = ()
        """What another process loads to have this application, where the modules of its tasks are not enough."""
        self._worker: EmbeddedWorker | None = None
        self._in_child = False
        self._held = False
        self._lock = RLock()
        self._made_flusher: Flusher | None = None
        self._made_waiter: Waiter | None = None
        self._settings: Settings | None = None
        self._origins: Mapping[str, str] = {}
        self._broker = broker if isinstance(broker, Broker) else None
        self._stand_in: Broker | None = None

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object] | None) -> Self:
        """An application configured by what its own configuration says: settings with tables, or a `[worker]` table
        alone, whose `type` is "thread" (also without any), "subprocess" or "redis". Raises SettingsError."""
        from outwork.configuration.forms import of_application

        app = cls()
        app.configure({**of_application(mapping), "framework": "mapping"})
        return app

    @property
    def _flusher(self) -> Flusher:
        with self._lock:
            if self._made_flusher is None:
                from outwork.client.flusher import Flusher  # this and the waiter load asyncio, for those who use them

                self._made_flusher = Flusher(lambda jobs: self.broker.enqueue(jobs))
            return self._made_flusher

    @property
    def _waiter(self) -> Waiter:
        with self._lock:
            if self._made_waiter is None:
                from outwork.client.waiter import Waiter

                self._made_waiter = Waiter(lambda: self.store)
            return self._made_waiter

    # ---- settings and broker ----------------------------------------------------------------------------------------

    def configure(self, framework: Mapping[str, object]) -> None:
        """Settings from a framework's own configuration: above the file, below the environment. Before first use."""
        self._before_use("configure")
        self._framework.update(framework)

    def override(self, command_line: Mapping[str, object], config: Path | None = None) -> None:
        """Settings from a command line: above everything else. Before first use."""
        self._before_use("override")
        self._command_line.update(command_line)
        self._config = config or self._config

    def read_surroundings(self) -> None:
        """Read the environment and the current directory's configuration file, too: for the default application."""
        self.is_default = True

    def _before_use(self, what: str) -> None:
        if self._broker is not self._stand_in and self._settings is not None:
            raise SettingsError(f"{what}() comes too late: the broker is in use. Call it before the first enqueue")
        self._settings = None

    @property
    def settings(self) -> Settings:
        """All settings, read at first use. Raises SettingsError."""
        return self._settings or self._load()

    @property
    def origins(self) -> Mapping[str, str]:
        """Where the value of each setting (by its dotted key) comes from."""
        self._load()
        return self._origins

    def _load(self) -> Settings:
        with self._lock:
            if self._settings is None:
                self._settings, self._origins = load(
                    arguments=self._arguments,
                    framework=self._framework,
                    command_line=self._command_line,
                    environ=os.environ if self.is_default else None,
                    config_file=self._config,
                    read_file=self.is_default,
                )
            return self._settings

    @property
    def max_payload(self) -> int:
        return self._settings.max_payload if self._settings else self._load().max_payload

    @property
    def broker(self) -> Broker:
        """Where jobs wait, made at first use. Raises SettingsError."""
        return self._broker or self._open()

    def _open(self) -> Broker:
        with self._lock:
            if self._broker is None and self._stand_in is not None:
                self._broker = self._stand_in
            if self._broker is None:
                settings = self.settings
                terms = {"lease": settings.lease, "keep_failed": settings.retention.failed}
                if settings.retention.results is not None:
                    terms["keep"] = settings.retention.results
                self._broker = open_broker(settings.broker_url, settings.broker, terms, settings.store_url)
            return self._broker

    @property
    def store(self) -> Store:
        """Where jobs are looked up. Raises Unsupported when the broker keeps none."""
        broker = self.broker
        if not isinstance(broker, Store):
            raise Unsupported(
                f"{broker.url} keeps no results: jobs cannot be looked up there. Set OUTWORK_STORE_URL to a database "
                "for them, or use another broker"
            )
        return broker

    def start_worker(self, loop: AbstractEventLoop | None = None, *, serving: bool = False) -> None:
        """Start the embedded worker in this process, if the broker wants one and this process serves requests.

        `loop`: an event loop that runs, on which async tasks are to run. `serving`: there is a request, so there is no
        doubt. Called for every request: does nothing if the worker runs already, or the jobs run elsewhere.
        """
        if self._worker is not None and self._worker.alive:
            return
        broker = self.broker
        if broker.runs_in != "embedded" or self._in_child or self._held:
            return
        from outwork.worker.embedded import EmbeddedWorker, serves_here

        with self._lock:
            if self._worker is not None and self._worker.alive:
                return
            if serving or serves_here(durable=broker.capabilities.durable):
                self._worker = EmbeddedWorker(self, loop)

    def hold_worker(self) -> None:
        """Start no worker until `release_worker`: the application is starting, and knows when it has started."""
        self._held = True

    def release_worker(self) -> None:
        """Let the next `start_worker` start one."""
        self._held = False

    def stop_worker(self) -> None:
        """Drain the embedded worker for five seconds, give the rest back, and end it."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    def become_child(self) -> None:
        """This process only runs tasks for another one (a child with `executor="process"`)."""
        self._in_child = True

    def close(self) -> None:
        """Stop the embedded worker, send what waits and close the connections. Using the application again opens them
        again."""
        self.stop_worker()
        if self._made_flusher is not None:
            self._made_flusher.close()
        with self._lock:
            broker, self._broker = self._broker, None
        if broker is not None and broker is not self._stand_in:
            broker.close()

    @contextmanager
    def standing_in(self, broker: Broker) -> Iterator[None]:
        """For tests: this broker takes the place of the application's own for the length of the block, whatever is
        configured or closed meanwhile."""
        before = self._broker, self._stand_in
        self._broker = self._stand_in = broker
        try:
            yield
        finally:
            if self._made_flusher is not None:
                self._made_flusher.close()
            self._broker, self._stand_in = before
            broker.close()
            if self._made_waiter is not None:
                self._made_waiter.close()

    # ---- enqueueing -------------------------------------------------------------------------------------------------

    def enqueue(self, call: Call[R], /) -> TaskResult[R]:
        """Put one job in the broker; what `task.enqueue` calls."""
        check_call(call, "enqueue(task.bind(...)), or task.enqueue(...)")
        if call.task.connection is not None:
            return self.enqueue_many([call])[0]
        if call.task.options.followers:
            from outwork.composition.flow import chain  # which knows this room

            return chain(call).enqueue()
        broker = self.admit(call.task)
        job = self.hooks.prepare(call.job()) if self.hooks.touches_jobs else call.job()
        if isinstance(broker, MemoryBroker) and broker.runs_in == "caller":
            if self.hooks.listens:
                self.hooks.tell_enqueued([job])
            return self.result_of(call, job, blocking.enqueueing(run_here, broker, job, self._tasks))
        [answer] = blocking.enqueueing(broker.enqueue, [job])
        if isinstance(answer, EnqueueError):
            raise answer
        return self._enqueued(call, job, broker, answer)

    async def aenqueue(self, call: Call[R], /) -> TaskResult[R]:
        """As `enqueue`, without blocking the event loop."""
        check_call(call, "aenqueue(task.bind(...)), or task.aenqueue(...)")
        if call.task.connection is not None:
            return (await self.aenqueue_many([call]))[0]
        if call.task.options.followers:
            from outwork.composition.flow import chain

            return await chain(call).aenqueue()
        broker = self.admit(call.task)
        job = self.hooks.prepare(call.job()) if self.hooks.touches_jobs else call.job()
        if isinstance(broker, MemoryBroker) and broker.runs_in == "caller":
            if self.hooks.listens:
                self.hooks.tell_enqueued([job])
            return self.result_of(call, job, await arun_here(broker, job, self._tasks))
        return self._enqueued(call, job, broker, await self._flusher.enqueue(job))

    def _enqueued(self, call: Call[R], job: Job, broker: Broker, answer: Standing | None) -> TaskResult[R]:
        if answer is None and self.hooks.listens:
            self.hooks.tell_enqueued([job])
        if broker.runs_in == "embedded":
            self.start_worker()
        return self.result_of(call, job if answer is None else replace(job, id=answer.job_id))

    def enqueue_many(self, calls: Iterable[Call[R]], *, connection: object | None = None) -> list[TaskResult[R]]:
        """Put many jobs in the broker, a round trip for each 1,000; each such batch is written whole.

        `connection`: write all of them by this connection, in its transaction; what it raises is raised here.
        Raises PartlyEnqueued, which carries what was accepted, when a later batch or some of the jobs were refused; a
        call that is wrong raises as `enqueue` does, and jobs of earlier batches stay accepted.
        """
        results: list[TaskResult[R]] = []
        pending = iter(calls)
        while batch := list(islice(pending, BATCH)):
            if (joined := joined_connection(batch, connection)) is not None:
                joining, jobs = self._join(batch)
                joining.enqueue_on(joined, jobs)
                results += self._joined(batch, jobs)
            elif self.admit(batch[0].task).runs_in == "caller":
                results += [self.enqueue(call) for call in batch]
            else:
                results += self._send_batch(batch, results)
        return results

    async def aenqueue_many(self, calls: Iterable[Call[R]], *, connection: object | None = None) -> list[TaskResult[R]]:
        """As `enqueue_many`, without blocking the event loop (the calls are taken from `calls` on another thread).

        An asynchronous `connection` is used on this event loop, a synchronous one on another thread.
        """
        first = list(islice(calls := iter(calls), 1))
        joined = joined_connection(first, connection) if first else None
        calls = chain(first, calls)
        if joined is None or not is_asynchronous(joined):
            send = partial(self.enqueue_many, connection=connection)
            found: list[TaskResult[R]] = await self.in_thread(send, calls)  # pyright: ignore[reportAssignmentType]
            return found
        results: list[TaskResult[R]] = []
        while batch := list(islice(calls, BATCH)):
            joining, jobs = self._join(batch)
            await joining.aenqueue_on(joined_connection(batch, joined), jobs)
            results += self._joined(batch, jobs)
        return results

    def _join(self, batch: list[Call[R]]) -> tuple[JoinsTransactions, list[Job]]:
        """The broker, as one that joins transactions, and the jobs. Raises Unsupported where there is none."""
        broker, jobs = self._admitted(batch)
        return joining(broker), jobs

    def _admitted(self, batch: list[Call[R]]) -> tuple[Broker, list[Job]]:
        for task in {id(call.task): call.task for call in batch}.values():
            self.admit(task)
        jobs = [call.job() for call in batch]
        return self.broker, [self.hooks.prepare(job) for job in jobs] if self.hooks.touches_jobs else jobs

    def _joined(self, batch: list[Call[R]], jobs: list[Job]) -> list[TaskResult[R]]:
        if self.hooks.listens:
            self.hooks.tell_enqueued(jobs)
        if self.broker.runs_in == "embedded":
            self.start_worker()
        return [self.result_of(call, job) for call, job in zip(batch, jobs, strict=True)]

    def _send_batch(self, batch: list[Call[R]], before: list[TaskResult[R]]) -> list[TaskResult[R]]:
        accepted = [result.id for result in before]
        try:
            broker, jobs = self._admitted(batch)
            answers = blocking.enqueueing(broker.enqueue, jobs)
        except Exception as error:
            if not accepted:
                raise
            message = f"{len(accepted)} jobs were accepted, then: {error}"
            raise PartlyEnqueued(message, accepted, [(len(accepted), error)]) from error
        if self.hooks.listens:
            self.hooks.tell_enqueued([job for job, answer in zip(jobs, answers, strict=True) if answer is None])
        refused = [(len(accepted) + i, answer) for i, answer in enumerate(answers) if isinstance(answer, EnqueueError)]
        if refused:
            accepted += [job.id for job, answer in _standing(jobs, answers) if not isinstance(answer, EnqueueError)]
            message = f"{len(refused)} jobs were refused, the first because: {refused[0][1]}"
            raise PartlyEnqueued(message, accepted, refused)
        if broker.runs_in == "embedded":
            self.start_worker()
        return [self.result_of(call, job) for call, (job, _) in zip(batch, _standing(jobs, answers), strict=True)]

    def admit(self, task: Task[..., Any]) -> Broker:
        """The broker, which can keep what this task asks for. Raises a subclass of EnqueueError."""
        broker = self._broker or self._open()
        check(task, broker, self.settings.queues, in_child=self._in_child)
        return broker

    def result_of(self, call: Call[R], job: Job, record: Record | None = None) -> TaskResult[R]:
        """What `enqueue` returns of a call that was enqueued as this job."""
        return TaskResult(self, job, call.task.payload.decode_result, record)

    # ---- results ----------------------------------------------------------------------------------------------------

    def get_result(self, job_id: str) -> TaskResult[Any]:
        """The result of any job, by its id. Raises JobNotFound, Unsupported."""
        record = self.look_up(job_id)
        if record is None:
            raise JobNotFound(f"no job {job_id}: it was pruned, or never enqueued")
        job = codec.decode_job(record.body)
        task = self._tasks.get(job.task)
        return TaskResult(self, job, task.payload.decode_result if task else codec.decode_any, record)

    async def aget_result(self, job_id: str) -> TaskResult[Any]:
        """As `get_result`, without blocking the event loop."""
        return await self.in_thread(self.get_result, job_id)

    def look_up(self, job_id: str) -> Record | None:
        """The store's record of a job, None if it is not known."""
        [record] = self.store.get([job_id])
        return record

    def look_up_all(self, ids: Sequence[str], /, *, ends: bool = False) -> list[Record | None]:
        """The store's records of these jobs, None for those that are not known; `ends`: no more than how they ended."""
        return inquiry.look_up(self.store, ids, ends=ends)

    def wait_for(self, job_id: str, timeout: float | None) -> Record | None:
        """The record of a job once it has ended; None if it is not known. Raises ResultTimeout."""
        record = self.look_up(job_id)
        if record is None or record.state.finished:
            return record
        future = self._waiter.watch(job_id)
        try:
            blocking.wait_for(future, timeout)
        except TimeoutError:
            raise self._timed_out(job_id, timeout) from None
        finally:
            self._waiter.forget(job_id, future)
        return self.look_up(job_id)

    async def await_for(self, job_id: str, timeout: float | None) -> Record | None:
        """As `wait_for`, without blocking the event loop."""
        import asyncio

        record: Record | None = await self.in_thread(self.look_up, job_id)
        if record is None or record.state.finished:
            return record
        future = await self.in_thread(self._waiter.watch, job_id)
        try:
            await asyncio.wait_for(asyncio.wrap_future(future), timeout)
        except TimeoutError:
            raise await self.in_thread(self._timed_out, job_id, timeout) from None
        finally:
            self._waiter.forget(job_id, future)
        return await self.in_thread(self.look_up, job_id)

    def when_ended(self, job_id: str) -> Future[None]:
        """A future that is done when the job has ended, or is not known; it fails if the store cannot be asked. All
        that wait share one thread: a callback must not block it."""
        return self._waiter.watch(job_id)

    def cancel(self, job_id: str) -> State | None:
        """Cancel a job; its state afterwards, None if it is not known."""
        [state] = self.cancel_all([job_id])
        return state

    def cancel_all(self, ids: Sequence[str], /) -> list[State | None]:
        """Cancel jobs; the state of each afterwards, None if it is not known."""
        return inquiry.cancel(self.store, ids, self.hooks)

    def progress_of(self, job_id: str) -> Progress | None:
        """What the task of a job last said of its progress."""
        [said] = self.store.progress([job_id])
        return None if said is None else decode_progress(said)

    async def in_thread(self, work: Callable[..., R], *args: Any) -> R:
        """Run blocking work beside the event loop."""
        import asyncio

        return await asyncio.to_thread(work, *args)

    def _timed_out(self, job_id: str, timeout: float | None) -> ResultTimeout:
        from outwork.client.waiter import timed_out

        return timed_out(job_id, timeout, self.look_up(job_id), self.broker)


def _standing(jobs: Iterable[Job], answers: Iterable[Accepted]) -> Iterator[tuple[Job, Accepted]]:
    """The jobs, each under the id of the one that stands for it, with their answers."""
    for job, answer in zip(jobs, answers, strict=True):
        yield (replace(job, id=answer.job_id) if isinstance(answer, Standing) else job), answer


default_app: Final = Outwork()
"""The application of bare `@task`; the only one that reads the environment and the files of the current directory."""
default_app.read_surroundings()
