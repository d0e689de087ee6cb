"""Django's Task with Outwork's options, and the way to give them where Django's decorator does not pass them on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from django.utils.module_loading import import_string

from outwork.brokers.base import Capabilities
from outwork.client.admission import needs_of
from outwork.contrib.django.compat import InvalidTask, Task
from outwork.contrib.django.payload import required_parameters
from outwork.declaring.bounds import Key, Limit
from outwork.declaring.options import Delivery, Duration, Executor, Options, make_options
from outwork.errors import DeclarationError, InvalidOption
from outwork.habits import METHODS
from outwork.job import DEFAULT_QUEUE
from outwork.retry import Retry
from outwork.schedule import Misfire
from outwork.ties import Conflict

T = TypeVar("T", bound=Task)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutworkTask(Task):
    """A task of one of our backends. Beyond Django's attributes:

    - retry: what happens when it raises; None, as Django says: it is not tried again
    - timeout: how long one attempt may run
    - keep_result: how long the result is kept (0: not at all)
    - expires: how long a job may wait after it is due before it is not worth starting
    - max_crashes: how often its worker may die before the job ends FAILED
    - delivery: "at_most_once": never started twice, even after a crash
    - executor: "process" for code that holds the interpreter's lock for seconds, or must be isolated
    - unique: only one job with the same arguments waits or runs at a time; `unique_for`: for so long from its enqueue;
      `unique_key`: a key, or a function of the arguments that gives it; `on_conflict`: what another call does
    - limit: `Concurrency` or `Rate`, or several, over all workers
    - fair_key: a key, or a function of the arguments: those who have jobs in its queue take turns there
    - cron ("0 7 * * *", in `timezone`, by default UTC) or every (counted from the epoch): the workers enqueue it at
      these times; `misfire` is what becomes of times at which no worker ran
    """

    retry: Retry | None = None
    timeout: Duration | None = None
    keep_result: Duration | None = None
    expires: Duration | None = None
    max_crashes: int = 3
    delivery: Delivery = "at_least_once"
    executor: Executor | None = None
    unique: bool = False
    unique_for: Duration | None = None
    unique_key: Key | None = None
    on_conflict: Conflict | None = None
    limit: Limit | Sequence[Limit] | None = None
    fair_key: Key | None = None
    cron: str | None = None
    every: Duration | None = None
    timezone: str | None = None
    misfire: Misfire | None = None

    def __post_init__(self) -> None:
        if isinstance(self.limit, list):  # tasks can be hashed
            object.__setattr__(self, "limit", tuple(self.limit))
        Task.__post_init__(self)  # `super()` does not find its class in one with slots
        declare: Callable[[Task], object] | None = getattr(self.get_backend(), "declare", None)
        if declare is not None:
            declare(self)

    if not TYPE_CHECKING:  # for a type checker there is no such method either

        def __getattr__(self, name: str) -> Any:
            here = METHODS.get(name, "")
            said = f": write {here}" if here.endswith("enqueue(...)") else ""
            raise AttributeError(f"a task has no {name!r}{said}", name=name, obj=self)

    def __reduce__(self) -> tuple[Any, ...]:
        """The task that was declared, and what `using` changed: options may be functions, which cannot be pickled."""
        return declared_task, (self.module_path, {name: getattr(self, name) for name in CHANGEABLE})

    def __deepcopy__(self, memo: Any) -> OutworkTask:
        return self

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | None = None,
        backend: str | None = None,
    ) -> Task:
        """The same task with other options for its next enqueues. On another backend it has no schedule: the one that
        was declared fires it."""
        given = {"priority": priority, "queue_name": queue_name, "run_after": run_after, "backend": backend}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if changes.get("backend", self.backend) != self.backend:
            changes |= dict.fromkeys(SCHEDULE)
        return replace(self, **changes)


def declared_task(path: str, changes: dict[str, Any]) -> Task:
    """What a pickled task is made of."""
    task = import_string(path)
    if not isinstance(task, Task):
        raise ValueError(f"{path} is no task")
    return replace(task, **changes)


CHANGEABLE: Final = ("priority", "queue_name", "run_after", "backend")
SCHEDULE: Final = ("cron", "every", "timezone", "misfire")
EXTRAS: Final = tuple(field.name for field in fields(OutworkTask) if field.name not in Task.__dataclass_fields__)


def extras_of(task: Task) -> dict[str, Any]:
    """Our own options of a task; none of a task that was declared on another's backend."""
    return {name: getattr(task, name) for name in EXTRAS} if isinstance(task, OutworkTask) else {}


