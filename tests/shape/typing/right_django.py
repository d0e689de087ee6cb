"""What a type checker knows of a Django task declared by Outwork's decorator."""

from __future__ import annotations

from typing import Any, assert_type

from outwork import Retry
from outwork.contrib.django import options, task


@task
def add(x: int, y: int = 1) -> int:
    return x + y


@options(retry=Retry(max_attempts=3))
@task(queue_name="mail", priority=5)
async def send(to: str) -> str:
    return to


@task(takes_context=True)
def attempt(context: Any, number: int) -> float:
    return float(number)


async def use() -> None:
    assert_type(add.enqueue(1, y=2).return_value, int)
    assert_type(add.using(priority=3).enqueue(1).return_value, int)
    assert_type(add.call(1), int)
    assert_type((await send.aenqueue("ada@example.com")).return_value, str)
    assert_type(attempt.enqueue(1).return_value, float)
