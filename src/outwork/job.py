"""The job: what is enqueued, what a broker knows of it, and every move it may make.

Pure: no clock, no I/O, no thread. Time is an argument (`Moment`). The functions below *are* the state machine: the
in-memory broker runs them, the exhaustive model in `tests/model` explores them, and the SQL and Redis brokers say the
same in their own language and are compared with them.

    enqueue ──> SCHEDULED ──due──> READY ──claim──> RUNNING ──> SUCCESSFUL
        │           ^              ^ ^ │               │ ├────> FAILED
        │           └──retry at────│─┴─│─given back, ──┘ └────> CANCELLED
        └──> HELD ──released───────┘   │ lease ran out
               ^──at a gate, paused────┘
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal, NamedTuple, TypeAlias

from msgspec import Raw, Struct
from msgspec.structs import replace

from outwork.ties import Ties

WIRE_VERSION: Final = 1
"""The version of the envelope that this release writes. It reads this one and the one before."""

DEFAULT_QUEUE: Final = "default"
PRIORITY_MIN: Final = -100
PRIORITY_MAX: Final = 100
TOMBSTONE_SECONDS: Final = 600.0
"""How long a finished job is remembered at least, so that an enqueue repeated with its id adds nothing."""
FAILURES_KEPT: Final = 10
MISSES_ALLOWED: Final = 120
"""How often a job may be given back because a worker does not know its task: every 30 s, so for an hour."""


def foreign(queue: str) -> bool:
    """Whether a queue belongs to something other than our tasks, whose queues' names have no colon: no worker of ours
    serves it. `outwork.contrib.dramatiq` has such ones."""
    return ":" in queue


class State(StrEnum):
    """Where a job is in its life. HELD: it waits for other jobs, for a place at a gate, or for its task to go on."""

    HELD = "HELD"
    SCHEDULED = "SCHEDULED"
    READY = "READY"
    RUNNING = "RUNNING"
    SUCCESSFUL = "SUCCESSFUL"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def finished(self) -> bool:
        return self in FINISHED


FINISHED: Final = frozenset({State.SUCCESSFUL, State.FAILED, State.CANCELLED})
WAITING: Final = frozenset({State.HELD, State.SCHEDULED, State.READY})

MOVES: Final[dict[State, frozenset[State]]] = {
    State.HELD: frozenset({State.SCHEDULED, State.READY, State.CANCELLED}),
    State.SCHEDULED: frozenset({State.READY, State.CANCELLED}),
    State.READY: frozenset({State.SCHEDULED, State.HELD, State.RUNNING, State.FAILED, State.CANCELLED}),
    State.RUNNING: frozenset(State) - {State.RUNNING},
    State.SUCCESSFUL: frozenset(),
    State.FAILED: frozenset({State.READY}),
    State.CANCELLED: frozenset({State.READY}),
}
"""The legal moves: from each state, where a job may go next. FAILED and CANCELLED go back to READY by hand only, READY
to SCHEDULED when a job is replaced by a later one of its unique key."""


class Moment(NamedTuple):
    """A reading of the broker's clock: `wall` (Unix seconds) for due times, `steady` (seconds) for leases.

    A server has one clock for both; SQLite has none of its own and uses the host's two.
    """

    wall: float
    steady: float


class Terms(Struct, frozen=True, kw_only=True):
    """How long things last in a broker, in seconds."""

    lease: float = 30.0
    keep: float = 86_400.0
    keep_failed: float = 14 * 86_400.0


class Feed(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Which ended jobs a job looks at before it starts; brokers do not.

    They are `ids`, or the `total` jobs numbered from `base` (`outwork.ids.numbered`). `into` is the argument that takes
    what they returned: a list if `gathers`. `when` says how they must have ended for it to start.
    """

    ids: tuple[str, ...] = ()
    base: str = ""
    total: int = 0
    into: str = ""
    gathers: bool = False
    when: Literal["ended", "successful", "failed"] = "ended"


