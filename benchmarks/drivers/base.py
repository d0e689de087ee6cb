"""What the bare driver of a broker has to do here."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from outwork.brokers.base import Broker
from outwork.codec import encode_job
from outwork.job import Job


class Driver(ABC):
    """The driver without the broker: it writes what the broker writes, into the same tables, or as many bytes into the
    same kinds of keys or messages. The broker has made its tables before."""

    exchanges: ClassVar[bool] = True
    """Whether the broker hands out jobs without a worker."""

    @abstractmethod
    def __init__(self, url: str) -> None: ...

    def rows(self, jobs: Sequence[Job]) -> list[Any]:
        """The jobs as the driver takes them. This is not timed."""
        now = time.time()
        return [(job.id, job.task, job.queue, 0, now, now, 3, False, None, encode_job(job)) for job in jobs]

    @abstractmethod
    def many(self, rows: Sequence[Any]) -> None:
        """Write them, 1,000 at once, by the fastest way there is."""

    @abstractmethod
    def one_by_one(self, rows: Sequence[Any]) -> None:
        """Write them, each durable before the next one."""

    @abstractmethod
    def empty(self) -> None:
        """No job is left."""

    def crowd(self, broker: Broker, count: int) -> dict[str, float]:
        """So many finished and so many waiting jobs in the queue; what they weigh, in bytes, where it is known."""
        raise NotImplementedError

    def consume(self, rows: Sequence[Any]) -> float | None:
        """Take so many messages, bare; how many a second. None where it says nothing."""
        return None

    @abstractmethod
    def close(self) -> None: ...
