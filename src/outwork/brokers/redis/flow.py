"""What bounds, binds and steers jobs, in Redis: enqueueing jobs with ties, pauses, orders, progress, schedules."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import chain
from struct import pack, unpack
from typing import Any, Final

from outwork.brokers.base import Accepted, Orders, Report, Standing, Store
from outwork.brokers.ledger import key_held, unknown_upstream
from outwork.brokers.redis import records
from outwork.brokers.redis.connections import Argument
from outwork.brokers.redis.outbox import CHUNK
from outwork.errors import EnqueueError
from outwork.job import Job

CHUNK_BYTES: Final = 32 * 1024 * 1024
"""A server closes the connection of a client that sends more than 1 GB at once."""


class RedisFlow(Store):
    """These verbs of `RedisBroker`."""

    clock_offset: float

    @abstractmethod
    def _run(self, name: str, *arguments: Argument) -> Any: ...

    @abstractmethod
    def _run_durably(self, name: str, *arguments: Argument) -> Any: ...

    def _enqueue_bound(self, jobs: Sequence[Job]) -> list[Accepted]:
        """Enqueue jobs some of which have ties."""
        answers: list[Accepted] = [None] * len(jobs)
        packed: list[tuple[str | bytes, ...]] = []
        packable: list[int] = []
        for index, job in enumerate(jobs):
            try:
                packed.append(records.bound_arguments(job))
                packable.append(index)
            except EnqueueError as error:
                answers[index] = error
        replies = [reply for chunk in in_chunks(packed) for reply in self._run_durably("bind", *chunk)]
        for index, reply in zip(packable, replies, strict=True):
            if reply:
                answers[index] = _accepted(jobs[index], reply[:1], reply[1:].decode())
        return answers

    def orders(self, worker: str) -> Orders:
        paused, stop = self._run("orders", worker)
        return Orders(frozenset(what.decode() for what in paused), frozenset(job_id.decode() for job_id in stop))

    def pause(self, what: str) -> None:
        self._run("pausing", "pause", what)

    def resume(self, what: str) -> None:
        self._run("pausing", "resume", what)

    def report(self, reports: Sequence[Report]) -> None:
        for start in range(0, len(reports), CHUNK):
            parts: list[Argument] = []
            for job_id, claim_id, progress in reports[start : start + CHUNK]:
                parts += (job_id, claim_id, progress)
            self._run("report", *parts)

    def progress(self, ids: Sequence[str]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for start in range(0, len(ids), CHUNK):
            found += self._run("progress", *ids[start : start + CHUNK])
        return found

    def tick(self, schedule: str, last: float | None, slot: float, jobs: Sequence[Job]) -> bool:
        before = b"" if last is None else _slot(last)
        arguments = chain.from_iterable(records.bound_arguments(job) for job in jobs)
        return bool(self._run_durably("tick", schedule, before, _slot(slot), *arguments))

    def schedules(self) -> dict[str, float]:
        found = self._run("schedules")
        return {name.decode(): unpack(">d", packed)[0] for name, packed in zip(found[::2], found[1::2], strict=True)}


def _accepted(job: Job, letter: bytes, other: str) -> Accepted:
    """What `let_in` of `lua/binding.lua` answers; `other` is a job's id."""
    match letter:
        case b"S":
            return Standing(other)
        case b"D":
            assert job.ties is not None
            assert job.ties.unique is not None
            return key_held(job.task, job.ties.unique.key, other)
        case _:
            return unknown_upstream(job.task, other)


def _slot(moment: float) -> bytes:
    """A moment as it is kept: without loss."""
    return pack(">d", moment)


def in_chunks(packed: Sequence[tuple[str | bytes, ...]]) -> list[list[str | bytes]]:
    """The arguments of all, flat, in as many chunks as the server should take at once."""
    flat = list(chain.from_iterable(packed))
    if len(packed) <= CHUNK and sum(map(len, flat)) <= CHUNK_BYTES:
        return [flat] if flat else []
    chunks: list[list[str | bytes]] = []
    number = size = 0
    for arguments in packed:
        weight = sum(map(len, arguments))
        if not chunks or number >= CHUNK or size + weight > CHUNK_BYTES:
            chunks.append([])
            number = size = 0
        chunks[-1] += arguments
        number += 1
        size += weight
    return chunks
