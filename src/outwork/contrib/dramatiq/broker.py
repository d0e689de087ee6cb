"""`OutworkBroker`: a broker of Dramatiq over any broker of ours."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from dramatiq import Message, Middleware, Worker
from dramatiq.broker import Broker, Consumer
from dramatiq.common import current_millis, dq_name, q_name
from dramatiq.errors import ActorNotFound, ConnectionClosed, QueueJoinTimeout, QueueNotFound
from msgspec.structs import replace

from outwork import app as applications
from outwork.app import Outwork
from outwork.brokers.base import Broker as Jobs
from outwork.brokers.base import Filter, Settlement, Share, Store
from outwork.contrib.dramatiq.consumer import DelayConsumer, QueueConsumer
from outwork.contrib.dramatiq.envelope import job_of, priority_of, queue_of
from outwork.contrib.dramatiq.intake import Intake, Line
from outwork.errors import BrokerUnavailable, EnqueueError, SettingsError, Unsupported
from outwork.ids import new_claim_id
from outwork.job import WAITING, Done, Job, State

logger = logging.getLogger("outwork.dramatiq")

BATCH: Final = 1000


class OutworkBroker(Broker):
    """Carries Dramatiq's messages in the broker of a URL: `sqlite:///tasks.db`, `postgresql://`, `mysql://`,
    `redis://`, `amqp://`, or `memory:` for tests.

    Without a URL the settings of Outwork say where (OUTWORK_BROKER_URL, outwork.toml); `app` is an application whose
    broker is used. `store_url` is a database or Redis beside `amqp://`, which keeps the records. `namespace` keeps
    applications apart that share a broker.
    """

    def __init__(
        self,
        url: str | None = None,
        middleware: list[Middleware] | None = None,
        *,
        store_url: str | None = None,
        namespace: str = "dramatiq",
        app: Outwork | None = None,
    ) -> None:
        super().__init__(middleware)
        self.queues: set[str] = set()
        self.namespace = namespace
        self.app, self._owned = application(url, app, store_url)
        runs_in, shared = self._jobs.runs_in, self._jobs.capabilities.shared
        if runs_in in ("caller", "nowhere") or (runs_in == "embedded" and not shared):
            raise SettingsError(
                f"{self._jobs.url}: a worker of Dramatiq could not find messages there. Give the URL of a broker that "
                "processes share, such as sqlite:///tasks.db; for tests in one process, memory:"
            )
        self.actor_options |= {"broker_priority"}
        self._threads = 0
        self._chosen: frozenset[str] = frozenset()
        self._intake: Intake | None = None
        self._lock = threading.Lock()
        self.add_middleware(_WorkerLife(self))

    def close(self) -> None:
        """Give back what is in hand, and close the connections."""
        with self._lock:
            intake, self._intake = self._intake, None
        if intake is not None:
            intake.close()
        if self._owned:
            self.app.close()

    # ---- queues and messages ----------------------------------------------------------------------------------------

    def declare_queue(self, queue_name: str) -> None:
        """Raises DeclarationError for a name that is too long."""
        if queue_name in self.queues:
            return
        queue_of(self.namespace, queue_name)
        self.emit_before("declare_queue", queue_name)
        self.queues.add(queue_name)
        self.emit_after("declare_queue", queue_name)
        delayed = dq_name(queue_name)
        self.delay_queues.add(delayed)
        self.emit_after("declare_delay_queue", delayed)

    def get_declared_queues(self) -> set[str]:
        return set(self.queues)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Durable when it returns. A delayed one, `delay` in milliseconds, waits in our broker, however long.

        Raises Dramatiq's ConnectionClosed when the broker is away, and a subclass of EnqueueError when it refuses.
        """
        message = message.copy(queue_name=q_name(message.queue_name))
        if delay is not None:
            message = message.copy(options={"eta": current_millis() + delay})
        self.emit_before("enqueue", message, delay)
        job = job_of(message, self.namespace, delay, self._priority(message))
        try:
            self._send(job)
        except BrokerUnavailable as error:
            raise ConnectionClosed(error) from error
        self.emit_after("enqueue", message, delay)
        return message

    def _priority(self, message: Message[Any]) -> int:
        try:
            actor = self.get_actor(message.actor_name)
        except ActorNotFound:  # it is declared where its worker is
            return priority_of(message.options, {}, 0)
        return priority_of(message.options, actor.options, actor.priority)

    def _send(self, job: Job) -> None:
        error = self._jobs.enqueue([job])[0]
        if isinstance(error, Unsupported) and job.priority:
            # Quorum queues of an old RabbitMQ. Dramatiq promises priorities within a worker only, and those hold.
            error = self._jobs.enqueue([replace(job, priority=0)])[0]
        if isinstance(error, EnqueueError):
            raise error

    # ---- consuming --------------------------------------------------------------------------------------------------

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """The consumer of a declared queue: `prefetch` messages at a time, those that run included; it yields None
        after `timeout` milliseconds without one. Raises QueueNotFound."""
        if queue_name in self.delay_queues:
            return DelayConsumer(timeout)
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)
        queue = queue_of(self.namespace, queue_name)
        return QueueConsumer(partial(self._open_line, queue, prefetch), self.namespace, timeout)

    def serve(self, threads: int, queues: Iterable[str]) -> None:
        """A worker with so many threads, for these queues (none: all), starts in this process."""
        self._threads, self._chosen = threads, frozenset(queues)
        if self._intake is not None:
            self._intake.serve_threads(threads)

    def rest(self) -> None:
        """The worker of this process stops: claim nothing more."""
        if self._intake is not None:
            self._intake.rest()

    def _open_line(self, queue: str, prefetch: int) -> tuple[Intake, Line]:
        with self._lock:
            if self._intake is None:
                served = [queue_of(self.namespace, name) for name in sorted(self._chosen or self.queues)]
                self._intake = Intake(self._jobs, served, self._threads, self._drop)
            return self._intake, self._intake.open_line(queue, prefetch)

    def _drop(self, intake: Intake) -> None:
        """Nobody needs it at this moment."""
        with self._lock:
            if self._intake is not intake or not intake.idle:
                return
            self._intake = None
        intake.close()

    @property
    def _jobs(self) -> Jobs:
        return self.app.broker

    # ---- emptying, and waiting until all is done --------------------------------------------------------------------

    def flush(self, queue_name: str) -> None:
        """Drop the messages that wait in a queue, delayed ones included; those that run go on.

        Where no records are kept (RabbitMQ), what is delayed stays. Raises QueueNotFound.
        """
        queue = self._known(queue_name)
        if not isinstance(self._jobs, Store):
            self._take_all(queue)
            return
        which = Filter(states=tuple(WAITING), queue=queue)
        while records := self._jobs.find(which, BATCH).records:
            self._jobs.delete([record.id for record in records])

    def _take_all(self, queue: str) -> None:
        done: list[Settlement] = []
        while True:
            found = self._jobs.exchange(new_claim_id(), done, [Share(queue, BATCH)], BATCH, BATCH, "flush").claimed
            if not found and not done:
                return
            done = [Settlement(one.id, one.claim_id, Done(b"null")) for one in found]

    def flush_all(self) -> None:
        """Drop the messages that wait in all declared queues."""
        for queue_name in self.queues:
            self.flush(queue_name)

    def join(self, queue_name: str, *, interval: int = 100, timeout: int | None = None) -> None:
        """Wait until all messages of a queue, delayed ones included, are processed; looks every `interval` ms.

        Raises QueueNotFound, QueueJoinTimeout after `timeout` ms, Unsupported where no records are kept.
        """
        queue = self._known(queue_name)
        if not isinstance(self._jobs, Store):
            raise Unsupported(
                f"{self._jobs.url} keeps no records, so nobody can tell when {queue_name!r} is empty. Give the "
                "broker a store, OutworkBroker(url, store_url='sqlite:///store.db'), and join waits"
            )
        which = Filter(states=(*WAITING, State.RUNNING), queue=queue)
        deadline = None if timeout is None else time.monotonic() + timeout / 1000
        while self._jobs.find(which, 1).records:
            if deadline is not None and time.monotonic() >= deadline:
                raise QueueJoinTimeout(queue_name)
            time.sleep(interval / 1000)

    def _known(self, queue_name: str) -> str:
        if q_name(queue_name) not in self.queues:
            raise QueueNotFound(queue_name)
        return queue_of(self.namespace, queue_name)


class _WorkerLife(Middleware):
    """Tells the broker when a worker of Dramatiq starts and stops in this process."""

    def __init__(self, broker: OutworkBroker) -> None:
        self._broker = broker

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        self._broker.serve(worker.worker_threads, worker.consumer_whitelist or ())

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        self._broker.rest()


def application(url: str | None, app: Outwork | None, store_url: str | None = None) -> tuple[Outwork, bool]:
    """An application given as such, by its URLs, or by nothing: the default one; and whether it is ours to close."""
    if store_url and (app is not None or not url):
        raise SettingsError("store_url belongs to a url. Give both, or have both in the settings of the application")
    if app is not None:
        return app, False
    return (Outwork(url, store_url=store_url), True) if url else (applications.default_app, False)
