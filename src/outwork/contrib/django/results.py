"""What Django shows of a job: `TaskResult` made of our record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Final

from django.conf import settings

from outwork import codec
from outwork.contrib.django.compat import Task, TaskError, TaskResult, TaskResultStatus
from outwork.errors import Undecodable
from outwork.job import Failure, Job, Record, State

STATUS: Final = {
    State.SCHEDULED: TaskResultStatus.READY,  # its time has not come, or it waits for a retry
    State.READY: TaskResultStatus.READY,
    State.RUNNING: TaskResultStatus.RUNNING,
    State.SUCCESSFUL: TaskResultStatus.SUCCESSFUL,
    State.FAILED: TaskResultStatus.FAILED,
    State.CANCELLED: TaskResultStatus.FAILED,
}

UNSENDABLE: Final = "outwork.errors.ResultNotSerializable"

BACKEND: Final = "django.backend"
"""What a job carries if it was enqueued through a backend that is not called "default"."""


def moment(seconds: float | None) -> datetime | None:
    """A time as Django has it: aware, or in the local zone where USE_TZ is off."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC if settings.USE_TZ else None)


def arguments(body: bytes | memoryview) -> tuple[list[Any], dict[str, Any]]:
    """The arguments as they were given. Those of a job that `outwork` did not enqueue through Django are all named."""
    given = json.loads(str(body, "utf-8"))
    if isinstance(given, dict) and given.keys() == {"args", "kwargs"}:
        return given["args"], given["kwargs"]
    return [], given if isinstance(given, dict) else {}


def bare(task: Task, **changes: Any) -> Task:
    """The same task with other attributes, without validation: a result that was stored must be readable whatever the
    settings say by now."""
    copy: Task = object.__new__(type(task))
    for field in fields(task):
        object.__setattr__(copy, field.name, changes.get(field.name, getattr(task, field.name)))
    return copy


def errors_of(failures: Sequence[Failure]) -> list[TaskError]:
    """In Django a value that cannot be sent back is a plain TypeError."""
    return [
        TaskError(
            exception_class_path="builtins.TypeError" if one.exception == UNSENDABLE else one.exception,
            traceback=one.traceback or f"{one.exception}: {one.message}\n",
        )
        for one in failures
    ]


def workers_of(failures: Sequence[Failure], current: str | None, attempts: int) -> list[str]:
    """One name for each attempt, because Django counts attempts by them. Of many failures only some are kept."""
    names = [failure.worker for failure in failures if failure.worker]
    if current is not None:
        names.append(current)
    if names and len(names) < attempts:
        names[1:1] = [names[0]] * (attempts - len(names))
    return names[:attempts] if attempts < len(names) else names


def result_of(task: Task, record: Record, backend: str) -> TaskResult:
    """The record as Django's TaskResult. A body that cannot be read shows no arguments."""
    try:
        args, kwargs = arguments(codec.decode_job(record.body).args)
    except (Undecodable, ValueError):
        args, kwargs = [], {}
    errors = errors_of(record.errors)
    if record.state is State.CANCELLED:
        errors.append(TaskError(exception_class_path="outwork.errors.TaskFailed", traceback="the job was cancelled\n"))
    current = record.worker if record.state in (State.RUNNING, State.SUCCESSFUL) else None
    result = TaskResult(
        task=bare(
            task,
            priority=record.priority,
            queue_name=record.queue,
            run_after=moment(record.due) if record.state is State.SCHEDULED else None,
            backend=backend,
        ),
        id=record.id,
        status=STATUS[record.state],
        enqueued_at=moment(record.enqueued_at),
        started_at=moment(record.started_at),
        finished_at=moment(record.finished_at),
        last_attempted_at=moment(record.started_at),
        args=args,
        kwargs=kwargs,
        backend=backend,
        errors=errors,
        worker_ids=workers_of(record.errors, current, record.attempts),
    )
    if record.state is State.SUCCESSFUL and record.result is not None:
        change(result, _return_value=json.loads(record.result))
    return result


def new_result(task: Task, job: Job, backend: str, **changes: Any) -> TaskResult:
    """The result of a job that waits, or that begins to run."""
    args, kwargs = arguments(job.args)
    result = TaskResult(
        task=task,
        id=job.id,
        status=TaskResultStatus.READY,
        enqueued_at=None,
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=args,
        kwargs=kwargs,
        backend=backend,
        errors=[],
        worker_ids=[],
    )
    change(result, **changes)
    return result


def change(result: TaskResult, **changes: Any) -> None:
    """Results are frozen; whoever made one may still tell how it went on."""
    for name, value in changes.items():
        object.__setattr__(result, name, value)


def take(result: TaskResult, other: TaskResult) -> None:
    """Bring a result up to date with another one of the same job."""
    for field in fields(TaskResult):
        if field.name not in ("task", "backend"):
            object.__setattr__(result, field.name, getattr(other, field.name))
