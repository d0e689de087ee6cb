"""The backends for Django's `TASKS` setting: one that takes any broker, and thin names for the usual ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, transaction
from django.utils import timezone
from msgspec import Raw
from msgspec.structs import replace

from outwork import codec
from outwork.app import Outwork
from outwork.brokers.base import Broker, Capabilities, Standing, Store
from outwork.contrib.django.application import INTERRUPTED, Application, BoundTask, application_of
from outwork.contrib.django.compat import (
    BaseTaskBackend,
    InvalidTask,
    Task,
    TaskResult,
    TaskResultDoesNotExist,
    task_enqueued,
)
from outwork.contrib.django.connections import is_in_test_only, is_in_transaction
from outwork.contrib.django.load import hand_down
from outwork.contrib.django.results import BACKEND, change, new_result, result_of, take
from outwork.contrib.django.tasks import OutworkTask, check_options, check_types
from outwork.contrib.django.unsent import Outbox
from outwork.durations import seconds_of
from outwork.errors import BrokerUnavailable, EnqueueError, OutworkError, SettingsError, Undecodable
from outwork.job import WIRE_VERSION, Job, Record
from outwork.task import Call

if TYPE_CHECKING:
    from outwork.contrib.django.database.joined import JoinedBroker

DAYS_KEPT: Final = 14 * 86_400.0
"""How many seconds a finished job is kept, the successful ones too: what the neighbours' prune commands have."""

SHAPES: Final = (
    ("OPTIONS", (Mapping,), "a dict"),
    ("QUEUES", (list, tuple, set, frozenset), "a list of names, as in ['default', 'mail']"),
)
"""What Django takes as it comes."""
OPTIONS: Final = frozenset(
    {
        "broker_url",
        "broker",
        "store_url",
        "enqueue_on_commit",
        "keep",
        "keep_failed",
        "max_payload",
        "database",
        "periodic",
    }
)


class MadeCall(Call[Any]):
    """A call whose job exists already: its id is known before it is sent."""

    __slots__ = ("_made",)

    def __init__(self, call: Call[Any], alias: str) -> None:
        super().__init__(call.task, call.args, call.ties)
        made = call.job()
        self._made = made if alias == "default" else replace(made, carried={BACKEND: alias})

    def job(self) -> Job:
        return self._made


