"""The RabbitMQ broker: jobs are messages, a claim is a delivery that is not acknowledged yet.

What RabbitMQ decides: who gets a job, and that the jobs of a worker whose connection is gone are run again. What it
does not keep: results, states, or who claimed what; `outwork.brokers.paired` puts a store beside it for that.

A message that comes a second time was in the hands of a worker that died. It is published anew with its crash counted,
into the queue of jobs that are claimed for a free slot only, before it is run again; so RabbitMQ's own count of
deliveries never reaches a limit, and a message in that queue that comes a second time had really been started.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Sequence
from functools import partial
from threading import Condition
from typing import Final, Self

from msgspec.structs import replace

from outwork.brokers.base import (
    Accepted,
    Broker,
    Capabilities,
    Claim,
    Claimed,
    Exchanged,
    Extended,
    Presence,
    Settlement,
    Share,
    Tended,
)
from outwork.brokers.rabbitmq.diversion import Diversion
from outwork.brokers.rabbitmq.driver import Channel, Connection, Loop, Refusal
from outwork.brokers.rabbitmq.endings import doubted
from outwork.brokers.rabbitmq.graves import Graves
from outwork.brokers.rabbitmq.hand import Hand, Held
from outwork.brokers.rabbitmq.intake import Intake
from outwork.brokers.rabbitmq.lines import Delivery, Line
from outwork.brokers.rabbitmq.link import Link
from outwork.brokers.rabbitmq.messages import of_job
from outwork.brokers.rabbitmq.options import Options
from outwork.brokers.rabbitmq.pool import Pool
from outwork.brokers.rabbitmq.post import Post
from outwork.brokers.rabbitmq.renewal import Renewal
from outwork.brokers.rabbitmq.sending import Letter
from outwork.brokers.rabbitmq.talk import REPLY_TIMEOUT, explained
from outwork.brokers.rabbitmq.topology import LONGEST, PRIORITIES, Topology, level_of
from outwork.errors import BrokerUnavailable, EnqueueError, OutworkError, Unsupported
from outwork.job import Again, Answer, Cancelled, Dead, Done, Hold, Job, Outcome, Record, Release, Terms

logger = logging.getLogger("outwork.brokers.rabbitmq")

INTERNAL_ERROR: Final = 541

CAPABILITIES: Final = Capabilities(
    fenced=False,
    idempotent=False,
    results=False,
    cancel=False,
    presence=False,
    ordered=False,
    priority_levels=1,
    unique=False,
    gates=False,
    fair=False,
    composition=False,
    periodic=False,
    pause=False,
    progress=False,
)


class RabbitMQBroker(Broker):
    """`amqp://user:password@host:5672/vhost`, `amqps://...`; several hosts of a cluster are separated by commas.

    Options: `lease`, `keep`, `keep_failed`; `queue_type` (quorum or classic), `prefix` (of the queues' names),
    `heartbeat`, `connection_timeout`, `put_timeout`, `consumer_timeout` (the server's own, in seconds), `confirm`
    (false: enqueue does not wait until RabbitMQ has the job), `embedded`; for amqps `cafile`, `certfile`, `keyfile`,
    `verify`.
    """

    capabilities = CAPABILITIES

    def __init__(self, options: Options) -> None:
        self._options = options
        self.url = options.shown
        self.terms = options.terms
        self.runs_in = "embedded" if options.embedded else "elsewhere"
        self.topology = Topology(options.prefix, options.queue_type)
        if options.queue_type == "classic":
            self.capabilities = replace(CAPABILITIES, priority_levels=PRIORITIES)
        self._interrupted = False
        self._closed = False
        self._begin()

    @classmethod
    def from_url(cls, url: str, terms: Terms | None = None) -> Self:
        return cls(Options.from_url(url, terms))

    def _begin(self) -> None:
        """Start with nothing: a new object, or a child after a fork: its parent's connections are not its own."""
        self._changed = Condition()
        self._link = Link(self._options, self.topology, self._make_intake)
        self._post = Post(self._options, self.topology, self._link)
        self._hand = Hand()
        self._pool = Pool(self.topology, self._link, self._hand, self._changed)
        self._renewal = Renewal(self._options, self._link, self._post, self._changed)
        self._diversion = Diversion(self._link, self._post, self.terms, self.now)
        self._graves = Graves(self._options, self._link, self._post)
        self._names: set[str] = set()
        self._expired = 0

    def _make_intake(self, loop: Loop, connection: Connection, channel: Channel) -> Intake:
        diversion = self._diversion
        return Intake(
            loop, connection, channel, self._changed, diversion.crashed, diversion.unwanted, self._link.forget
        )

    def _own(self) -> None:
        if self._link.pid != os.getpid():
            self._link.abandon()
            self._begin()

    # ---- enqueue ----------------------------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[Job]) -> list[Accepted]:
        self._own()
        answers: list[Accepted] = [None] * len(jobs)
        letters: list[Letter] = []
        places: list[int] = []
        now = self.now()
        levels = self._levels(jobs)
        for place, job in enumerate(jobs):
            priority = level_of(job.priority, levels)
            message, delay = of_job(job, now, priority)
            refusal = self._refusal(job, delay, levels)
            if refusal is not None:
                answers[place] = refusal
                continue
            letters.append(self._post.job(message, delay, now + delay))
            places.append(place)
            self._names.add(job.queue)
        for index, error in self._post.send(letters, resend=True).refusals().items():
            answers[places[index]] = error
        return answers

    def _levels(self, jobs: Sequence[Job]) -> int:
        """How many priorities there are; for quorum queues the server's version says so."""
        levels = self.capabilities.priority_levels
        if levels == 1 and any(job.priority for job in jobs):
            self._link.publisher()
            version = self._link.version
            levels = 32 if version >= (4, 3) else 2 if version >= (4, 0) else 1
            self.capabilities = replace(self.capabilities, priority_levels=levels)
        return levels

    def _refusal(self, job: Job, delay: float, levels: int) -> EnqueueError | None:
        if delay > LONGEST:
            days = int(LONGEST // 86_400)
            return Unsupported(f"{job.task}: {self.url} keeps a job for {days} days at most. Nothing was enqueued")
        if job.priority and levels == 1:
            return Unsupported(
                f"{job.task}: quorum queues have no priorities before RabbitMQ 4.0. Put ?queue_type=classic into the "
                f"URL {self.url}. Nothing was enqueued"
            )
        return None

    # ---- exchange ---------------------------------------------------------------------------------------------------

    def exchange(
        self,
        claim_id: str,
        outcomes: Sequence[Settlement],
        queues: Sequence[Share],
        limit: int,
        free: int,
        worker: str,
    ) -> Exchanged:
        self._own()
        answers = self._settle(outcomes) if outcomes else []
        with self._changed:
            claimed = self._hand.still_held(claim_id)
        if limit > 0 and not claimed:
            claimed = self._claim(claim_id, queues, limit, free)
        return Exchanged(answers, claimed, None)

    def _settle(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        answers: list[Answer] = []
        acks: dict[Intake, list[Delivery]] = {}
        moving: list[Held] = []
        letters: list[Letter] = []
        with self._changed:
            for job_id, claim_id, outcome in outcomes:
                found = self._hand.find(job_id, claim_id)
                if isinstance(found, Answer):
                    answers.append(found)
                    continue
                answers.append(Answer.DONE)
                letter = self._after(found, outcome)
                if letter is None:
                    self._hand.drop(found)
                    if not found.acked:
                        acks.setdefault(found.intake, []).append(found.delivery)
                else:
                    found.moving = True
                    moving.append(found)
                    letters.append(letter)
        for intake, deliveries in acks.items():
            intake.ack(deliveries)
        if letters:
            self._move(moving, letters)
        return answers

    def _after(self, held: Held, outcome: Outcome) -> Letter | None:
        """What is published after an attempt; None for nothing."""
        message = held.delivery.message
        match outcome:
            case Done() | Cancelled():
                return None
            case Dead(errors, keep):
                ended = message.copy()
                ended.failures += 1
                ended.add_errors(errors)
                reason = errors[-1].message if errors else "failed"
                return self._post.dead(ended, reason, self.terms.keep_failed if keep is None else keep)
            case _ if held.doubtful:
                return self._post.dead(*doubted(message, self.now()), self.terms.keep_failed)
            case Again(delay, errors, counted):
                again = message.copy()
                again.failures += counted
                again.add_errors(errors)
                return self._post.job(again, delay, self.now() + delay)
            case Hold():
                return self._post.job(message.copy(), 0.0, self.now())
            case Release(delay, missed):
                back = message.copy()
                back.misses += missed
                return self._post.job(back, delay, self.now() + delay)

    def _move(self, moving: list[Held], letters: list[Letter]) -> None:
        """Publish what follows, then let go what was before. What is not confirmed stays in hand, and this raises."""
        try:
            sent = self._post.send(letters, resend=False)
        except BaseException as reason:
            interrupted = not isinstance(reason, OutworkError)  # perhaps in the middle; ours say that nothing was sent
            with self._changed:
                for held in moving:
                    held.moving = False
                    held.doubtful |= held.acked and interrupted
            raise
        acks: dict[Intake, list[Delivery]] = {}
        with self._changed:
            for index, held in enumerate(moving):
                held.moving = False
                if index in sent.unsure:
                    held.doubtful = held.acked
                elif index not in sent.refused:
                    self._hand.drop(held)
                    if not held.acked:
                        acks.setdefault(held.intake, []).append(held.delivery)
        for intake, deliveries in acks.items():
            intake.ack(deliveries)
        for error in sent.refusals().values():
            raise BrokerUnavailable(str(error)) from error

    # ---- claiming ---------------------------------------------------------------------------------------------------

    def _ready(self) -> Intake:
        """The intake, with the publisher that it needs."""
        self._link.publisher()
        return self._link.intake()

    def _claim(self, claim_id: str, queues: Sequence[Share], limit: int, free: int) -> list[Claimed]:
        names = [queue for queue, _ in queues]
        intake = self._ready()
        found = self._pool.lines(intake, names)
        try:
            self._serve(intake, self._pool.wanted(intake, found, queues, limit, free))
        except BrokerUnavailable as error:
            # RabbitMQ 3.10 may fail (541, noproc) at the first consumer of a quorum queue that was just declared.
            if not (isinstance(error.__cause__, Refusal) and error.__cause__.code == INTERNAL_ERROR):
                raise
            intake = self._ready()
            found = self._pool.lines(intake, names)
            self._serve(intake, self._pool.wanted(intake, found, queues, limit, free))
        with self._changed:
            hold = partial(self._hand.hold, intake=intake, claim_id=claim_id)
            taken, gone, expired = self._pool.take(found, queues, limit, free, self.now(), hold)
            self._hand.taken(claim_id, taken)
            self._expired += len(expired)
        intake.ack(gone)
        self._diversion.expired(intake, expired)
        return self._ready_to_start(intake, taken, claim_id)

    def _serve(self, intake: Intake, wanted: list[tuple[Line, int]]) -> None:
        try:
            intake.serve(wanted)
        except TimeoutError as error:
            raise BrokerUnavailable(f"{self.url} does not answer") from error
        except Exception as error:
            raise explained(error, self._options, "consuming") from error

    def _ready_to_start(self, intake: Intake, taken: list[Held], claim_id: str) -> list[Claimed]:
        """What was claimed. What must never start twice is acknowledged before, and of what crashed no former message
        is in hand; and the server has read that."""
        once = [held for held in taken if held.delivery.message.once]
        intake.ack([held.delivery for held in once])
        try:
            if any(held.delivery.line.tier for held in taken):
                self._diversion.let_go(intake, REPLY_TIMEOUT)
            if once:
                intake.flush()
        except Exception as error:
            with self._changed:
                for held in once:
                    self._hand.drop(held)
            if once:  # their acknowledgements may be on their way: what RabbitMQ has not read yet it gives to others
                intake.loop.call(intake.connection.close)
            raise explained(error, self._options, "acknowledging") from error
        for held in once:
            held.acked = True
        return [held.delivery.message.claimed(claim_id) for held in taken]

    # ---- dead letters -----------------------------------------------------------------------------------------------

    def dead_letters(self, ids: Collection[str] | None = None) -> list[Record]:
        """Jobs that ended badly, the oldest of them; they stay where they are."""
        self._own()
        return self._graves.look(ids)

    def revive(self, ids: Collection[str]) -> set[str]:
        """Run dead letters again from the start."""
        self._own()
        return self._graves.revive(ids)

    def forget_dead(self, ids: Collection[str]) -> set[str]:
        """Forget dead letters."""
        self._own()
        return self._graves.forget(ids)

    # ---- the other verbs --------------------------------------------------------------------------------------------

    def extend(self, claims: Sequence[Claim]) -> Extended:
        """A claim holds as long as its channel lives. A message that RabbitMQ would soon take back is renewed."""
        self._own()
        lost: set[str] = set()
        holding: list[Held] = []
        with self._changed:
            for job_id, claim_id in claims:
                held = self._hand.held.get(job_id)
                if held is None or held.claim_id != claim_id or not held.alive:
                    lost.add(job_id)
                else:
                    holding.append(held)
        self._renewal.renew(holding, self._hand)
        return Extended(frozenset(lost), frozenset())

    def tend(self, presence: Presence | None, *, rescue: bool, dead: Collection[str] = ()) -> Tended:
        """RabbitMQ itself rescues, and forgets. What expired is found when it is its turn."""
        self._own()
        self._diversion.retry()
        with self._changed:
            expired, self._expired = self._expired, 0
        return Tended(expired=expired)

    def leave(self, worker: str) -> None:
        """There is no presence to forget."""

    def workers(self) -> list[Presence]:
        """Workers do not see each other through RabbitMQ."""
        return []

    def wait(self, queues: Sequence[str], timeout: float) -> bool:
        self._own()
        deadline = time.monotonic() + timeout
        with self._changed:
            if self._closed or self._taken_interrupt():
                return False
        try:
            intake = self._ready()
            lines = [line for three in self._pool.lines(intake, queues) for line in three]
            with self._changed:
                idle = [(line, 1) for line in lines if line.tag is None and self._pool.counts(line)]
            self._serve(intake, idle)
        except OutworkError:
            if self._closed:
                return False
            raise
        with self._changed:
            while not self._closed:
                if self._taken_interrupt():
                    return False
                if intake.ended is not None or any(line.buffer and self._pool.counts(line) for line in lines):
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
            return False

    def has_ready(self, queues: Sequence[str]) -> bool:
        self._own()
        intake = self._ready()
        lines = [line for three in self._pool.lines(intake, queues) for line in three]
        try:
            waiting = intake.count(lines)
        except TimeoutError as error:
            raise BrokerUnavailable(f"{self.url} does not answer") from error
        except Exception as error:
            raise explained(error, self._options, "counting") from error
        with self._changed:
            return waiting > 0 or any(line.buffer for line in lines)

    def _taken_interrupt(self) -> bool:
        interrupted, self._interrupted = self._interrupted, False
        return interrupted

    def interrupt(self) -> None:
        self._own()
        with self._changed:
            self._interrupted = True
            self._changed.notify_all()

    def queues(self) -> list[str]:
        """Those that this process has used: RabbitMQ tells nobody the names of its queues."""
        return sorted(self._names)

    def close(self) -> None:
        """Give back what nobody claimed, and close the connections."""
        self._own()
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        intake = self._link.open_intake
        if intake is not None and self._link.open_publisher is not None:
            try:
                intake.empty()
                self._diversion.finish(5.0)
                intake.flush()
            except Exception as error:  # noqa: BLE001 - RabbitMQ gives it to others then, counted as a crash
                logger.warning("%s: what was not started could not be given back: %s", self.url, error)
        self._link.close()

    def now(self) -> float:
        """The host's clock: RabbitMQ shows none. It counts delays by its own."""
        return time.time() + self.clock_offset
