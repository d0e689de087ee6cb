"""Django's Task with Outwork's options, and the way to give them where Django's decorator does not pass them on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Final, TypeVar

from outwork.contrib.django.compat import InvalidTask, Task
from outwork.errors import DeclarationError, InvalidOption
from outwork.job import DEFAULT_QUEUE
from outwork.options import Delivery, Duration, Executor, Options, make_options
from outwork.retry import Retry

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
    """

    retry: Retry | None = None
    timeout: Duration | None = None
    keep_result: Duration | None = None
    expires: Duration | None = None
    max_crashes: int = 3
    delivery: Delivery = "at_least_once"
    executor: Executor | None = None

    def __post_init__(self) -> None:
        Task.__post_init__(self)  # `super()` does not find its class in one with slots
        declare: Callable[[Task], object] | None = getattr(self.get_backend(), "declare", None)
        if declare is not None:
            declare(self)


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
        )

    return decorate


def outwork_options(task: Task) -> Options:
    """The options of a Django task as the core has them. Raises DeclarationError, InvalidOption."""
    extras = extras_of(task)
    retry = extras.get("retry")
    if retry is not None and not isinstance(retry, Retry):
        raise DeclarationError(f"retry={retry!r}: write, for example, Retry(max_attempts=3), or None")
    max_crashes = extras.get("max_crashes", 3)
    if isinstance(max_crashes, bool) or not isinstance(max_crashes, int):
        raise DeclarationError(f"max_crashes={max_crashes!r}: a whole number is needed")
    return make_options(
        queue_name=task.queue_name or DEFAULT_QUEUE,
        priority=int(task.priority),
        retry=retry,
        timeout=extras.get("timeout"),
        keep_result=extras.get("keep_result"),
        expires=extras.get("expires"),
        max_crashes=max_crashes,
        delivery=extras.get("delivery", "at_least_once"),
        executor=extras.get("executor"),
        takes_context=True,
        unique=False,
        unique_for=None,
        unique_key=None,
        on_conflict=None,
        limit=None,
        fair_key=None,
        cron=None,
        every=None,
        timezone=None,
        misfire=None,
    )


def check_types(task: Task) -> None:
    """What Django's own validation takes for granted. Raises InvalidTask."""
    priority, moment = task.priority, task.run_after
    if isinstance(priority, bool) or not isinstance(priority, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidTask(f"priority must be a whole number, and {priority!r} is none.")
    if moment is not None and not isinstance(moment, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidTask(f"run_after must be a datetime, not a {type(moment).__qualname__}.")


def check_options(task: Task) -> None:
    """What Django's validation knows nothing of. Raises InvalidTask."""
    try:
        outwork_options(task)
    except (DeclarationError, InvalidOption) as error:
        raise InvalidTask(str(error)) from error
