"""The task API of the Django at hand: `django.tasks` where there is one (6.0), else the backport `django_tasks`.

All the rest of this package takes it from here. The backport has the same classes; two of its errors have longer names.
For type checkers the API is written down here, because Django has no types of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
    from dataclasses import dataclass
    from datetime import datetime
    from enum import StrEnum

    class InvalidTask(Exception): ...

    class InvalidTaskBackend(Exception): ...

    class TaskResultDoesNotExist(Exception): ...

    class TaskResultMismatch(Exception): ...

    class Signal:
        def send(self, sender: object, **named: Any) -> list[tuple[Any, Any]]: ...
        def connect(self, receiver: Callable[..., Any], **named: Any) -> None: ...
        def disconnect(self, receiver: Callable[..., Any], **named: Any) -> bool: ...

    task_enqueued: Signal
    task_started: Signal
    task_finished: Signal

    class TaskResultStatus(StrEnum):
        READY = "READY"
        RUNNING = "RUNNING"
        FAILED = "FAILED"
        SUCCESSFUL = "SUCCESSFUL"

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Task:
        func: Callable[..., Any]
        priority: int = 0
        backend: str = "default"
        queue_name: str = "default"
        run_after: datetime | None = None
        takes_context: bool = False

        def __post_init__(self) -> None: ...
        @property
        def name(self) -> str: ...
        @property
        def module_path(self) -> str: ...
        def get_backend(self) -> BaseTaskBackend: ...
        def using(
            self,
            *,
            priority: int | None = None,
            queue_name: str | None = None,
            run_after: datetime | None = None,
            backend: str | None = None,
        ) -> Task: ...
        def enqueue(self, *args: Any, **kwargs: Any) -> TaskResult: ...
        async def aenqueue(self, *args: Any, **kwargs: Any) -> TaskResult: ...
        def get_result(self, result_id: str) -> TaskResult: ...
        def call(self, *args: Any, **kwargs: Any) -> Any: ...
        async def acall(self, *args: Any, **kwargs: Any) -> Any: ...

    @dataclass(frozen=True, slots=True, kw_only=True)
    class TaskError:
        exception_class_path: str
        traceback: str

        @property
        def exception_class(self) -> type[BaseException]: ...

    @dataclass(frozen=True, slots=True, kw_only=True)
    class TaskResult:
        task: Task
        id: str
        status: TaskResultStatus
        enqueued_at: datetime | None
        started_at: datetime | None
        finished_at: datetime | None
        last_attempted_at: datetime | None
        args: list[Any]
        kwargs: dict[str, Any]
        backend: str
        errors: list[TaskError]
        worker_ids: list[str]
        _return_value: Any = None

        @property
        def return_value(self) -> Any: ...
        @property
        def is_finished(self) -> bool: ...
        @property
        def attempts(self) -> int: ...
        def refresh(self) -> None: ...
        async def arefresh(self) -> None: ...

    @dataclass(frozen=True, slots=True, kw_only=True)
    class TaskContext:
        task_result: TaskResult

        @property
        def attempt(self) -> int: ...

    class BaseTaskBackend:
        alias: str
        queues: set[str]
        options: dict[str, Any]
        task_class: type[Task]

        def __init__(self, alias: str, params: Mapping[str, Any]) -> None: ...
        def validate_task(self, task: Task) -> None: ...
        def enqueue(self, task: Task, args: Any, kwargs: Any) -> TaskResult: ...
        async def aenqueue(self, task: Task, args: Any, kwargs: Any) -> TaskResult: ...
        def get_result(self, result_id: str) -> TaskResult: ...
        async def aget_result(self, result_id: str) -> TaskResult: ...
        def check(self, **kwargs: Any) -> Iterable[Any]: ...

    class TaskBackendHandler:
        settings: dict[str, dict[str, Any]]

        def __getitem__(self, alias: str) -> BaseTaskBackend: ...
        def __iter__(self) -> Iterator[str]: ...

    task_backends: TaskBackendHandler
    NATIVE: bool

    def normalize_json(value: Any) -> Any: ...

    P = ParamSpec("P")
    R = TypeVar("R", covariant=True)

    class TypedResult(TaskResult, Generic[R]):
        @property
        def return_value(self) -> R: ...

    class TypedTask(Task, Generic[P, R]):
        """What a type checker knows of a task: its arguments and what it returns."""

        def using(
            self,
            *,
            priority: int | None = None,
            queue_name: str | None = None,
            run_after: datetime | None = None,
            backend: str | None = None,
        ) -> TypedTask[P, R]: ...
        def enqueue(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, *args: P.args, **kwargs: P.kwargs
        ) -> TypedResult[R]: ...
        async def aenqueue(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, *args: P.args, **kwargs: P.kwargs
        ) -> TypedResult[R]: ...
        def get_result(self, result_id: str) -> TypedResult[R]: ...
        def call(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, *args: P.args, **kwargs: P.kwargs
        ) -> R: ...
        async def acall(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, *args: P.args, **kwargs: P.kwargs
        ) -> R: ...

    class Decorator(Protocol):
        @overload
        def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> TypedTask[P, R]: ...
        @overload
        def __call__(self, function: Callable[P, R], /) -> TypedTask[P, R]: ...

    class ContextDecorator(Protocol):
        @overload
        def __call__(self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> TypedTask[P, R]: ...
        @overload
        def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> TypedTask[P, R]: ...

    @overload
    def task(function: Callable[P, Coroutine[Any, Any, R]], /) -> TypedTask[P, R]: ...
    @overload
    def task(function: Callable[P, R], /) -> TypedTask[P, R]: ...
    @overload
    def task(
        *,
        priority: int = 0,
        queue_name: str = "default",
        backend: str = "default",
        takes_context: Literal[False] = False,
        **kwargs: Any,
    ) -> Decorator: ...
    @overload
    def task(
        *,
        priority: int = 0,
        queue_name: str = "default",
        backend: str = "default",
        takes_context: Literal[True],
        **kwargs: Any,
    ) -> ContextDecorator: ...
    def task(function: Any = None, /, **options: Any) -> Any: ...

else:
    import django
    from django.core.exceptions import ImproperlyConfigured

    NATIVE = django.VERSION >= (6,)
    if NATIVE:
        from django.tasks import TaskContext, TaskResult, TaskResultStatus, task, task_backends
        from django.tasks.backends.base import BaseTaskBackend
        from django.tasks.base import Task, TaskError
        from django.tasks.exceptions import (
            InvalidTask,
            InvalidTaskBackend,
            TaskResultDoesNotExist,
            TaskResultMismatch,
        )
        from django.tasks.signals import task_enqueued, task_finished, task_started
        from django.utils.json import normalize_json
    else:
        try:
            from django_tasks import TaskContext, TaskResult, TaskResultStatus, task, task_backends
        except ImportError as error:
            raise ImproperlyConfigured(
                f"Django {django.get_version()} has no tasks of its own:  pip install django-tasks"
            ) from error
        from django_tasks.backends.base import BaseTaskBackend
        from django_tasks.base import Task, TaskError
        from django_tasks.exceptions import InvalidTaskBackendError as InvalidTaskBackend
        from django_tasks.exceptions import InvalidTaskError as InvalidTask
        from django_tasks.exceptions import TaskResultDoesNotExist, TaskResultMismatch
        from django_tasks.signals import task_enqueued, task_finished, task_started
        from django_tasks.utils import normalize_json

__all__ = [
    "NATIVE",
    "BaseTaskBackend",
    "InvalidTask",
    "InvalidTaskBackend",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskResultDoesNotExist",
    "TaskResultMismatch",
    "TaskResultStatus",
    "normalize_json",
    "task",
    "task_backends",
    "task_enqueued",
    "task_finished",
    "task_started",
]
