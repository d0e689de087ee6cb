"""A broker without a worker: what its verbs can do, in jobs a second."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from typing import Final

from msgspec import Raw

from benchmarks.measuring import rate
from outwork.brokers.base import Broker, Claim, Claimed, Settlement, Share
from outwork.ids import new_job_id
from outwork.job import Done, Job, Release

BATCH: Final = 200
"""Jobs in an exchange."""
BULK: Final = 1000
"""Jobs in an enqueue of many."""
QUEUE: Final = "bench"
ME: Final = "bench-1"


def jobs(count: int) -> list[Job]:
    """With a number and a short text."""
    args = Raw(b'{"x":1,"y":"hello"}')
    now = time.time()
    return [Job(v=1, id=new_job_id(), task="bench.add", args=args, queue=QUEUE, created=now) for _ in range(count)]


def enqueue(broker: Broker, many: Sequence[Job], together: int = BULK) -> float:
    def run() -> None:
        for at in range(0, len(many), together):
            broker.enqueue(many[at : at + together])

    return rate(len(many), run)


def enqueue_by_threads(broker: Broker, many: Sequence[Job], count: int) -> float:
    """One at a time, by each of so many threads."""
    parts = [many[number::count] for number in range(count)]
    threads = [threading.Thread(target=enqueue, args=[broker, part, 1]) for part in parts]

    def run() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return rate(len(many), run)


def drain(broker: Broker, most: int | None = None) -> float:
    """Settle and claim in batches until nothing is left, or `most` are done."""
    held: list[Settlement] = []
    total = 0
    _exchange(broker, [], 0)  # the first one looks closer
    began = time.perf_counter()
    while True:
        claimed = _exchange(broker, held, BATCH)
        total += len(held)
        if not claimed or (most is not None and total >= most):
            seconds = time.perf_counter() - began
            _exchange(broker, [Settlement(one.id, one.claim_id, Release()) for one in claimed], 0)
            return total / seconds
        held = [Settlement(one.id, one.claim_id, Done(b"3")) for one in claimed]


def extend(broker: Broker, count: int = 1000) -> float:
    """Renew so many leases in one call, again and again."""
    enqueue(broker, jobs(count))
    claims = [Claim(one.id, one.claim_id) for one in _exchange(broker, [], count)]

    def run() -> None:
        for _ in range(10):
            broker.extend(claims)

    return rate(10 * len(claims), run)


def _exchange(broker: Broker, held: Sequence[Settlement], limit: int) -> Sequence[Claimed]:
    shares = [Share(QUEUE, limit)] if limit else []
    return broker.exchange(secrets.token_hex(16), held, shares, limit, limit, ME).claimed