class OutworkBackend(BaseTaskBackend):
    """Any broker: `OPTIONS={"broker_url": "redis://localhost"}`. Further options:

    - broker: the class of another package's broker, as "module:Class"
    - store_url: a database beside RabbitMQ, for results and whatever else RabbitMQ cannot keep
    - enqueue_on_commit: False sends at once; True (the default, where jobs run elsewhere) when the caller's transaction
      is committed, so that nothing is sent from a block that is rolled back
    - database: the alias whose transaction is meant; "default" if not given
    - keep, keep_failed: how long finished jobs are kept ("14d"; seconds; a timedelta)
    - max_payload: how many bytes the arguments may take
    - periodic: schedules by their names, as `[periodic.NAME]` in a configuration file has them
    """

    task_class = OutworkTask
    broker_url: ClassVar[str] = ""
    broker: ClassVar[str] = ""

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        self._wrong = [
            f"TASKS[{alias!r}]: {name} is {params[name]!r}. Write {example}"
            for name, kinds, example in SHAPES
            if name in params and not isinstance(params[name], kinds)
        ]
        if self._wrong:  # said by the system checks, and by whoever uses the backend
            params = {**params, "OPTIONS": {}, "QUEUES": []}
        super().__init__(alias, params)
        self._params = {**params, "OPTIONS": dict(self.options), "QUEUES": sorted(self.queues)}

    # ---- the application and its broker -----------------------------------------------------------------------------

    @cached_property
    def app(self) -> Application:
        """The application of this alias: its tasks, its broker, its hooks. Shared by all threads."""
        return application_of(self.alias, type(self), self._params, self._make_app)

    def _make_app(self) -> Application:
        queues = sorted(self.queues) or None
        app = Application(self.alias, type(self), max_payload=self.options.get("max_payload"), queues=queues)
        app.configure({"framework": "Django", **self.settings_of_app()})
        if self.runs_in == "embedded":
            hand_down()
        if self.runs_in in ("elsewhere", "embedded") and self.capabilities.durable:
            app.outbox = Outbox(app, self.transaction_of, self._is_elsewhere)
            app.chores.append(app.outbox.send_old)
        return app

    def settings_of_app(self) -> dict[str, object]:
        """The settings of the application, by their dotted keys. Raises SettingsError."""
        if self._wrong:
            raise SettingsError(self._wrong[0])
        options: dict[str, Any] = self.options
        return {
            "broker_url": options.get("broker_url", self.broker_url) or "immediate:",
            "broker": options.get("broker", self.broker),
            "store_url": options.get("store_url"),
            "periodic": options.get("periodic"),
            "retention.results": self._seconds("keep"),
            "retention.failed": self._seconds("keep_failed"),
        }

    def _seconds(self, option: str) -> float:
        try:
            return seconds_of(self.options.get(option, DAYS_KEPT))
        except ValueError as error:
            raise SettingsError(f"TASKS[{self.alias!r}]: OPTIONS[{option!r}]: {error}") from error

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the broker can do, asked of one that is not used: the application's own is opened later, because a
        command line may still change its settings."""
        return self._look()[0]

    @cached_property
    def runs_in(self) -> str:
        return self._look()[1]

    def _look(self) -> tuple[Capabilities, str]:
        try:
            broker = self.probe()
        except OutworkError:  # the system checks say it, and whoever enqueues; importing a task must not fail of it
            return Capabilities(), "elsewhere"
        try:
            return broker.capabilities, broker.runs_in
        finally:
            broker.close()

    def probe(self) -> Broker:
        """A broker as the settings say, not connected. Raises SettingsError, InvalidURL, MissingDriver."""
        app = Outwork()
        app.configure(self.settings_of_app())
        return app.broker

    supports_async_task = True

    @cached_property
    def supports_defer(self) -> bool:
        return self.capabilities.defer

    @cached_property
    def supports_priority(self) -> bool:
        return self.runs_in == "caller" or self.capabilities.priority_levels > 1

    @cached_property
    def supports_get_result(self) -> bool:
        """From any process. Of a broker in memory the results are known in its own process only."""
        return self.capabilities.results and self.capabilities.shared

    # ---- tasks ------------------------------------------------------------------------------------------------------

    def validate_task(self, task: Task) -> None:
        check_types(task)
        super().validate_task(task)
        check_options(task, self.capabilities, f"TASKS[{self.alias!r}] ({type(self).__name__})")

    def declare(self, task: Task) -> None:
        """Know a task, so that a worker in this process can run it."""
        self.app.declare(task)

    # ---- enqueueing -------------------------------------------------------------------------------------------------

    def enqueue(self, task: Task, args: Any, kwargs: Any) -> TaskResult:
        """Refuse, or put a job in the broker, now or with the caller's transaction.

        Raises InvalidTask; TypeError and ValueError for arguments that cannot be sent; BrokerUnavailable.
        """
        self.validate_task(task)
        call = self._call(task, args, kwargs)
        result = new_result(task, call.job(), self.alias)
        if self.runs_in == "caller":
            return self._run_here(call, result)
        if self.runs_in == "nowhere":
            return self._record(call, result)
        using = self._waits_for(call)
        outbox = self.app.outbox
        if using is None:
            self._send(call, result)
        elif outbox is not None and outbox.using == using and outbox.is_kept():
            self._leave(call, result, outbox)
        else:
            transaction.on_commit(lambda: self._send(call, result), using=using)
        return result

    def _call(self, task: Task, args: Any, kwargs: Any) -> MadeCall:
        declared = self.app.declare(task)
        queue, priority, due = task.queue_name, int(task.priority), _aware(task.run_after)
        if due or (queue, priority) != (declared.options.queue_name, declared.options.priority):
            try:
                declared = declared.using(queue_name=queue, priority=priority, run_after=due)
            except EnqueueError as error:
                raise InvalidTask(str(error)) from error
        return MadeCall(declared.call_of(args, kwargs), self.alias)

    def _send(self, call: MadeCall, result: TaskResult) -> None:
        done = self.app.enqueue(call)
        change(result, enqueued_at=timezone.now())
        if done.id != result.id:
            self._take_over(result, done.id)
            return
        task_enqueued.send(sender=type(self), task_result=result)

    def _leave(self, call: MadeCall, result: TaskResult, outbox: Outbox) -> None:
        """Keep a job in the transaction; when that is committed, send it."""

        def sent(instead: Standing | None) -> None:
            change(result, enqueued_at=timezone.now())
            if instead is not None:
                self._take_over(result, instead.job_id)
                return
            task_enqueued.send(sender=type(self), task_result=result)

        outbox.put(self.app.make_job(call), sent)

    def _take_over(self, result: TaskResult, job_id: str) -> None:
        """A unique job: this other one stands for the call, as long as it is not over and forgotten."""
        change(result, id=job_id)
        with suppress(TaskResultDoesNotExist, BrokerUnavailable):  # it stands there, seen or not
            for record in [] if self.store is None else self.store.get([job_id]):
                if record is not None:
                    take(result, self.result_of(record))

    def _record(self, call: MadeCall, result: TaskResult) -> TaskResult:
        done = self.app.enqueue(call)
        change(result, enqueued_at=timezone.now())
        if done.id != result.id:
            self._take_over(result, done.id)
            for recorded in self.app.recorded:
                if recorded.id == done.id:
                    take(recorded, deepcopy(result))
            return result
        self.app.recorded.append(result)
        task_enqueued.send(sender=type(self), task_result=result)
        return deepcopy(result)

    def _run_here(self, call: MadeCall, result: TaskResult) -> TaskResult:
        change(result, enqueued_at=timezone.now())
        task_enqueued.send(sender=type(self), task_result=result)
        self.app.expect(result)
        try:
            done = self.app.enqueue(call)
        finally:
            self.app.forget(result.id)
        record = self.app.look_up(done.id)
        if record is not None:
            before = result.enqueued_at
            take(result, result_of(result.task, record, self.alias))
            change(result, enqueued_at=before)
        if result.errors and result.errors[-1].exception_class_path == INTERRUPTED:
            raise KeyboardInterrupt
        return result

    # ---- transactions -----------------------------------------------------------------------------------------------

    @property
    def transaction_of(self) -> str:
        """The alias of the database whose commit is waited for."""
        return str(self.options.get("database") or DEFAULT_DB_ALIAS)

    def _is_elsewhere(self) -> bool:
        """Whether the jobs are in another place than the database whose commit is waited for."""
        return True

    def _waits_for(self, call: MadeCall) -> str | None:
        """The database whose commit this job waits for; None if there is nothing to wait for."""
        waits = self.options.get("enqueue_on_commit", True)
        return self.transaction_of if waits and is_in_transaction(self.transaction_of) else None

    # ---- results ----------------------------------------------------------------------------------------------------

    def get_result(self, result_id: str) -> TaskResult:
        """Raises TaskResultDoesNotExist, also for a job that was enqueued through another backend."""
        if self.runs_in == "nowhere":
            for result in self.app.recorded:
                if result.id == result_id:
                    return result
            raise TaskResultDoesNotExist(result_id)
        store = self.store
        if store is None or self.runs_in == "caller":
            raise NotImplementedError("This backend does not support retrieving or refreshing results.")
        [record] = store.get([str(result_id)])
        if record is not None:
            return self.result_of(record)
        unsent = self.app.outbox.find(str(result_id)) if self.app.outbox is not None else None
        if unsent is None:
            raise TaskResultDoesNotExist(result_id)
        return new_result(self._known_task(unsent.task), unsent, self.alias)

    @property
    def store(self) -> Store | None:
        """Where jobs are looked up, None where none are kept."""
        broker = self.app.broker
        return broker if isinstance(broker, Store) else None

    def result_of(self, record: Record) -> TaskResult:
        """A record as Django's TaskResult. Raises TaskResultDoesNotExist for a job of another backend."""
        try:
            job = codec.decode_job(record.body)
        except Undecodable:
            job = Job(v=WIRE_VERSION, id=record.id, task=record.task, args=Raw(b"{}"))
        alias = (job.carried or {}).get(BACKEND, self.alias)
        if alias != self.alias:
            raise TaskResultDoesNotExist(f"{record.id} belongs to the task backend {alias!r}, not to {self.alias!r}")
        return result_of(self._known_task(record.task), record, self.alias)

    def _known_task(self, path: str) -> Task:
        known = self.app.tasks.get(path)
        return known.django if isinstance(known, BoundTask) else _unknown_task(path)

    # ---- checks -----------------------------------------------------------------------------------------------------

    def check(self, **kwargs: Any) -> Iterable[Any]:
        from outwork.contrib.django.checks import check_backend

        yield from super().check(**kwargs)
        yield from check_backend(self)

    def close(self) -> None:
        """Close the broker's connections; using the backend again opens them again."""
        self.app.close()


