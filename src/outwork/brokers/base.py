"""THE CONTRACT between Outwork and the place where jobs wait. Read this first.

A broker is a synchronous, thread-safe object made by `Class.from_url(url, terms)`. It has six verbs; each works on
batches, so that one round trip serves many jobs. A broker that can also look jobs up and steer them is a `Store`.

What every broker promises (where one cannot, its `Capabilities` say so):

1. *Durable.* When `enqueue` returns, the job survives the death of every process of ours.
2. *In one place.* A job is always in exactly one place; each move is one atomic statement, script or transaction.
3. *Idempotent.* Every verb may be repeated after a lost reply: an enqueue by the job's id (while the job exists and for
   ten minutes after its end), an exchange by its claim id, a settle by the claim id under which the job was claimed.
4. *Fenced.* Every write after the claim carries the claim id; a stale one changes nothing.
5. *One clock.* The broker's server decides what is due and which lease ran out, never the caller's clock.
6. *Order.* In a queue: higher priority first, then the earlier due time (`Ties.fair` gives one), then as enqueued.
7. *Bounded.* No verb does unbounded work, and what has ended is forgotten after its time.
8. *Bound together.* What a move means for other jobs (`outwork.ties`) happens in the same transaction as the move.

The moves themselves are the functions of `outwork.job`; `outwork.brokers.memory` runs them as they stand and is the
executable specification. `outwork.testing.conformance` states each promise as a test: run it against your own broker.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import ClassVar, Final, Literal, NamedTuple, Protocol, Self, TypeAlias, runtime_checkable

from msgspec import Struct

from outwork.errors import EnqueueError, Unsupported
from outwork.job import Answer, Failure, Job, Outcome, Record, State, Terms

RunsIn: TypeAlias = Literal["caller", "nowhere", "embedded", "elsewhere"]
"""Where jobs run: in the caller of `enqueue`, not at all, in a worker inside that process, or in worker processes."""


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a broker can do, as data: checked when a task is declared or enqueued, and printed in the documentation.

    - durable: survives the death of all our processes (`server_crash`: and of the server or machine, by default)
    - fenced: a stale attempt cannot settle
    - idempotent: an enqueue repeated with the same id adds nothing
    - defer: jobs can wait for a due time in the broker
    - priority_levels: how many of -100..100 it tells apart; 1 means none
    - results: final state and return value are kept and can be looked up (it is a `Store`)
    - cancel: a waiting job can be withdrawn, a running one asked to stop
    - transactional: enqueue can join a transaction of the caller's own connection
    - push: an idle worker is woken, it does not poll
    - shared: workers in other processes can take the jobs
    - presence: workers see each other
    - ordered: a job given back, or enqueued with a due time in the past, has its place by that time
    - unique: an enqueue can be bound to a key that one job holds at a time (`Ties.unique`)
    - gates: jobs of a key can be limited, over all workers (`Ties.gates`)
    - fair: those who share a line take turns in it (`Ties.fair`)
    - composition: a job can wait for the end of others (`Ties.awaits`, `after`, `reports`)
    - periodic: a schedule fires each slot once, however many workers there are (`Store.tick`)
    - pause: queues and tasks can be paused for all workers
    - progress: a running job can say how far it is
    """

    durable: bool = True
    server_crash: bool = True
    fenced: bool = True
    idempotent: bool = True
    defer: bool = True
    priority_levels: int = 201
    results: bool = True
    cancel: bool = True
    transactional: bool = False
    push: bool = True
    shared: bool = True
    presence: bool = True
    ordered: bool = True
    unique: bool = True
    gates: bool = True
    fair: bool = True
    composition: bool = True
    periodic: bool = True
    pause: bool = True
    progress: bool = True


class Embedding(Struct, frozen=True, kw_only=True):
    """How the worker inside the enqueueing process works, where `runs_in` is "embedded". None: as the settings say.
    `isolated`: tasks that name no executor run in child processes (`process:`)."""

    concurrency: int | None = None
    threads: int | None = None
    children: int | None = None
    isolated: bool = False


class Share(NamedTuple):
    """A queue that a worker serves, and how many more jobs it would take from it now."""

    queue: str
    most: int


class Claim(NamedTuple):
    """A job held by a worker, and the claim id under which it holds it."""

    job_id: str
    claim_id: str


class Settlement(NamedTuple):
    """What became of a claimed job."""

    job_id: str
    claim_id: str
    outcome: Outcome