def options(
    *,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    keep_result: Duration | None = None,
    expires: Duration | None = None,
    max_crashes: int = 3,
    delivery: Delivery = "at_least_once",
    executor: Executor | None = None,
    unique: bool = False,
    unique_for: Duration | None = None,
    unique_key: Key | None = None,
    on_conflict: Conflict | None = None,
    limit: Limit | Sequence[Limit] | None = None,
    fair_key: Key | None = None,
    cron: str | None = None,
    every: Duration | None = None,
    timezone: str | None = None,
    misfire: Misfire | None = None,
) -> Callable[[T], T]:
    """Give a task Outwork's options, on every version of Django, whatever backend the settings choose:

        @options(retry=Retry(max_attempts=3), timeout=30)
        @task
        def send(...): ...

    On Django 6.1 and on the backport `@task(retry=..., timeout=...)` does the same, as long as the backend is ours: a
    backend of another package knows no such keywords. This decorator leaves the tasks of such a backend as they are.
    """

    def decorate(task: T) -> T:
        if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DeclarationError("@options(...) stands above @task, and takes the task that it makes")
        if not isinstance(task, OutworkTask):
            return task
        return replace(
            task,
            retry=retry,
            timeout=timeout,
            keep_result=keep_result,
            expires=expires,
            max_crashes=max_crashes,
            delivery=delivery,
            executor=executor,
            unique=unique,
            unique_for=unique_for,
            unique_key=unique_key,
            on_conflict=on_conflict,
            limit=limit,
            fair_key=fair_key,
            cron=cron,
            every=every,
            timezone=timezone,
            misfire=misfire,
        )

    return decorate


def outwork_options(task: Task) -> Options:
    """The options of a Django task as the core has them. Raises DeclarationError, InvalidOption."""
    extras = extras_of(task)
    retry = extras.get("retry")
    if retry is not None and not isinstance(retry, Retry):
        raise DeclarationError(f"retry={retry!r}: write, for example, Retry(max_attempts=3), or None")
    return make_options(
        queue_name=task.queue_name or DEFAULT_QUEUE,
        priority=int(task.priority),
        retry=retry,
        timeout=extras.get("timeout"),
        keep_result=extras.get("keep_result"),
        expires=extras.get("expires"),
        max_crashes=extras.get("max_crashes", 3),
        delivery=extras.get("delivery", "at_least_once"),
        executor=extras.get("executor"),
        takes_context=True,
        unique=extras.get("unique", False),
        unique_for=extras.get("unique_for"),
        unique_key=extras.get("unique_key"),
        on_conflict=extras.get("on_conflict"),
        limit=extras.get("limit"),
        fair_key=extras.get("fair_key"),
        cron=extras.get("cron"),
        every=extras.get("every"),
        timezone=extras.get("timezone"),
        misfire=extras.get("misfire"),
    )


def check_types(task: Task) -> None:
    """What Django's own validation takes for granted. Raises InvalidTask."""
    priority, moment = task.priority, task.run_after
    if isinstance(priority, bool) or not isinstance(priority, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidTask(f"priority must be a whole number, and {priority!r} is none.")
    if moment is not None and not isinstance(moment, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidTask(f"run_after must be a datetime, not a {type(moment).__qualname__}.")


def check_options(task: Task, can: Capabilities, place: str) -> None:
    """What Django's validation knows nothing of: options that contradict each other, that have no schedule, or that the
    broker (`place`) cannot keep. Raises InvalidTask."""
    try:
        options = outwork_options(task)
    except (DeclarationError, InvalidOption) as error:
        raise InvalidTask(str(error)) from None
    if options.periodic is not None and (missing := required_parameters(task.func, skip=int(task.takes_context))):
        raise InvalidTask(
            f"{task.module_path} is periodic, and nobody gives it {', '.join(missing)}. Give a default value; or leave "
            "the schedule to OPTIONS['periodic'], which can give arguments"
        )
    for option, capability in needs_of(options):
        if not getattr(can, capability):
            store = ", or give RabbitMQ a store: OPTIONS={'store_url': ...}" if not can.results else ""
            raise InvalidTask(
                f"{task.module_path}: {option} cannot be kept by {place}. Use DatabaseBackend or RedisBackend{store}"
            )