class ImmediateBackend(OutworkBackend):
    """Tasks run in the caller, before `enqueue` returns."""

    broker_url = "immediate:"


class DummyBackend(OutworkBackend):
    """Nothing runs: `results` lists what was enqueued, `clear()` forgets it. For tests."""

    broker_url = "dummy:"

    @property
    def results(self) -> list[TaskResult]:
        return self.app.recorded

    def clear(self) -> None:
        self.app.recorded.clear()
        self.app.close()  # a new broker: none of the old jobs holds a unique key


class ThreadPoolBackend(OutworkBackend):
    """Tasks run on threads of the web process. Those that wait when it ends are lost."""

    broker_url = "thread:"


class ProcessPoolBackend(OutworkBackend):
    """Tasks run in child processes of the web process. Those that wait when it ends are lost."""

    broker_url = "process:"


class RedisBackend(OutworkBackend):
    """Redis or Valkey: `OPTIONS={"broker_url": "redis://localhost:6379/0"}`, which is also what it is without."""

    broker_url = "redis://localhost:6379/0"


class RabbitMQBackend(OutworkBackend):
    """RabbitMQ: `OPTIONS={"broker_url": "amqp://guest:guest@localhost/"}`, which is also what it is without."""

    broker_url = "amqp://localhost"


class DatabaseBackend(OutworkBackend):
    """The application's own database: `OPTIONS={"database": "jobs"}` names it, otherwise Django's routers do.

    The job's row belongs to the caller's transaction. If that is one of another database, it is written when that one
    is committed.
    """

    broker = "outwork.contrib.django.database:DatabaseBroker"

    def settings_of_app(self) -> dict[str, object]:
        if "broker_url" in self.options or "broker" in self.options:
            raise SettingsError(
                f"TASKS[{self.alias!r}]: DatabaseBackend takes its database from OPTIONS['database'], and no "
                "broker_url. For another place use outwork.contrib.django.OutworkBackend"
            )
        return {**super().settings_of_app(), "broker_url": f"django:{self.options.get('database') or ''}"}

    @cached_property
    def database(self) -> str:
        """The alias of the database that holds the jobs."""
        from outwork.contrib.django.database import database_of

        return database_of(self.options.get("database"))

    def _is_elsewhere(self) -> bool:
        """Or whether some jobs have to wait for the commit all the same."""
        if self.database != self.transaction_of:
            return True
        declared = [task.options for task in self.app.tasks.values()]
        return any(options.unique is not None or options.fair_key is not None for options in declared)

    def _waits_for(self, call: MadeCall) -> str | None:
        """A job that has to look at others takes locks, which the caller's transaction would hold for as long as it
        lasts: against the workers, and against others that enqueue the same keys in another order. The transaction of
        a test is nobody's but its own."""
        if not is_in_transaction(self.database):
            return super()._waits_for(call)
        bound = call.ties is not None and call.ties.bound_at_enqueue
        waits = bound and self.options.get("enqueue_on_commit", True)
        return self.database if waits and not is_in_test_only(self.database) else None

    @property
    def transaction_of(self) -> str:
        return DEFAULT_DB_ALIAS

    @property
    def store(self) -> Store:
        """The jobs as Django's own connection sees them, those of an open transaction included."""
        return self.joined

    @property
    def joined(self) -> JoinedBroker:
        """The broker on Django's connection of this thread."""
        from outwork.contrib.django.database import DatabaseBroker

        broker = self.app.broker
        assert isinstance(broker, DatabaseBroker)
        return broker.joined


def _aware(moment: datetime | None) -> datetime | None:
    return timezone.make_aware(moment) if moment is not None and timezone.is_naive(moment) else moment


def _unknown_task(path: str) -> Task:
    """Stands for a task that is no longer in the code, so that its results can still be looked at."""
    module, _, name = path.rpartition(".")

    def gone(*args: Any, **kwargs: Any) -> Any:
        raise ImproperlyConfigured(f"the task {path} is no longer in the code")

    gone.__module__, gone.__qualname__, gone.__name__ = module, name, name
    task: Task = object.__new__(OutworkTask)
    defaults = {name: field.default for name, field in OutworkTask.__dataclass_fields__.items()}
    for name, value in {**defaults, "func": gone}.items():
        object.__setattr__(task, name, value)
    return task
