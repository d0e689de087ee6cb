"""When a drain is over."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from outwork.brokers.base import Broker, Filter, Store
from outwork.job import State


def left_to_drain(broker: Broker, queues: Sequence[str]) -> int | None:
    """None while a job of these queues is ready, running or waits for a retry; else how many are scheduled for later.

    A broker that keeps no records cannot tell of the last two: 0. Raises what the broker says.
    """
    if not isinstance(broker, Store):
        return None if broker.has_ready(queues) else 0
    if _retries(broker, queues):  # looked for before and after: between two looks a retry may fall due
        return None
    mine = [count for count in broker.counts() if count.queue in queues]
    if any(count.jobs for count in mine if count.state in (State.READY, State.RUNNING)):
        return None
    scheduled = sum(count.jobs for count in mine if count.state is State.SCHEDULED)
    return None if scheduled and _retries(broker, queues) else scheduled


def _retries(store: Store, queues: Sequence[str]) -> bool:
    """Whether a job of these queues waits for a retry."""
    waiting = Filter(states=(State.SCHEDULED,), attempted=True)
    return any(store.find(replace(waiting, queue=queue), limit=1).records for queue in queues)