class Claimed(NamedTuple):
    """A job as it is handed to a worker. `body` is the envelope as it was stored, decoded by the worker and not before:
    a body that nobody can read must end as a FAILED job, not as a broken broker.

    `failures` counts the attempts that failed before, `crashes` those whose worker died, `misses` how often a worker
    gave it back because it does not know its task; `errors` are the failures so far.
    """

    id: str
    claim_id: str
    body: bytes
    failures: int = 0
    crashes: int = 0
    misses: int = 0
    errors: tuple[Failure, ...] = ()

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self.failures + self.crashes + 1


class Exchanged(NamedTuple):
    """The answer to an exchange: one answer for each settlement in its order, the claimed jobs, and how many seconds
    until the next scheduled job of these queues is due (None: none is scheduled; 0: one is due already)."""

    answers: list[Answer]
    claimed: list[Claimed]
    next_due: float | None
    let_go: bool = False


class Extended(NamedTuple):
    """The answer to an extend: ids of the jobs whose lease is lost, and of those that somebody wants cancelled."""

    lost: frozenset[str]
    cancel: frozenset[str]


class Standing(NamedTuple):
    """The answer to an enqueue whose unique key is held: this job stands for it, with the new arguments or without."""

    job_id: str


Accepted: TypeAlias = EnqueueError | Standing | None
"""The answer to one job of an enqueue: None when it is durable, `Standing`, or why it was refused."""


class Orders(NamedTuple):
    """What was ordered from outside: what is paused (`queue:NAME`, `task:NAME`, `schedule:NAME`), and which of the
    jobs of one worker are to stop."""

    paused: frozenset[str] = frozenset()
    cancel: frozenset[str] = frozenset()


class Report(NamedTuple):
    """How far a running job is, as JSON; the newest one counts."""

    job_id: str
    claim_id: str
    progress: bytes


class Presence(Struct, frozen=True, kw_only=True):
    """A worker process as the others see it, written at each `tend`.

    `host` names the machine and its boot; `lock` is the path of a file on it that the process holds locked (flock)
    while it lives: whoever gets that lock knows that the worker is dead. `seen_at` is set by the broker. `ttl` is after
    how many seconds of silence the record may be forgotten.
    """

    worker: str
    host: str
    pid: int
    lock: str
    queues: tuple[str, ...]
    concurrency: int
    started_at: float
    version: str
    running: int = 0
    done: int = 0
    failed: int = 0
    seen_at: float = 0.0
    ttl: float = 120.0


class Tended(Struct, frozen=True, kw_only=True):
    """What a tend did. `more`: a batch was full, so call again soon."""

    rescued: int = 0
    buried: int = 0
    expired: int = 0
    pruned: int = 0
    more: bool = False


class Broker(ABC):
    """Where jobs wait."""

    capabilities: Capabilities
    runs_in: RunsIn = "elsewhere"
    embedding: Embedding = Embedding()
    url: str
    """The URL without its password, as it may be shown."""
    default_terms: ClassVar[Terms] = Terms()
    terms: Terms
    exchanges_at_once: ClassVar[int] = 1
    exchanges_afar: ClassVar[int] = 1
    """How many a busy worker may have under way: where each waits for a server's disk, and where it is far away."""
    clock_offset: float = 0.0
    """For tests only: seconds added to the server's clock wherever this object reads it."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, terms: Terms | None = None) -> Self:
        """Make a broker; connects at first use, not here. `terms` None: the class's own defaults.

        Every broker understands the options `lease`, `keep` and `keep_failed` (seconds) in the query, which beat
        `terms`. Raises InvalidURL for what it cannot read and for unknown options (the text lists the known ones), and
        MissingDriver."""

    @abstractmethod
    def enqueue(self, jobs: Sequence[Job]) -> list[Accepted]:
        """Make the jobs durable; return once they are. One entry for each job: None, or why this one was refused; the
        others are accepted all the same. A job whose id is known is left as it is and answered None; one whose unique
        key is held is answered as its `conflict` says: `Standing`, or Duplicate.
        What is bound together (`Ties`) comes in one call, or the job that waits comes first.

        Wakes a waiting worker when a job is ready or is the new earliest to be due.
        Raises BrokerUnavailable within a few seconds, BrokerFull, SchemaError, BrokerRefused."""

    @abstractmethod
    def exchange(
        self,
        claim_id: str,
        outcomes: Sequence[Settlement],
        queues: Sequence[Share],
        limit: int,
        free: int,
        worker: str,
    ) -> Exchanged:
        """Settle what has finished *and* claim up to `limit` more for `worker`, in one transaction.

        `queues` in the order of their turn, each with what may still be taken from it. `free` of `limit` have a free
        slot; the rest is prefetch, and solo jobs (with a crash, or at most once) count against `free` only: at most so
        many of them are claimed. A job past its `expires_at` is not claimed.

        Repeated with the same claim id (the reply was lost) it returns the jobs that this claim already holds, and
        claims no others unless it holds none. If ready jobs remain, another waiting worker is woken. An outcome that
        cannot be written must not keep the others from being settled."""

    @abstractmethod
    def extend(self, claims: Sequence[Claim]) -> Extended:
        """Renew the leases of these jobs. Uses a connection of its own, so that a busy exchange cannot delay it."""

    def orders(self, worker: str) -> Orders:
        """What was ordered from outside, asked every second: one small look, on the connection of `extend`."""
        return Orders()

    @abstractmethod
    def tend(self, presence: Presence | None, *, rescue: bool, dead: Collection[str] = ()) -> Tended:
        """Housekeeping, in bounded batches: take jobs from `dead` workers, and (only if `rescue`) from those whose
        lease ran out; bury what crashed too often; expire; prune; note this worker's presence."""

    @abstractmethod
    def leave(self, worker: str) -> None:
        """Forget the presence of a worker that ends. What it had claimed was given back before, by an exchange."""

    @abstractmethod
    def workers(self) -> list[Presence]:
        """The workers seen within their `ttl`, with `seen_at` by the broker's clock."""

    @abstractmethod
    def wait(self, queues: Sequence[str], timeout: float) -> bool:
        """Block until there may be work in these queues (also because a job falls due): True, a hint on which nothing
        depends; or until `timeout` seconds are over, or `interrupt` or `close` is called: False. Never a busy poll."""

    @abstractmethod
    def interrupt(self) -> None:
        """End the `wait` that another thread is in, at once (or the next one, if none is in it)."""

    def has_ready(self, queues: Sequence[str]) -> bool:
        """Whether jobs of these queues may be ready; asked of a broker that is no `Store`, as a drain ends."""
        return False

    @abstractmethod
    def queues(self) -> list[str]:
        """The names of the queues that the broker has seen and still knows."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections. Waiting calls end. Closing twice is fine."""

    @abstractmethod
    def now(self) -> float:
        """The broker's clock, Unix seconds."""


