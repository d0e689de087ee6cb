"""The correct twin of wrong.py: both type checkers accept every line."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from outwork import Retry, TaskContext, TaskResult, task


@task
def add(x: int, y: int = 0) -> int:
    return x + y


@task(queue_name="mail", priority=10, retry=Retry(max_attempts=3), timeout=30, takes_context=True)
async def send(context: TaskContext, to: str) -> str:
    return f"{to} {context.attempt}"


async def use() -> None:
    add.enqueue(1, 2)
    add.enqueue(1)
    add.enqueue(1, y=2)
    send.enqueue("ada@example.com")
    add.using(priority=5, run_after=timedelta(minutes=5)).enqueue(1, 2)
    assert_type(add(1, 2), int)
    assert_type(await send("ada@example.com"), str)
    assert_type(add.enqueue(1, 2), TaskResult[int])
    assert_type(await send.aenqueue("ada@example.com"), TaskResult[str])
    assert_type((await add.aenqueue(1, 2)).return_value, int)


@task(queue_name="low")
def sweep() -> None:
    pass
