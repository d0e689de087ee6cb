"""What the SQL broker asks of a database. The verbs (`broker.py`) are written once in these terms; a dialect says them
in its own SQL, each with as few statements as it can.

A job is a row of what was asked for, and a row in exactly one place: ready, scheduled, running or ended.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple, TypeVar

from outwork.brokers.base import Claim, Claimed, Count, Filter, Presence, Settlement, Share
from outwork.brokers.sql.connections import Role
from outwork.brokers.sql.migrate import Step
from outwork.errors import BrokerUnavailable, Unsupported
from outwork.job import Job, Moment, Record

T = TypeVar("T")


class Interrupted(BrokerUnavailable):
    """The connection broke in the middle: what was asked may have been done."""


class Statement(NamedTuple):
    """One SQL statement and its parameters: an enqueue as data, so that a foreign connection can run it."""

    sql: str
    parameters: Sequence[object]


class Look(NamedTuple):
    """What there is to do in a queue: jobs that anybody may take, solo jobs, and in how many seconds the next scheduled
    one is due (None: none is)."""

    queue: str
    common: bool
    solo: bool
    due_in: float | None

    @property
    def work(self) -> bool:
        return self.common or self.solo or (self.due_in is not None and self.due_in <= 0)


class Swap(NamedTuple):
    """What one round trip did: which of the successes it settled (None: all), what it claimed, and in how many seconds
    the next scheduled job is due. `care`: it claimed nothing, because not all was settled, or because solo or due jobs
    are in the line: the verbs that look closer have to do it."""

    settled: Collection[str] | None
    claimed: list[Claimed]
    due_in: float | None
    care: bool


class Change(NamedTuple):
    """A move of one job, to be written down."""

    before: Record
    after: Record


class Transaction(ABC):
    """Everything that happens inside one transaction. `now` is its one reading of the clock."""

    now: Moment

    # ---- hot: a whole batch in a statement or two -------------------------------------------------------------------

    @abstractmethod
    def succeed(self, claim_id: str, results: Mapping[str, bytes], prune_at: float) -> int:
        """Settle the jobs of this claim that run as SUCCESSFUL, `results` by job id. How many there were.

        Raises ValueError for results that it cannot take in this way; nothing was done then.
        """

    @abstractmethod
    def look(self, queues: Collection[str]) -> list[Look]: ...

    @abstractmethod
    def promote(self, queues: Collection[str], limit: int) -> int:
        """Make ready up to `limit` scheduled jobs of each queue that are due. How many."""

    @abstractmethod
    def take(self, queue: str, most: int, claim_id: str, worker: str, lease_until: float) -> list[Claimed]:
        """Claim the next `most` jobs that are not solo, in their order."""

    @abstractmethod
    def mix(self, queue: str, most: int, free: int) -> list[tuple[str, bool]]:
        """The next `most` jobs in their order, at most `free` solo ones among them: ids, and which are solo."""

    @abstractmethod
    def take_these(self, ids: Sequence[str], claim_id: str, worker: str, lease_until: float) -> list[Claimed]:
        """Claim these ready jobs, in this order."""

    @abstractmethod
    def held(self, claim_id: str) -> list[Claimed]:
        """The running jobs of this claim."""

    @abstractmethod
    def extend(self, claims: Sequence[Claim], lease_until: float) -> set[str]:
        """Renew these leases (no job twice); the ids of the jobs that this claim does not hold."""

    @abstractmethod
    def cancelling(self) -> set[str]:
        """The running jobs that somebody wants cancelled."""

    # ---- rare: read the record, let `outwork.job` move it, write it -------------------------------------------------

    @abstractmethod
    def load(self, ids: Iterable[str]) -> dict[str, Record]: ...

    @abstractmethod
    def move(self, changes: Sequence[Change]) -> None: ...

    @abstractmethod
    def delete(self, ids: Collection[str]) -> None:
        """Forget these jobs, none of which is running."""

    @abstractmethod
    def lost(self, overdue: bool, workers: Collection[str], limit: int) -> list[str]:
        """Ids of running jobs whose worker is one of `workers` or, if `overdue`, whose lease ran out."""

    @abstractmethod
    def expired(self, limit: int) -> list[str]:
        """Ids of ready jobs that have waited too long."""

    @abstractmethod
    def forget_ended(self, limit: int) -> int:
        """Prune up to `limit` jobs whose time is over. How many."""

    # ---- reading ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def find(self, which: Filter, limit: int, cursor: str | None) -> list[Record]: ...

    @abstractmethod
    def counts(self) -> list[Count]: ...

    @abstractmethod
    def queues(self) -> set[str]: ...

    @abstractmethod
    def ended(self, ids: Collection[str]) -> set[str]:
        """Those of these jobs that have ended, or are not known."""

    @abstractmethod
    def old(self, which: Filter, ended_by: float, failed_by: float, limit: int | None) -> list[str]:
        """Ids of jobs that ended before then (FAILED and CANCELLED ones have their own time)."""

    # ---- presences --------------------------------------------------------------------------------------------------

    @abstractmethod
    def be_present(self, presence: Presence) -> None: ...

    @abstractmethod
    def forget_workers(self, names: Collection[str]) -> None: ...

    @abstractmethod
    def forget_silent(self) -> None: ...

    @abstractmethod
    def workers(self) -> list[Presence]: ...


class Bell(ABC):
    """How one thread sleeps until the database may have changed."""

    def start(self) -> None:
        """Somebody begins to wait."""
        return

    @abstractmethod
    def mark(self) -> None:
        """From now on changes count: call it before looking."""

    @abstractmethod
    def wait(self, seconds: float, queues: Collection[str] = ()) -> bool | None:
        """Sleep until something changed since `mark`, `ring` was called, or the time is over. True: it is known that
        there is work in one of `queues`, so nobody has to look."""

    @abstractmethod
    def ring(self) -> None:
        """End the sleep of another thread, or the next one."""

    @abstractmethod
    def rung(self) -> bool:
        """Whether `ring` was called since the last time this was asked."""

    @abstractmethod
    def close(self) -> None: ...


class Database(ABC):
    """The connections to one database, and its schema."""

    dialect: ClassVar[str]
    """`sqlite`, `postgresql` or `mysql`."""

    largest: int = 256 * 1024 * 1024
    """Bytes of the largest result or envelope that it takes."""

    @abstractmethod
    def write(self, role: Role, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction; again from its start where the database asks for that.

        Raises BrokerUnavailable, BrokerFull, BrokerRefused, SchemaError.
        """

    @abstractmethod
    def read(self, role: Role, work: Callable[[Transaction], T]) -> T: ...

    @abstractmethod
    def accept(self, jobs: Sequence[tuple[Job, bytes]]) -> None:
        """Add new jobs with their envelopes, each in its place; one whose id is known is left as it is. Durable when it
        returns; wakes a waiting worker."""

    @abstractmethod
    def insertion(self, jobs: Sequence[tuple[Job, bytes]]) -> list[Statement]:
        """The same as statements, in their order, for a connection that is not ours."""

    def probes(self) -> tuple[Statement, Statement]:
        """For such a connection, too: one that yields something if our tables are there and fails in no case, and one
        that yields their random id."""
        raise Unsupported("this broker takes no connection= but its own. Nothing was enqueued")

    def swap(
        self,
        claim_id: str,
        successes: Sequence[Settlement],
        queues: Sequence[Share],
        limit: int,
        free: int,
        worker: str,
    ) -> Swap | None:
        """Settle successful jobs (no job twice) and claim others, in one round trip. None: this database has no such
        way, or not for these."""
        return None

    @abstractmethod
    def bell(self, role: Role) -> Bell: ...

    @abstractmethod
    def reserve(self, size: int) -> None:
        """Raise BrokerFull if `size` bytes of jobs would take the room that finishing the present ones needs."""

    @abstractmethod
    def relieve(self) -> None:
        """Do what can be done to gain room when the database is full."""

    @abstractmethod
    def steps(self) -> list[Step]: ...

    @abstractmethod
    def version(self) -> int:
        """The schema's version in the database, 0 if there is none. Changes nothing."""

    @abstractmethod
    def apply(self, to: int | None) -> list[Step]:
        """Migrate, under a lock; the steps that were taken."""

    @abstractmethod
    def identity(self) -> str:
        """The random id of this database's tables."""

    @abstractmethod
    def close(self) -> None: ...