class Filter(Struct, frozen=True, kw_only=True):
    """Which jobs are meant. None means any; all given conditions must hold.

    `attempted`: whether an attempt has failed or its worker died, so that a scheduled job waits for a retry.
    """

    states: tuple[State, ...] | None = None
    queue: str | None = None
    task: str | None = None
    ids: tuple[str, ...] | None = None
    attempted: bool | None = None


class Count(NamedTuple):
    """How many jobs of a task wait in a queue, run, or have ended, by state."""

    queue: str
    task: str
    state: State
    jobs: int


class Page(NamedTuple):
    """A page of records, newest first, and where the next one starts (None: this is the last)."""

    records: list[Record]
    cursor: str | None


class Store(ABC):
    """Where job records can be looked up and steered. SQL and Redis brokers are their own store."""

    @abstractmethod
    def get(self, ids: Sequence[str]) -> list[Record | None]:
        """The records of these jobs, in this order; None for one that is not known (any more)."""

    def ends(self, ids: Sequence[str]) -> list[Record | None]:
        """The same for who wants to know how they ended: of a job that did so well nothing needs to be there but its
        id, state, task and result."""
        return self.get(ids)

    @abstractmethod
    def find(self, which: Filter, limit: int = 50, cursor: str | None = None) -> Page:
        """A page of the records that fit, newest first."""

    @abstractmethod
    def counts(self) -> list[Count]:
        """How many jobs there are, by queue, task and state."""

    @abstractmethod
    def cancel(self, ids: Sequence[str]) -> list[State | None]:
        """End waiting jobs, ask running ones to stop. The state of each afterwards; None for an unknown one."""

    @abstractmethod
    def retry(self, ids: Sequence[str]) -> list[State | None]:
        """Run FAILED and CANCELLED jobs again; others stay. The state of each afterwards; None for an unknown one."""

    @abstractmethod
    def delete(self, ids: Sequence[str]) -> list[State | None]:
        """Forget jobs, waiting or finished; a RUNNING one stays. The state each had before; None for an unknown one."""

    @abstractmethod
    def prune(
        self, which: Filter, *, older_than: float, failed_older_than: float, limit: int = 1000, dry_run: bool = False
    ) -> int:
        """Forget up to `limit` jobs that ended so many seconds ago (FAILED and CANCELLED ones have their own age).
        How many; with `dry_run` how many there are in all, and nothing is forgotten."""

    # What follows is for stores whose capabilities say so; the others refuse it.

    def pause(self, what: str) -> None:
        """Pause `queue:NAME` (its jobs stay in their line), `task:NAME` (its jobs are held as they come to be claimed),
        or `schedule:NAME`, until `resume`. A worker obeys when it next asks for its `orders`."""
        raise _cannot(self, "pause")

    def resume(self, what: str) -> None:
        """The end of a pause. Jobs held by it go back to their places: some at once, and the others in batches when
        brokers are tended."""
        raise _cannot(self, "pause")

    def report(self, reports: Sequence[Report]) -> None:
        """Note how far jobs are. A claim that does not hold its job (any more) changes nothing."""
        raise _cannot(self, "progress")

    def progress(self, ids: Sequence[str]) -> list[bytes | None]:
        """The last report on each of these jobs, as long as its record is kept; None where there was none."""
        raise _cannot(self, "progress")

    def tick(self, schedule: str, last: float | None, slot: float, jobs: Sequence[Job]) -> bool:
        """Move a schedule's last slot from `last` (None: it is new) to `slot`, later, and enqueue `jobs`, in one
        transaction. False, and nothing is done, if its last slot is not `last` (any more). Times are Unix seconds."""
        raise _cannot(self, "periodic")

    def schedules(self) -> dict[str, float]:
        """The last slot of each schedule that ever ticked."""
        raise _cannot(self, "periodic")

    @abstractmethod
    def wait_result(self, ids: Collection[str], timeout: float) -> set[str]:
        """Block until at least one of these jobs has ended: those that have. Empty after `timeout` seconds, or when
        `interrupt_wait_result` or `close` was called. A job that is not known counts as ended."""

    @abstractmethod
    def interrupt_wait_result(self) -> None:
        """End the `wait_result` that another thread is in, at once (or the next one, if none is in it)."""


