"""Enqueueing inside the caller's transaction: which connection a call was given, and whether the broker can join it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outwork.brokers.base import Broker, JoinsTransactions
from outwork.client.admission import check_call
from outwork.errors import InvalidOption, Unsupported
from outwork.task import Call


def joining(broker: Broker) -> JoinsTransactions:
    """The broker, if it joins transactions. Raises Unsupported."""
    if broker.capabilities.transactional and isinstance(broker, JoinsTransactions):
        return broker
    raise Unsupported(
        f"connection= needs a broker in the application's own database (sqlite://, postgresql://, mysql://), or such a "
        f"store_url beside it, and this one is {broker.url}. Enqueue after the commit instead. Nothing was enqueued"
    )


def joined_connection(batch: Sequence[Call[Any]], given: object | None) -> object | None:
    """The one connection that these calls are to be written by; None: the broker's own. Raises InvalidOption; also for
    calls that others follow, which can be neither among many nor in a transaction of the caller's."""
    for one in batch:
        check_call(one, "enqueue_many(task.bind(...) for ...), with `bind` in the place of `enqueue`")
    if following := next((call for call in batch if call.task.options.followers), None):
        raise InvalidOption(
            f"{following.task.name}: on_success and on_failure go neither with connection= nor with enqueue_many. "
            "Enqueue them one by one, or as group([...]). Nothing was enqueued"
        )
    named = {id(call.task.connection): call.task.connection for call in batch}
    if given is not None:
        named = {identity: one for identity, one in named.items() if one is not None} | {id(given): given}
    if len(named) > 1:
        raise InvalidOption("these calls name different connections. Enqueue those of each by themselves")
    [connection] = named.values()
    return connection


def is_asynchronous(connection: object) -> bool:
    """Whether it is one for coroutines, by the name of its class: no driver is imported here."""
    return any(base.__qualname__.lower().startswith("async") for base in type(connection).__mro__)
