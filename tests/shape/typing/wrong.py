"""Ten mistakes, each on a line that says so. right.py is the same without them."""

from __future__ import annotations

from datetime import timedelta

from outwork import Retry, TaskContext, chain, task


@task
def add(x: int, y: int = 0) -> int:
    return x + y


@task(queue_name="mail", priority=10, retry=Retry(max_attempts=3), timeout=30, takes_context=True)
async def send(context: TaskContext, to: str) -> str:
    return f"{to} {context.attempt}"


async def use() -> None:
    add.enqueue("1", 2)  # planted: wrong type
    add.enqueue()  # planted: missing argument
    add.enqueue(1, z=2)  # planted: unknown keyword
    send.enqueue(5)  # planted: wrong type behind the context argument
    add.using(priority=5, run_after=timedelta(minutes=5)).enqueue(1, "2")  # planted: wrong type after using
    await add.enqueue(1, 2)  # planted: awaiting a call that is not async
    chain(add.bind("1"), send.bind())  # planted: wrong type in a step
    send.bind().enqueue()  # planted: a call that lacks an argument by itself
    text: str = chain(send.bind("ada"), add).enqueue().get()  # planted: what the last step returns is a number
    print(text)


@task(queue="low")  # planted: unknown option
def sweep() -> None:
    pass
