"""The worker: one loop that settles what has ended and claims what it can run, in one round trip.

    listener ──"there may be work"──┐
    runners ──"an attempt ended"────┼──> bell ──> puller: exchange(outcomes, room) ──> slots ──> runners
    keeper, signals ────────────────┘

The puller sleeps until an outcome waits, or until a slot is free and there may be work. Under load the batches grow by
themselves, because more ends while one exchange is on its way; at rest every outcome is settled at once.
"""

from __future__ import annotations

import logging
import math
import os
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from itertools import chain
from time import monotonic, time
from typing import Final

from outwork import __version__, codec
from outwork.app import Outwork
from outwork.attempt import Attempt, begin
from outwork.brokers.base import Broker, Claim, Exchanged, Extended, Presence, Tended
from outwork.durations import duration_text
from outwork.errors import OutworkError, WorkerDied
from outwork.ids import new_claim_id
from outwork.job import Answer, Cancelled, Dead, Done, Hold, Release, remember
from outwork.worker.appetite import PREFETCH_PATIENCE, Appetite
from outwork.worker.bell import Bell
from outwork.worker.child import Hello
from outwork.worker.children import Children, default_children
from outwork.worker.distance import Distance
from outwork.worker.draining import left_to_drain
from outwork.worker.keeper import Keeper, LifeLock, host_name
from outwork.worker.limits import Limits
from outwork.worker.listener import Listener
from outwork.worker.logs import Journal
from outwork.worker.outage import Outage
from outwork.worker.pipeline import Exchange, Pipeline
from outwork.worker.plan import Plan, Summary, new_worker_id
from outwork.worker.runners import Loop, Threads
from outwork.worker.served import served_queues
from outwork.worker.slots import Ended, Runner, Slots
from outwork.worker.steering import Steering

logger = logging.getLogger("outwork.worker")

UNKNOWN: Final = (
    "OW102 job %s is of a task that this worker does not know, %s: given back for 30 s. Import its module here, or "
    "start a worker that has it; after an hour it ends FAILED"
)
LISTEN_PAUSE: Final = 0.002
"""Seconds that the listener leaves the interpreter to a task that has just started. A tiny one has ended by then, and
the exchange that settles it looks for work, too."""
GATHER_SECONDS: Final = 0.003
SUSPECT_PAUSE: Final = 1.0
DRAIN_LOOK: Final = 0.2
NEVER: Final = 1_000_000_000


