from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from kiosk.api import TaskContext, task
from kiosk.models import Order
from outwork import Retry
from outwork.contrib.django import options


def write(word: str, key: object) -> None:
    """One line of the ledger, whole."""
    path = Path(os.environ.get("KIOSK_FOLDER") or settings.FOLDER, "ledger")
    with path.open("ab", buffering=0) as file:
        file.write(f"{word} {key}\n".encode())


@task
def noop(*args: Any, **kwargs: Any) -> None:
    return None


@task
def add(x: int, y: int = 1) -> int:
    return x + y


@task
def echo(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


@task
async def aecho(value: Any) -> Any:
    return value


@task
def fail(message: str = "as asked") -> None:
    raise ValueError(message)


@task
async def afail() -> None:
    raise ValueError("as asked")


@task
def fail_deeply() -> None:
    raise ValueError(ValueError("inside"))


@task
def interrupt() -> None:
    raise KeyboardInterrupt


@task
def leave() -> None:
    raise SystemExit(3)


@task
def strange() -> Any:
    return {1, 2}


@task(takes_context=True)
def attempt_of(context: TaskContext, extra: int = 0) -> list[Any]:
    result = context.task_result
    return [context.attempt, result.id, result.status, result.args, result.task.queue_name, result.backend, extra]


@task(takes_context=True)
async def aattempt_of(context: TaskContext) -> int:
    return context.attempt


@task(queue_name="mail", priority=5)
def mail(to: str) -> str:
    return to


@options(retry=Retry(max_attempts=3, delay=0.05, max_delay=0.1), timeout=60)
@task(takes_context=True)
def flaky(context: TaskContext, failures: int) -> int:
    write("attempt", context.attempt)
    if context.attempt <= failures:
        raise OSError("not yet")
    return context.attempt


@options(retry=Retry(max_attempts=2, delays=[3600.0], jitter=False))
@task(takes_context=True)
def second_try(context: TaskContext) -> int:
    if context.attempt == 1:
        raise OSError("not yet")
    return context.attempt


@task
def step(key: str, seconds: float = 0.0) -> str:
    write("start", key)
    time.sleep(seconds)
    write("end", key)
    return key


@task
def save(name: str) -> int:
    write("start", name)
    return Order.objects.create(name=name).pk


@task
async def asave(name: str) -> int:
    order = await Order.objects.acreate(name=name)
    return order.pk


@task
def look_at_connection() -> list[Any]:
    """Whether the connection was open before it was used, and the thread."""
    before = connection.connection is not None
    Order.objects.count()
    return [before, threading.current_thread().name]


@task
def pid() -> int:
    return os.getpid()


@task
def chain(name: str) -> str:
    """Enqueues another one."""
    return add.enqueue(1, 2).id


def plain() -> None:
    """No task."""
