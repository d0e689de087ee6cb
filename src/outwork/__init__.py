"""Background tasks for Python web applications: write the task once; the operator picks where it runs, with one URL."""

from outwork.app import Outwork, default_app
from outwork.composition.flow import chain, group
from outwork.context import TaskContext, current_context
from outwork.declaring.bounds import Concurrency, Rate
from outwork.declaring.providers import provided
from outwork.errors import (
    GiveUp,
    OutworkError,
    ResultTimeout,
    Snooze,
    TaskFailed,
    TryAgain,
)
from outwork.feeding import MemberFailed
from outwork.job import State
from outwork.progress import Progress
from outwork.result import GroupResult, TaskError, TaskResult, TaskResultStatus
from outwork.retry import Retry
from outwork.task import AsyncTask, Call, Task

__version__ = "0.1.0"

task = default_app.task
provide = default_app.provide
configure = default_app.configure
enqueue_many = default_app.enqueue_many
aenqueue_many = default_app.aenqueue_many
get_result = default_app.get_result
aget_result = default_app.aget_result

__all__ = [
    "AsyncTask",
    "Call",
    "Concurrency",
    "GiveUp",
    "GroupResult",
    "MemberFailed",
    "Outwork",
    "OutworkError",
    "Progress",
    "Rate",
    "ResultTimeout",
    "Retry",
    "Snooze",
    "State",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskFailed",
    "TaskResult",
    "TaskResultStatus",
    "TryAgain",
    "aenqueue_many",
    "aget_result",
    "chain",
    "configure",
    "current_context",
    "default_app",
    "enqueue_many",
    "get_result",
    "group",
    "provide",
    "provided",
    "task",
]
