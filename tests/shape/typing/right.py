"""The correct twin of wrong.py: both type checkers accept every line."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from outwork import GroupResult, MemberFailed, Retry, TaskContext, TaskResult, chain, group, task


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
    assert_type(chain(add.bind(1), add.bind(y=2), send.bind()).enqueue(), TaskResult[str])
    assert_type(await chain(send.bind("ada"), measure).aenqueue(), TaskResult[float])
    assert_type(group(add.bind(n) for n in range(3)).enqueue().get(), list[int])
    assert_type(group(chain(add.bind(n), add) for n in range(3)).then(total).enqueue(), TaskResult[float])
    assert_type(chain(add.bind(1), group([add, add])).enqueue(), GroupResult[int])
    add.using(on_success=[send.bind("ada"), total], on_failure=measure).enqueue(1)


@task
def measure(text: str) -> float:
    return float(len(text))


@task
def total(numbers: list[int | MemberFailed]) -> float:
    return float(len(numbers))


@task(queue_name="low")
def sweep() -> None:
    pass
