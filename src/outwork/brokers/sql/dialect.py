"""What the SQL broker asks of a database. The verbs (`broker.py`) are written once in these terms; a dialect says them
in its own SQL, each with as few statements as it can.

A job is a row of what was asked for, and a row in exactly one place: ready, scheduled, running, ended, or, while it is
bound to others (`ledger.concerns`), bound.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple, TypeVar

from outwork.brokers.base import (
    SENDABLE,
    Claim,
    Claimed,
    Count,
    Filter,
    Pace,
    Presence,
    Report,
    Settlement,
    Share,
    Ticket,
)
from outwork.brokers.ledger import Cell, Change, Found, concerns, follow
from outwork.brokers.sql.connections import Role
from outwork.brokers.sql.migrate import Standing, Step
from outwork.brokers.turns import Line
from outwork.errors import BrokerUnavailable, Unsupported
from outwork.job import Job, Moment, Record, State

T = TypeVar("T")


class Interrupted(BrokerUnavailable):
    """The connection broke in the middle: what was asked may have been done."""


class Statement(NamedTuple):
    """One SQL statement and its parameters: an enqueue as data, so that a foreign connection can run it."""

    sql: str
    parameters: Sequence[object]


class Look(NamedTuple):
    """What there is to do in a queue: free jobs that anybody may take, free solo ones, and in how many seconds the next
    scheduled one is due (None: none is); whether bound jobs are ready; and in how many seconds a cell of the books is
    to be looked at, whatever its queue."""

    queue: str
    common: bool
    solo: bool
    due_in: float | None
    bound: bool
    attend_in: float | None

    @property
    def wake_in(self) -> float | None:
        """In how many seconds there may be more to do."""
        moments = [moment for moment in (self.due_in, self.attend_in) if moment is not None]
        return min(moments) if moments else None

    @property
    def work(self) -> bool:
        return self.common or self.solo or self.bound or (self.wake_in is not None and self.wake_in <= 0)


class Head(NamedTuple):
    """A job at the front of a line; smaller ones come first. `rank` is the negative priority."""

    rank: int
    due: float
    id: str
    solo: bool
    bound: bool


class Swap(NamedTuple):
    """What one round trip did: which of the successes it settled (None: all), what it claimed, and in how many seconds
    there may be more to do. `care`: it claimed nothing, because not all was settled, or because solo, bound or due jobs
    are in the line: the verbs that look closer have to do it."""

    settled: Collection[str] | None
    claimed: list[Claimed]
    due_in: float | None
    care: bool


class Transaction(ABC):
    """Everything that happens inside one transaction. `now` is its one reading of the clock; `pace` that of the outbox
    which this database keeps (None: it keeps none). It is the `Shelf` on which the books are kept."""

    now: Moment
    pace: Pace | None = None

    # ---- hot: a whole batch in a statement or two -------------------------------------------------------------------

    @abstractmethod
    def succeed(self, claim_id: str, results: Mapping[str, bytes], prune_at: float) -> int:
        """Settle the jobs of this claim that run as SUCCESSFUL, `results` by job id. How many there were.

        Raises ValueError for results that it cannot take in this way; nothing was done then.
        """

    @abstractmethod
    def running_bound(self, claim_id: str, ids: Collection[str]) -> list[Record]:
        """Those of these bound jobs that run under this claim: no more of their records than what binds them."""

    @abstractmethod
    def succeed_bound(self, claim_id: str, results: Mapping[str, bytes], prune_at: float) -> None:
        """Settle bound jobs that were just seen to run under this claim as SUCCESSFUL, `results` by job id."""

    @abstractmethod
    def look(self, queues: Collection[str]) -> list[Look]: ...

    @abstractmethod
    def promote(self, queues: Collection[str], limit: int) -> int:
        """Make ready up to `limit` scheduled jobs of each queue that are due. How many."""

    @abstractmethod
    def take(self, queue: str, most: int, claim_id: str, worker: str, lease_until: float) -> list[Claimed]:
        """Claim the next `most` free jobs that are not solo, in their order."""

    @abstractmethod
    def heads(self, look: Look, most: int, solos: int) -> list[Head]:
        """Those at the front of each line of this queue, in the order of all: up to `most` that are not solo and up to
        `solos` that are, of the free jobs and of the bound ones. A line that was seen to be empty may be left out."""

    @abstractmethod
    def take_these(self, ids: Sequence[str], claim_id: str, worker: str, lease_until: float) -> list[Claimed]:
        """Claim these free ready jobs, in this order."""

    @abstractmethod
    def take_bound(self, ids: Sequence[str], claim_id: str, worker: str, lease_until: float) -> list[Claimed]:
        """Claim these bound ready jobs, in this order."""

    @abstractmethod
    def claimed_by(self, claim_id: str) -> list[Claimed]:
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
    def successes(self, ids: Collection[str]) -> dict[str, Record]:
        """Those of these jobs that ended well: of their records no more than task and result."""

    def move(self, changes: Sequence[Change]) -> None:
        """Write down these moves, and in the outbox who begins to wait and who waits no more."""
        if not changes:
            return
        self._move(changes)
        if self.pace is not None:
            self._note(changes, self.pace)

    @abstractmethod
    def _move(self, changes: Sequence[Change]) -> None: ...

    def carry_out(self, changes: Sequence[Change]) -> int:
        """Write down these moves and all that follows from them; how many other jobs were let go."""
        self.move(changes)
        bound = [change for change in changes if concerns(change.before) or concerns(change.after)]
        return follow(self, bound) if bound else 0

    def _note(self, changes: Sequence[Change], pace: Pace) -> None:
        gone = [b.id for b, after in changes if b.state in SENDABLE and after.state not in SENDABLE]
        if gone:
            self.unmark(gone)
        begin = [(b, after) for b, after in changes if after.state in SENDABLE and b.state not in SENDABLE]
        if begin:
            self.mark(
                [
                    (after.id, pace.send_at(self.now.wall, after.due, grace=not _nobody_sends(before, after)))
                    for before, after in begin
                ]
            )

    @abstractmethod
    def insert(self, records: Sequence[Record]) -> None:
        """Add jobs whose ids are not known, each in its place."""

    @abstractmethod
    def rewrite(self, changes: Sequence[Change]) -> None:
        """Write down waiting jobs whose body, priority, times or ties have changed, or running ones whose ties have."""

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

    # ---- the books --------------------------------------------------------------------------------------------------

    @abstractmethod
    def cells(self, names: Collection[str]) -> dict[str, Cell]:
        """Those of these cells that exist, locked until the end of the transaction. One that does not exist may be made
        by somebody else; then writing it starts this transaction again."""

    @abstractmethod
    def look_up(self, ids: Collection[str], names: Collection[str], lines: Collection[Line]) -> Found:
        """What an enqueue of these jobs has to know."""

    @abstractmethod
    def write_cells(self, cells: Mapping[str, Cell | None]) -> None:
        """Set cells that were read here; None removes one."""

    @abstractmethod
    def due_cells(self, limit: int) -> list[str]:
        """The names of up to `limit` cells whose `at` has come."""

    @abstractmethod
    def forget_cells(self, limit: int) -> None:
        """Forget up to `limit` cells whose `until` has come."""

    @abstractmethod
    def named(self, prefix: str) -> dict[str, Cell]:
        """The cells whose names begin so, by the rest of their names."""

    @abstractmethod
    def held(self, knot: str, limit: int) -> list[Record]:
        """Up to `limit` jobs held by this knot, in the order of their line."""

    @abstractmethod
    def stopping(self, worker: str) -> set[str]:
        """The running jobs of this worker that somebody wants cancelled."""

    @abstractmethod
    def report(self, reports: Sequence[Report]) -> None:
        """Note how far running jobs are, each under the claim that holds it."""

    @abstractmethod
    def progress(self, ids: Collection[str]) -> dict[str, bytes]:
        """The last report on each of these jobs that has one."""

    # ---- the outbox -------------------------------------------------------------------------------------------------

    @abstractmethod
    def kept_pace(self) -> Pace | None:
        """The pace of the outbox as it stands in the database; None if it keeps none."""

    @abstractmethod
    def keep_outbox(self, pace: Pace) -> None:
        """Write down that an outbox is kept at this pace, and if none was, put in it what waits."""

    @abstractmethod
    def mark(self, rows: Sequence[tuple[str, float]]) -> None:
        """These waiting jobs are to be sent by a keeper at this time."""

    @abstractmethod
    def unmark(self, ids: Collection[str]) -> None: ...

    @abstractmethod
    def put_off(self, ids: Collection[str], send_at: float) -> None:
        """Those of these jobs that are in the outbox were sent, and are to be sent again at this time."""

    @abstractmethod
    def to_send(self, limit: int) -> tuple[list[Ticket], list[str]]:
        """The jobs that a keeper is to send by now, for longest first, and ids of those that are not there any more."""

    @abstractmethod
    def ready_among(self, ids: Collection[str]) -> set[str]:
        """Those of these free jobs that may be claimed."""

    @abstractmethod
    def seat(self, ids: Collection[str]) -> None:
        """Make ready these free scheduled jobs, which are due."""

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


def written(pace: Pace) -> str:
    """A pace as it stands in our meta table."""
    return " ".join(map(str, pace))


def pace_of(row: Sequence[str] | None) -> Pace | None:
    """The pace in a row of one value of our meta table, if there is one."""
    return None if row is None else Pace(*map(float, row[0].split()))


def _nobody_sends(before: Record, after: Record) -> bool:
    """Whether this move (of a held job, by hand, a rescue) is made by somebody who does not send the job's message."""
    return before.state is not State.RUNNING or after.crashes > before.crashes


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

    pace: Pace | None = None
    """That of its outbox: given before the first connection, or found in the database."""

    @abstractmethod
    def write(self, role: Role, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction; again from its start where the database asks for that.

        Raises BrokerUnavailable, BrokerFull, BrokerRefused, SchemaError.
        """

    @abstractmethod
    def read(self, role: Role, work: Callable[[Transaction], T]) -> T: ...

    @abstractmethod
    def accept(self, jobs: Sequence[tuple[Job, bytes]]) -> None:
        """Add new free jobs with their envelopes, each in its place; one whose id is known is left as it is. Durable
        when it returns; wakes a waiting worker."""

    def accept_keyed(self, jobs: Sequence[tuple[Job, bytes]]) -> bool:
        """The same in one message for jobs that `books.is_keyed`, if nobody holds their keys and none of them is known.
        False: nothing was done; somebody has to look closer, or this database has no such way."""
        return False

    def insertion(self, jobs: Sequence[tuple[Job, bytes]]) -> list[Statement]:
        """The same as statements, in their order, for a connection that is not ours."""
        raise Unsupported("this broker takes no connection= but its own. Nothing was enqueued")

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

    def look_around(self) -> None:
        """Warn of what harms the queue from outside; called by each keeper's round."""
        return

    @abstractmethod
    def steps(self) -> list[Step]: ...

    @abstractmethod
    def standing(self) -> Standing:
        """How the tables in the database stand. Changes nothing."""

    @abstractmethod
    def apply(self, to: int | None) -> list[Step]:
        """Migrate, under a lock; the steps that were taken."""

    @abstractmethod
    def identity(self) -> str:
        """The random id of this database's tables."""

    @abstractmethod
    def close(self) -> None: ...