class Job(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One enqueued execution of a task, as it was asked for. It never changes; it is the envelope on the wire.

    `args` is a JSON object of the task's arguments by name. `due` (Unix seconds) or `delay` (seconds from the moment
    the broker accepts it, by the broker's clock) say when it may start; neither means at once. `expires` is how many
    seconds it may wait beyond that. `created` is the producer's clock, for display only. `carried` are context
    variables that hooks put there. `ties` bind it to other jobs, `feed` says which of their results it takes. `slot`
    (Unix seconds) is the moment for which a schedule made it.
    """

    v: int
    id: str
    task: str
    args: Raw
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    created: float = 0.0
    due: float | None = None
    delay: float | None = None
    expires: float | None = None
    max_crashes: int = 3
    at_most_once: bool = False
    carried: dict[str, str] | None = None
    ties: Ties | None = None
    feed: Feed | None = None
    slot: float | None = None


class Failure(Struct, frozen=True, kw_only=True, gc=False):
    """Why one attempt failed. All text: an exception class never crosses the wire, only its path."""

    exception: str
    message: str
    traceback: str
    attempt: int
    worker: str
    at: float


def remember(failures: tuple[Failure, ...], failure: Failure) -> tuple[Failure, ...]:
    """Append, keeping the first one and the last nine, so that a job that is retried for ever does not grow."""
    if len(failures) < FAILURES_KEPT:
        return (*failures, failure)
    return (failures[0], *failures[-(FAILURES_KEPT - 2) :], failure)


# ---- outcomes: what a worker says of a job it had claimed ----------------------------------------------------------


class Done(Struct, frozen=True, tag=True, gc=False):
    """The task returned; `result` is its value as JSON. `keep` seconds, None as the broker's terms say."""

    result: bytes
    keep: float | None = None


class Again(Struct, frozen=True, tag=True, gc=False):
    """Run it again in `delay` seconds. `counted`: the attempt failed; otherwise it was snoozed and is not counted.

    `failures` is the job's whole list so far, the new one included.
    """

    delay: float
    failures: tuple[Failure, ...] = ()
    counted: bool = True


class Dead(Struct, frozen=True, tag=True, gc=False):
    """It ends FAILED. `failures` is the job's whole list, the reason last."""

    failures: tuple[Failure, ...]
    keep: float | None = None


class Release(Struct, frozen=True, tag=True, gc=False):
    """Given back unstarted, not counted: at its old place or in `delay` seconds. `missed`: its task is unknown here."""

    delay: float = 0.0
    missed: bool = False


class Cancelled(Struct, frozen=True, tag=True, gc=False):
    """The attempt was stopped because somebody cancelled the job; or it did not start because of how the jobs before it
    ended: then `failures` is the job's whole list, the reason last."""

    failures: tuple[Failure, ...] = ()


class Hold(Struct, frozen=True, tag=True, gc=False):
    """Given back unstarted, not counted, because its task is paused: held until that goes on."""


Outcome: TypeAlias = Done | Again | Dead | Release | Cancelled | Hold


class Answer(StrEnum):
    """What became of a settlement."""

    DONE = "done"
    ALREADY = "already"
    STALE = "stale"


# ---- the record and its moves ---------------------------------------------------------------------------------------


class Record(Struct, frozen=True, kw_only=True, gc=False):
    """All that a broker or store knows of a job. `body` is its envelope; times are Unix seconds by the broker's clock.

    `failures` counts the attempts that failed, `crashes` those whose worker died; the running attempt, if any, is one
    more. `ties` are what is left of the job's; `knot` is what a HELD job is held by. `claim_id` stays after a settle,
    so that the same settle repeated is told "already".
    """

    id: str
    task: str
    queue: str
    priority: int
    body: bytes
    state: State
    due: float
    enqueued_at: float
    max_crashes: int = 3
    at_most_once: bool = False
    expires_at: float | None = None
    failures: int = 0
    crashes: int = 0
    misses: int = 0
    errors: tuple[Failure, ...] = ()
    claim_id: str | None = None
    worker: str | None = None
    lease_until: float | None = None
    cancel_requested: bool = False
    started_at: float | None = None
    finished_at: float | None = None
    prune_at: float | None = None
    result: bytes | None = None
    ties: Ties | None = None
    knot: str | None = None

    @property
    def attempts(self) -> int:
        """Attempts so far, the running or the successful one included."""
        ended_well = self.state is State.RUNNING or self.state is State.SUCCESSFUL
        return self.failures + self.crashes + ended_well

    @property
    def solo(self) -> bool:
        """Claimed for a free slot only, never prefetched: it may kill its worker, must not be started twice, or takes
        a place that others of its key wait for."""
        return self.crashes > 0 or self.at_most_once or (self.ties is not None and bool(self.ties.gates))


def admit(job: Job, body: bytes, now: Moment) -> Record:
    """The record of a job at the moment it is accepted."""
    due = now.wall if job.due is None else job.due
    if job.delay is not None:
        due = now.wall + job.delay
    return Record(
        id=job.id,
        task=job.task,
        queue=job.queue,
        priority=job.priority,
        body=body,
        state=State.SCHEDULED if due > now.wall else State.READY,
        due=due,
        enqueued_at=now.wall,
        max_crashes=job.max_crashes,
        at_most_once=job.at_most_once,
        expires_at=None if job.expires is None else max(due, now.wall) + job.expires,
        ties=job.ties,
    )


def order(record: Record) -> tuple[int, float, str]:
    """The place of a ready job in its queue; the smallest is claimed first."""
    return (-record.priority, record.due, record.id)


def promote(record: Record, now: Moment) -> Record:
    """A scheduled job becomes ready when it is due."""
    if record.state is State.SCHEDULED and record.due <= now.wall:
        return replace(record, state=State.READY)
    return record


def claimable(record: Record, now: Moment) -> bool:
    """Whether a worker may take it: ready, and not waited too long."""
    return record.state is State.READY and (record.expires_at is None or record.expires_at > now.wall)


def claim(record: Record, claim_id: str, worker: str, now: Moment, lease: float) -> Record:
    """A worker takes a ready job, for as long as its lease lasts."""
    return replace(
        record,
        state=State.RUNNING,
        claim_id=claim_id,
        worker=worker,
        lease_until=now.steady + lease,
        started_at=now.wall,
    )


def extend(record: Record, claim_id: str, now: Moment, lease: float) -> Record | None:
    """Renew the lease; None if this claim no longer holds the job."""
    if record.state is not State.RUNNING or record.claim_id != claim_id:
        return None
    return replace(record, lease_until=now.steady + lease)


def settle(record: Record, claim_id: str, outcome: Outcome, now: Moment, terms: Terms) -> tuple[Record, Answer]:
    """Write down what became of a claimed job. Only the claim that holds it may; a stale one changes nothing."""
    if record.claim_id != claim_id:
        return record, Answer.STALE
    if record.state is not State.RUNNING:
        return record, Answer.ALREADY
    match outcome:
        case Done(result, keep):
            keep = terms.keep if keep is None else keep
            if record.ties is not None and record.ties.reports:  # somebody comes for its result, perhaps late
                keep = max(keep, terms.keep_failed)
            return finish(record, State.SUCCESSFUL, now, keep, result=result), Answer.DONE
        case Dead(errors, keep):
            ended = replace(record, failures=record.failures + 1, errors=errors)
            return finish(ended, State.FAILED, now, terms.keep_failed if keep is None else keep), Answer.DONE
        case Cancelled(errors):
            ended = replace(record, errors=errors or record.errors)
            return finish(ended, State.CANCELLED, now, terms.keep_failed), Answer.DONE
        case Again(delay, errors, counted):
            record = replace(record, failures=record.failures + counted, errors=errors or record.errors)
            if record.cancel_requested:
                return finish(record, State.CANCELLED, now, terms.keep_failed), Answer.DONE
            return _wait(record, now.wall + delay, now), Answer.DONE
        case Release(delay, missed):
            record = replace(record, misses=record.misses + missed)
            if record.cancel_requested:
                return finish(record, State.CANCELLED, now, terms.keep_failed), Answer.DONE
            return _wait(record, now.wall + delay if delay > 0 else record.due, now), Answer.DONE
        case Hold():
            if record.cancel_requested:
                return finish(record, State.CANCELLED, now, terms.keep_failed), Answer.DONE
            return replace(hold(record, paused_task(record.task)), lease_until=None), Answer.DONE


def _wait(record: Record, due: float, now: Moment) -> Record:
    state = State.SCHEDULED if due > now.wall else State.READY
    return replace(record, state=state, due=due, lease_until=None, knot=None)


def hold(record: Record, knot: str) -> Record:
    """It waits, outside of its line, until whatever is called `knot` lets it go."""
    return replace(record, state=State.HELD, knot=knot)


def let_go(record: Record, now: Moment) -> Record:
    """A held job goes back to its place in the line, or waits for its time."""
    return _wait(record, record.due, now) if record.state is State.HELD else record


def awaited(job_id: str) -> str:
    """The knot of a job that waits for others to end."""
    return f"after:{job_id}"


def gated(key: str) -> str:
    """The knot of the jobs that wait for a place at this gate."""
    return f"gate:{key}"


def paused_task(task: str) -> str:
    """The knot of the jobs of a task that is paused."""
    return f"pause:task:{task}"


def paused_queue(queue: str) -> str:
    """The name of a pause of a queue, whose jobs stay in their line."""
    return f"pause:queue:{queue}"


def finish(record: Record, state: State, now: Moment, keep: float, result: bytes | None = None) -> Record:
    """End a job for good and say until when it is remembered."""
    return replace(
        record,
        state=state,
        result=result,
        lease_until=None,
        finished_at=now.wall,
        prune_at=now.wall + max(keep, TOMBSTONE_SECONDS),
        knot=None,
        ties=spent(record.ties),
    )


def spent(ties: Ties | None) -> Ties | None:
    """What binds a job that has ended, in case it is run again by hand: nobody is told of its end a second time, and
    nobody stands back for it."""
    return Ties(gates=ties.gates) if ties is not None and ties.gates else None


def overdue(record: Record, now: Moment) -> bool:
    """Whether its lease ran out."""
    return record.state is State.RUNNING and record.lease_until is not None and record.lease_until <= now.steady


def rescue(record: Record, now: Moment, terms: Terms) -> Record:
    """Take a running job from a worker that died or was frozen past its lease: run it again, or bury it.

    The claim id is forgotten, so whatever that worker still says is stale. The crash is counted apart from failures.
    """
    crashes = record.crashes + 1
    buried = record.at_most_once or crashes > record.max_crashes
    failure = death(record, now)
    record = replace(record, crashes=crashes, claim_id=None, lease_until=None, errors=remember(record.errors, failure))
    if buried:
        return finish(record, State.FAILED, now, terms.keep_failed)
    if record.cancel_requested:
        return finish(record, State.CANCELLED, now, terms.keep_failed)
    return replace(record, state=State.READY)


def death(record: Record, now: Moment) -> Failure:
    """The failure that a rescue writes down."""
    times = record.crashes + 1
    if record.at_most_once:
        message = "worker died; the task is delivered at most once, so it is not started again"
    elif times > record.max_crashes:
        message = f"its worker died {times} times"
    else:
        message = f"its worker died or lost the lease ({times} of {record.max_crashes} crashes allowed)"
    return Failure(
        exception="outwork.errors.WorkerDied",
        message=message,
        traceback="",
        attempt=record.failures + times,
        worker=record.worker or "",
        at=now.wall,
    )


def expired(record: Record, now: Moment) -> bool:
    """Whether it has waited longer than it may."""
    return record.state is State.READY and record.expires_at is not None and record.expires_at <= now.wall


def expire(record: Record, now: Moment, terms: Terms) -> Record:
    """End a job that waited too long."""
    failure = Failure(
        exception="outwork.errors.Expired",
        message="it waited longer than its `expires` allows",
        traceback="",
        attempt=record.failures + record.crashes,
        worker="",
        at=now.wall,
    )
    ended = replace(record, claim_id=None, errors=remember(record.errors, failure))
    return finish(ended, State.FAILED, now, terms.keep_failed)


def cancel(record: Record, now: Moment, terms: Terms) -> Record:
    """A waiting job ends at once; a running one is asked to stop; a finished one stays as it is."""
    if record.state in WAITING:
        return finish(replace(record, claim_id=None), State.CANCELLED, now, terms.keep_failed)
    if record.state is State.RUNNING:
        return replace(record, cancel_requested=True)
    return record


def retry(record: Record, now: Moment) -> Record | None:
    """Run a FAILED or CANCELLED job again from the start, its history kept; None for any other."""
    if record.state not in (State.FAILED, State.CANCELLED):
        return None
    return replace(
        record,
        state=State.READY,
        due=now.wall,
        failures=0,
        crashes=0,
        misses=0,
        claim_id=None,
        expires_at=None,
        cancel_requested=False,
        finished_at=None,
        prune_at=None,
    )
