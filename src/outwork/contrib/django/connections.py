"""Django's database connections: around an attempt none that is broken or too old is used, none is left open; and
whether one is in a transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections, transaction

from outwork.client.immediate import WORKER as CALLER
from outwork.context import TaskContext


def around(context: TaskContext) -> Iterator[None]:
    """For a `def` task, on its own thread. In the caller of `enqueue` the connections are the caller's."""
    if context.worker_id == CALLER:
        yield
        return
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()


async def aaround(context: TaskContext) -> AsyncIterator[None]:
    """For an `async def` task: the ORM runs on the thread that `sync_to_async` gives it."""
    if context.worker_id == CALLER:
        yield
        return
    close = sync_to_async(close_old_connections, thread_sensitive=True)
    await close()
    try:
        yield
    finally:
        await close()


def is_in_transaction(alias: str) -> bool:
    """False for an alias that is not there, which the broker says."""
    return alias in connections and bool(transaction.get_connection(alias).in_atomic_block)


def is_in_test_only(alias: str) -> bool:
    """Whether the only transactions here are those that Django's TestCase wraps around its tests."""
    blocks = getattr(transaction.get_connection(alias), "atomic_blocks", [])
    return all(getattr(block, "_from_testcase", False) for block in blocks)