def _cannot(store: Store, capability: str) -> Unsupported:
    url = getattr(store, "url", type(store).__name__)
    return Unsupported(f"{url} cannot do that: it lacks the capability {capability!r} (see `outwork status`)")


@runtime_checkable
class JoinsTransactions(Protocol):
    """A broker whose jobs can be written by a connection of the caller's, in its transaction (`transactional`)."""

    def enqueue_on(self, connection: object, jobs: Sequence[Job]) -> None: ...
    async def aenqueue_on(self, connection: object, jobs: Sequence[Job]) -> None: ...


SENDABLE: Final = frozenset({State.SCHEDULED, State.READY})
"""Where a job waits for a message; one that is held waits for something else."""


class Ticket(NamedTuple):
    """A waiting job for which a message is to be sent: `delay` seconds until it is due (0: it is), `solo` as in
    `Record.solo`."""

    job_id: str
    queue: str
    priority: int
    delay: float
    solo: bool


class Pace(NamedTuple):
    """When a keeper sends what somebody else should have sent, in seconds.

    - horizon: what is due sooner waits in the transport, where it may be delayed there; what is due later in the store
    - grace: how long whoever makes a job wait has for sending its message
    - stale: after how long a message that nobody claimed counts as lost
    """

    horizon: float = 60.0
    grace: float = 30.0
    stale: float = 3600.0

    def send_at(self, now: float, due: float, *, grace: bool = True) -> float:
        """When a keeper is to send a job that begins to wait now."""
        return max(now + self.grace * grace, due - self.horizon)


class Outbox(ABC):
    """What a store adds so that a pure transport can stand beside it (`outwork.brokers.paired`).

    The outbox says of each job that is READY or SCHEDULED when a keeper is to send a message for it, again or for the
    first time. A job enters it whenever it begins to wait so (enqueued, to run again, given back, rescued, let go,
    retried by hand), by whatever process, and leaves it when it waits no more. A store that was never asked to keep one
    does nothing for it.
    """

    @abstractmethod
    def keep_outbox(self, pace: Pace) -> None:
        """From the next verb on keep an outbox, here and in every process that opens this store later. What waits in it
        by then is to be sent. Connects to nothing by itself.
        """

    @abstractmethod
    def unsent(self, limit: int) -> list[Ticket]:
        """Up to `limit` waiting jobs for which a keeper is to send a message now: `Pace.send_at` after they began to
        wait (one that was rescued, held, or retried by hand has no grace), or `stale` seconds after their message was
        sent. The `limit` that have been so for longest, in the order in which they are to be claimed.
        """

    @abstractmethod
    def mark_sent(self, ids: Sequence[str]) -> None:
        """Their messages are in the transport. Jobs that do not wait (any more) are passed over."""

    @abstractmethod
    def claim_these(self, claim_id: str, ids: Sequence[str], worker: str) -> list[Claimed]:
        """Claim those of these jobs that are ready, whose messages came, in this order. The others are finished,
        cancelled or leased elsewhere, and stay so; one that waits for its time becomes unsent.

        Repeated (the reply was lost) it also returns those that this claim holds already.
        """