class Worker:
    """Runs the jobs of an application until it is stopped, or until the queues are drained."""

    def __init__(self, app: Outwork, plan: Plan, loop: AbstractEventLoop | None = None) -> None:
        self.id = new_worker_id(plan.options.worker_id)
        self.app = app
        self.plan = plan
        self.broker: Broker = app.broker
        self._tasks = app.tasks
        self.bell = Bell()
        self.slots = Slots(plan.concurrency, self._runner_of, self.bell)
        self._threads = Threads(plan.threads or plan.concurrency, self.slots, self._may_start)
        self._loop = Loop(self.slots, self._may_start, loop)
        hello = Hello(plan.options, self.id, os.getpid(), plan.log_format)
        self._children = Children(plan.children or default_children(), self.slots, self._may_start, hello)
        self._limits = Limits(self._stop_attempt, self._give_up, self._in_hand)
        self._life = LifeLock(self.id)
        self._keeper = Keeper(self.broker, self._claims, self._presence, self._on_extended, self._on_tended)
        self._listener = Listener(self.broker, self._heard)
        self._journal = Journal()
        self._hand: dict[str, Attempt] = {}
        self._apart: list[Attempt] = []
        self._unsettled: list[Ended] = []
        self._buried = 0
        self._steering = Steering(self.broker, self.id, self._hand, self._cancel, self._pauses_changed)
        self._distance = Distance(self.broker.exchanges_at_once, self.broker.exchanges_afar)
        self._pipeline = Pipeline(self.broker, self.id, self.bell, self._distance)
        self._appetite = Appetite(self.slots, plan, self._steering.queue_goes_on, self._distance)
        self._open_claims: dict[str, float] = {}
        """Claim ids whose answer did not come, and when each was first asked for."""
        self._may_be_work = True
        self._reconsider = False
        self._listen_soon = False
        self._stopping = False
        self._told = False
        self._hurry = False
        self._recycle = False
        self._closed = False
        self._started_at = time()
        self._outage = Outage(self.broker.url)
        self.turns = 0
        self.on_turn: Callable[[], None] | None = None
        """Called on the puller's thread after each successful exchange."""
        self.done = 0
        self.failed = 0
        self.given_back = 0

    # ---- life -------------------------------------------------------------------------------------------------------

    def run(self) -> Summary:
        """Work until `stop` (or, with `drain`, until nothing is left); blocks the calling thread."""
        self._appetite.queues = served_queues(self.app, self.plan, self._appetite.queues)
        self._keeper.start()
        self._steering.start()
        self._listener.start()
        deadline: float | None = None
        left: int | None = None
        while left is None:
            self.slots.wake_at = NEVER if self._pipeline.full or self._pipeline.pause() else 1
            if not self.bell.wait(self._nap()) and self._listen_soon:
                self._listen_on()
            if not (self._pipeline.full or self._unsettled or self._stopping):
                self.slots.gather(GATHER_SECONDS)
            self._land(self._pipeline.back())
            self.turns += 1
            self._journal.breathe()
            if self._stopping and (deadline is None or (self._told and deadline == math.inf)):
                deadline = self._begin_to_stop()
            if self._stopping and (self._hurry or monotonic() >= (deadline or 0) or not self._busy()):
                break
            if self._has_reason():
                self._exchange()
            if self.plan.drain and not self._busy() and not self._may_be_work:
                try:
                    left = left_to_drain(self.broker, self._appetite.queues)
                except OutworkError as error:
                    self._outage.failed(error, len(self._unsettled))
        return self._end(left)

    @property
    def ended(self) -> int:
        """How many jobs have ended here for good."""
        return self.done + self.failed

    def stop(self, *, hurry: bool = False) -> None:
        """Claim nothing more, give back what has not started, let running jobs end for the grace period, or with
        `hurry` not at all. Safe to call from a signal handler, and again."""
        if hurry:
            self._hurry = True
        self._told = self._stopping = True
        self.bell.ring()

    def _begin_to_stop(self) -> float:
        """Give back what has not started; until when the rest may run. A worker that only wants to be recycled lets
        its jobs take their time, unless it is told to stop meanwhile."""
        self._land(self._pipeline.rest())
        self._give_back(self._not_started())
        if not self._told:
            return math.inf
        if running := max(0, len(self._hand) - len(self._unsettled)):
            grace = duration_text(self.plan.grace)
            what = "a job" if running == 1 else f"{running} jobs"
            logger.info("stopping: %s may take up to %s; a second signal gives back what runs then", what, grace)
        return monotonic() + self.plan.grace

    def _busy(self) -> bool:
        return bool(self._hand or self._unsettled or self._pipeline.under_way)

    def _end(self, left: int | None) -> Summary:
        """Give back what still runs, as the very last act, and leave."""
        self._closed = True
        self._listener.close()
        self._steering.close()
        self._limits.close()
        for attempt in chain(self._loop.running(), self._children.running()):
            self._stop_attempt(attempt, Release())
        self._wait_for_stopped()
        stuck = bool(self._threads.running())
        self._settle_all(5.0)
        self._unsettled += [self._cut_short(attempt) for attempt in list(self._hand.values())]
        self._settle_all(5.0)
        self._keeper.close()
        try:
            self.broker.leave(self.id)
        except OutworkError as error:
            logger.debug("leaving failed: %s", error)
        self._listener.join()
        for part in (self._threads, self._loop, self._children, self._pipeline):
            part.close()
        self._life.release()
        self._journal.flush()
        return Summary(
            done=self.done,
            failed=self.failed + self._buried,
            given_back=self.given_back,
            left=left,
            stuck=stuck,
            recycle=self._recycle,
        )

    def _wait_for_stopped(self) -> None:
        """Coroutines that were cancelled and children that were killed end at once; their slots come back."""
        until = monotonic() + 2.0
        while (self._loop.running() or self._children.running()) and monotonic() < until:
            self.bell.wait(0.05)

    def _settle_all(self, seconds: float) -> None:
        """Settle what is known, trying for so long."""
        until = monotonic() + seconds
        while self._unsettled or self.slots.ended:
            self._exchange()
            if self._outage.lasts:
                if monotonic() > until:
                    logger.error("%d outcomes could not be settled: the broker is away", len(self._unsettled))
                    return
                self.bell.wait(0.1)

    def _cut_short(self, attempt: Attempt) -> Ended:
        """A job that still runs when the process ends: given back, unless it must never be started twice."""
        claimed = attempt.claimed
        outcome: Dead | Release = Release()
        if attempt.job.at_most_once and attempt.started_at:
            outcome = Dead(remember(claimed.errors, attempt.failure(WorkerDied("the worker was stopped while it ran"))))
        return Ended(claimed, outcome)

    # ---- the puller -------------------------------------------------------------------------------------------------

    def _nap(self) -> float | None:
        """How long the puller may sleep."""
        if self._outage.lasts:
            return self._outage.pause()
        if self._pipeline.full:
            return None
        if pause := self._pipeline.pause():
            return pause
        if self._unsettled or self.slots.ended or (self._may_be_work and self._room() > 0):
            return 0.0
        if self.slots.backlog:
            return PREFETCH_PATIENCE
        if self._listen_soon:
            return LISTEN_PAUSE
        if self._stopping or self.plan.drain:
            return DRAIN_LOOK
        return self._journal.patience

    def _has_reason(self) -> bool:
        if self._pipeline.full or self._pipeline.pause() or (self._outage.lasts and self._outage.pause()):
            return False
        if self._reconsider:
            self._reconsider = False
            self._land(self._pipeline.rest())
            self._give_back(self.slots.withdraw())
        if self._appetite.late():  # looked at first: where slots end all the time there is always another reason
            self._give_back(self.slots.withdraw())
        if self._open_claims or self._unsettled or self.slots.ended:
            return True
        return self._may_be_work and self._room() > 0

    def _room(self) -> int:
        """How many jobs may be claimed now."""
        return 0 if self._stopping or self._closed else self._appetite.room(self._pipeline.asked)

    def _exchange(self) -> None:
        """Settle what has ended and claim what there is room for; while there is a backlog to run, or where the answer
        takes its time, without waiting for it."""
        far, backlog = self._distance.far, bool(self.slots.backlog)
        goes_ahead = self._distance.at_once > 1 and (backlog or far) and not self._depends_on_answer()
        pending = self._gather()
        room = self._room()
        free = 0 if backlog and goes_ahead else self._appetite.free(self._pipeline.asked)
        shares = self._appetite.shares(room, list(self._hand.values()), pending) if room else []
        claim_id, first_asked = self._open_claims.popitem() if self._open_claims else (new_claim_id(), None)
        exchange = Exchange(claim_id, pending, shares, room, min(free, room), self._apart, first_asked)
        self._pipeline.begin(exchange)
        self._unsettled, self._apart = [], []
        if goes_ahead:
            self._pipeline.send(exchange)
        else:
            self._pipeline.carry_out(exchange)
            self._land([exchange])

    def _depends_on_answer(self) -> bool:
        """Whether the next exchange has to be the only one, or something must not happen before its answer."""
        alone = self._appetite.limited or self._apart or self._open_claims
        return bool(alone or self._outage.lasts or self._stopping)

    def _land(self, exchanges: list[Exchange]) -> None:
        """Take account of what came back."""
        for exchange in exchanges:
            if exchange.error is not None:
                self._unsettled = exchange.pending + self._unsettled
                self._apart += exchange.apart
                self._open_claims[exchange.claim_id] = exchange.began
                self._outage.failed(exchange.error, len(self._unsettled))
            elif exchange.answer is not None:
                self._outage.over()
                self._settled(exchange.pending, exchange.answer.answers)
                self._take(exchange, exchange.answer)
            self._pipeline.end(exchange)
            if exchange.answer is not None and self.on_turn is not None:
                self.on_turn()

    def _gather(self) -> list[Ended]:
        """The outcomes to settle: those kept from a failed exchange, then what has ended since."""
        ended = self.slots.take_ended()
        if ended:
            self._appetite.learn(ended)
            self._steering.send_progress([one.attempt for one in ended if one.attempt and one.attempt.context.has_news])
        return self._unsettled + ended

    def _settled(self, pending: list[Ended], answers: list[Answer]) -> None:
        hand = self._hand
        taken: list[Ended] = []
        for ended, answer in zip(pending, answers, strict=True):
            claimed, outcome, _, _ = ended
            attempt = hand.get(claimed.id)
            if attempt is not None and attempt.claimed.claim_id == claimed.claim_id:
                hand.pop(claimed.id, None)  # the keeper may have taken it out at this moment
            if answer is Answer.STALE:
                logger.warning("job %s: its lease was lost, so its outcome is not taken (another has it)", claimed.id)
                continue
            if type(outcome) is Done:
                self.done += 1
            elif isinstance(outcome, Release):
                self.given_back += 1
            elif isinstance(outcome, Dead):
                self.failed += 1
            taken.append(ended)
        self._journal.ended(taken)

    def _take(self, exchange: Exchange, answer: Exchanged) -> None:
        """Start or shelve the claimed jobs, and decide whether there may be more."""
        attempts, now = exchange.apart, monotonic()
        suspects: list[Attempt] = []
        for claimed in answer.claimed:
            begun = begin(claimed, self._tasks, self.id)
            if isinstance(begun, Attempt) and not self._steering.task_goes_on(begun.job.task):
                self._unsettled.append(Ended(claimed, Hold()))
            elif isinstance(begun, Attempt):
                begun.held_since, begun.arrived_at = exchange.began, now
                (suspects if claimed.crashes and begun.suspect else attempts).append(begun)
            else:
                self._unsettled.append(Ended(claimed, begun))
                if isinstance(begun, Release) and claimed.misses == 0:
                    logger.warning(UNKNOWN, claimed.id, codec.decode_job(claimed.body).task)
        if suspects:
            attempts += self._set_apart(suspects)
        for attempt in attempts:
            self._hand[attempt.claimed.id] = attempt
        if self._stopping:  # claimed by an exchange that was on its way when the stop came
            self._give_back(attempts)
        elif attempts:
            self.slots.add(attempts)
        if exchange.room:
            self._may_be_work = len(answer.claimed) >= exchange.room or answer.next_due == 0
            self._listen_soon = bool(attempts) and not self._may_be_work
            if not (attempts or self._may_be_work):
                self._listen_on()

    def _set_apart(self, suspects: list[Attempt]) -> list[Attempt]:
        """Jobs whose worker died nearly as often as it may run one at a time, so that a poisonous one does not bury
        those that were beside it. The others are given back for a moment, and that is settled before it starts."""
        alone = not any(attempt.suspect for attempt in self._hand.values())
        first, others = (suspects[:1], suspects[1:]) if alone else ([], suspects)
        self._unsettled += [Ended(attempt.claimed, Release(delay=SUSPECT_PAUSE)) for attempt in others]
        if not others:
            return first
        self._apart = first
        for attempt in suspects:
            self._hand[attempt.claimed.id] = attempt
        return []

    def _listen_on(self) -> None:
        """Let the listener sleep until there is something that could be claimed. With no free slot, or with every queue
        at its limit, that is when an attempt ends; what is ready meanwhile would only wake it again and again."""
        self._listen_soon = False
        listened = self._appetite.open_queues(list(self._hand.values()))
        if listened and self.slots.free > 0:
            self._listener.arm(listened)

    # ---- giving back, and the queues --------------------------------------------------------------------------------

    def _give_back(self, attempts: Iterable[Attempt]) -> None:
        self._unsettled += [Ended(attempt.claimed, Release()) for attempt in attempts]

    def _not_started(self) -> list[Attempt]:
        """Take out everything that was claimed and does not run yet."""
        apart, self._apart = self._apart, []
        return [*apart, *self.slots.withdraw(), *self._threads.waiting(), *self._children.waiting()]

    # ---- running ----------------------------------------------------------------------------------------------------

    def _runner_of(self, attempt: Attempt) -> Runner:
        executor = attempt.task.options.executor
        if executor == "process" or (executor is None and self.plan.isolated):
            return self._children
        return self._loop if attempt.task.is_async and executor is None else self._threads

    def _may_start(self, attempt: Attempt, now: float) -> bool:
        """Whether the lease still holds: a process that was frozen must not start what others have by now."""
        if self._closed or attempt.stop_reason is not None or now - attempt.held_since >= self.broker.terms.lease:
            return False
        limit = attempt.task.options.timeout
        if limit is not None and self._runner_of(attempt) is not self._children:
            self._limits.watch(attempt, limit)
        return True

    def _stop_attempt(self, attempt: Attempt, reason: BaseException | Cancelled | Release) -> bool:
        return any(runner.stop(attempt, reason) for runner in (self._threads, self._loop, self._children))

    def _in_hand(self, attempt: Attempt) -> bool:
        """Whether an attempt may still run; one that was told to stop may run on after its job is out of our hands."""
        return attempt.stop_reason is not None or self._hand.get(attempt.claimed.id) is attempt

    def _give_up(self, attempt: Attempt) -> None:
        """A task that was stopped takes no notice: settle it, and let the process end when its other jobs have."""
        on_loop = self._loop.abandon(attempt)
        if not (on_loop or self._threads.abandon(attempt)):
            return
        reason = attempt.stop_reason
        outcome = attempt.failed(
            reason if isinstance(reason, BaseException) else RuntimeError("it could not be stopped")
        )
        self.slots.abandon(attempt, outcome)
        text = "task %s (job %s) goes on although it was stopped: its slot is lost, and this process %s"
        end = "keeps its other slots" if self.plan.embedded else "ends when its other jobs have ended"
        logger.error(text, attempt.job.task, attempt.job.id, end)
        if not self.plan.embedded:
            self._recycle = self._stopping = True
            self._told = self._told or on_loop  # a blocked loop ends nobody's job: they have the grace period
        self.bell.ring()

    # ---- what the keeper asks and tells -----------------------------------------------------------------------------

    def _claims(self) -> list[Claim]:
        return [Claim(attempt.claimed.id, attempt.claimed.claim_id) for attempt in list(self._hand.values())]

    def _presence(self) -> Presence:
        return Presence(
            worker=self.id,
            host=host_name(),
            pid=os.getpid(),
            lock=self._life.path,
            queues=self._appetite.queues,
            concurrency=self.plan.concurrency,
            started_at=self._started_at,
            version=__version__,
            running=self.slots.total - self.slots.free,
            done=self.done,
            failed=self.failed,
            ttl=max(60.0, 4 * self.broker.terms.lease),
        )

    def _on_extended(self, began: float, claims: Iterable[Claim], extended: Extended) -> None:
        settling = self._pipeline.settling(self._unsettled) if extended.lost else set[Claim]()
        for claim in claims:
            attempt = self._hand.get(claim.job_id)
            if attempt is None or attempt.claimed.claim_id != claim.claim_id:
                continue  # settled or given back, and perhaps claimed anew, since it was asked
            if claim.job_id not in extended.lost:
                attempt.held_since = began
            elif claim not in settling:
                self._lose(attempt)
        self._cancel(extended.cancel)

    def _cancel(self, ids: Iterable[str]) -> None:
        """Stop these jobs: somebody wants them cancelled."""
        for job_id in ids:
            attempt = self._hand.get(job_id)
            if attempt is not None and attempt.stop_reason is None:
                attempt.context.cancelled = True
                self._limits.stop(attempt, Cancelled())

    def _lose(self, attempt: Attempt) -> None:
        """A lease ran out."""
        job_id = attempt.claimed.id
        self._hand.pop(job_id, None)
        attempt.stop_reason = Release()  # not started if it waits; if it runs, its outcome will be stale
        logger.warning("job %s: its lease was lost; another worker may run it", job_id)

    def _on_tended(self, tended: Tended) -> None:
        self._buried += tended.buried + tended.expired
        self._appetite.queues = served_queues(self.app, self.plan, self._appetite.queues)

    # ---- what others say --------------------------------------------------------------------------------------------

    def _heard(self) -> None:
        """There may be work, says the listener."""
        self._may_be_work = True
        self.bell.ring()

    def _pauses_changed(self) -> None:
        """A queue or a task was paused, or goes on: begin anew with what has not started."""
        self._reconsider = True
        self._heard()
