"""Values that are kept for a while in any store of ours, found by a key: results, and who has come to a barrier.

A value is a job that never runs, SCHEDULED for the moment when its time is over; its id is made of its key. Who waits
for one that is not there yet enqueues a second such job, its bell, and waits for its end; putting the value there
cancels it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from msgspec import Raw

from outwork import codec
from outwork.app import Outwork
from outwork.brokers.base import Filter, Standing, Store
from outwork.errors import EnqueueError, ResultTimeout, Unsupported
from outwork.ids import new_job_id
from outwork.job import WIRE_VERSION, Job, Record, State
from outwork.ties import Ties, Unique

BATCH: Final = 1000
SWEEP_EVERY: Final = 60.0
"""Seconds between looks for values whose time is over."""
LINGER: Final = 60.0
"""How many seconds a bell is kept beyond its waiter's timeout, should the waiter be killed."""
EMPTY: Final = Raw(b"{}")


class Shelf:
    """`name` is the task of its jobs, and the beginning of their queue's name."""

    def __init__(self, app: Outwork, name: str) -> None:
        self._app = app
        self._name = name
        self._queue = f"{name}:kept"
        self._swept_at = time.monotonic()
        self._sweeping = threading.Lock()

    def put(self, key: str, value: Raw, seconds: float) -> None:
        """Keep a JSON object, instead of one that is there, and wake who waits for it."""
        self._store.delete([_id(key)])
        self.offer(key, value, seconds)
        self._store.cancel([_bell(key)])
        self.sweep()

    def offer(self, key: str, value: Raw, seconds: float) -> None:
        """Keep it, if there is none of this key. Of several at the same time one is kept."""
        self._enqueue(_id(key), value, seconds)

    def look(self, key: str) -> Raw | None:
        """None: there is none, or its time is over."""
        [found] = self.look_all([key])
        return found

    def look_all(self, keys: Sequence[str]) -> list[Raw | None]:
        """The values of several keys."""
        return [_value(record) for record in self._store.get([_id(key) for key in keys])]

    def wait(self, key: str, seconds: float) -> Raw | None:
        """The value, as soon as it is there; None after so many seconds."""
        deadline = time.monotonic() + seconds
        found = self.look(key)
        while found is None and (left := deadline - time.monotonic()) > 0:
            self._enqueue(_bell(key), EMPTY, left + LINGER)  # and then look again, so that nothing comes unheard
            try:
                found = self.look(key)
                if found is None:
                    self._app.wait_for(_bell(key), left)
                    found = self.look(key)
            except ResultTimeout:
                return self.look(key)
            finally:
                self._store.delete([_bell(key)])
        return found

    def hold(self, place: str, seconds: float) -> tuple[str, str | None]:
        """Hold a place, if nobody does: the job by which it would be ours, and the one by which it is another's."""
        job_id = new_job_id()
        ties = Ties(unique=Unique(f"{self._name}:{place}"))
        answer = self._enqueue(job_id, EMPTY, seconds, ties)
        return job_id, answer.job_id if answer is not None else None

    def records(self, ids: Sequence[str]) -> list[Record | None]:
        """The jobs of these places."""
        return self._store.get(ids)

    def clear(self, ids: Sequence[str]) -> int:
        """Delete these jobs; how many there were."""
        return sum(state is not None for state in self._store.delete(ids)) if ids else 0

    def _enqueue(self, job_id: str, args: Raw, seconds: float, ties: Ties | None = None) -> Standing | None:
        job = Job(
            v=WIRE_VERSION,
            id=job_id,
            task=self._name,
            args=args,
            queue=self._queue,
            created=time.time(),
            delay=seconds,
            ties=ties,
        )
        [answer] = self._app.broker.enqueue([job])
        if isinstance(answer, EnqueueError):
            raise answer
        return answer

    def sweep(self) -> None:
        """Delete a batch of what is past its time, if it is time to."""
        if time.monotonic() - self._swept_at < SWEEP_EVERY or not self._sweeping.acquire(blocking=False):
            return
        try:
            self._swept_at = time.monotonic()
            over = self._store.find(Filter(states=(State.READY,), queue=self._queue), BATCH).records
            self._store.delete([record.id for record in over])
        finally:
            self._sweeping.release()

    @property
    def _store(self) -> Store:
        return self._app.store


def shelf_of(app: Outwork, name: str, *, at_once: bool) -> Shelf:
    """A shelf. `at_once`: refuse now, not at first use, where no records are kept; the settings of the default
    application may still change. Raises Unsupported."""
    if at_once and not isinstance(app.broker, Store):
        raise Unsupported(
            f"{app.broker.url} keeps no records. Give this backend a url=... of its own (a database, or Redis), or the "
            "broker a store: OutworkBroker(url, store_url='sqlite:///store.db')"
        )
    return Shelf(app, name)


def _value(record: Record | None) -> Raw | None:
    if record is None or record.state is not State.SCHEDULED:  # READY: its time is over
        return None
    return codec.decode_job(record.body).args


def _bell(key: str) -> str:
    return _id(f"{key}@bell")


def _id(key: str) -> str:
    """A job's id for a key: 122 bits of its hash, as a UUID of version 8."""
    digest = bytearray(hashlib.blake2b(key.encode(), digest_size=16).digest())
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return str(UUID(bytes=bytes(digest)))
