"""What the worker process of Dramatiq holds of ours: it claims for all consumers, and keeps what is in hand.

    puller   exchange(room) ──> lines ──> Consumer.__next__ ──> Dramatiq's work queue ──> threads ──> ack, nack
               ^ asleep in `wait` while there is nothing, or while no thread would be free
    keeper   renews the leases of all that is in hand, rescues what dead workers held, shows this process to the others

A broker has one listener at a time, and Dramatiq a thread for each queue; so one thread claims for all of them.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from time import monotonic, time
from typing import Final, NamedTuple

from outwork import __version__, codec
from outwork.attempt import failure_of
from outwork.brokers.base import Broker, Claim, Claimed, Extended, Presence, Settlement, Share, Tended
from outwork.contrib.dramatiq.envelope import MAX_CRASHES
from outwork.errors import BrokerUnavailable, OutworkError, Undecodable
from outwork.ids import new_claim_id
from outwork.job import Answer, Dead, Job, Outcome, Release, remember
from outwork.worker.keeper import Keeper, LifeLock, host_name

logger = logging.getLogger("outwork.dramatiq")

LISTEN_SECONDS: Final = 30.0
OUTAGE_PAUSE: Final = 1.0
SUSPECT_AFTER: Final = MAX_CRASHES - 1
SUSPECT_PAUSE: Final = 1.0
"""Seconds for which a job that may kill its worker is given back while another such one is in hand."""


class Held(NamedTuple):
    """A job in hand."""

    claim: Claim
    queue: str
    suspect: bool


class Received(NamedTuple):
    """A job that was claimed, and its envelope."""

    claimed: Claimed
    job: Job


class Line:
    """What is claimed for one consumer and not yet taken by it. `prefetch` counts what runs, too."""

    def __init__(self, queue: str, prefetch: int) -> None:
        self.queue = queue
        self.prefetch = prefetch
        self.waiting: deque[Received] = deque()


class Intake:
    """Starts with the first consumer. `when_idle` is called when the last one is gone and nothing is in hand."""

    def __init__(
        self, broker: Broker, queues: Iterable[str], threads: int, when_idle: Callable[[Intake], None]
    ) -> None:
        self.id = f"{socket.gethostname()}-{os.getpid()}-{new_claim_id()[:8]}"
        self._broker = broker
        self._threads = threads
        self._when_idle = when_idle
        self._changed = threading.Condition()
        self._lines: dict[str, Line] = {}
        self._hand: dict[str, Held] = {}
        self._queues = tuple(queues)
        self._listening: frozenset[str] | None = None
        """The queues for which the puller claims or waits now; None while it sleeps here."""
        self._problem: Exception | None = None
        self._resting = False
        self._closed = False
        self._started_at = time()
        self._done = self._failed = 0
        self._life = LifeLock(self.id)
        self._keeper = Keeper(broker, self._claims, self._presence, self._on_extended, self._on_tended)
        self._keeper.start()
        self._puller = threading.Thread(target=self._pull, name="outwork-puller", daemon=True)
        self._puller.start()

    @property
    def idle(self) -> bool:
        """Whether there is neither a consumer nor anything in hand."""
        with self._changed:
            return not (self._lines or self._hand or self._closed)

    # ---- for the consumers ------------------------------------------------------------------------------------------

    def open_line(self, queue: str, prefetch: int) -> Line:
        """A consumer of this queue begins."""
        with self._changed:
            line = self._lines[queue] = Line(queue, prefetch)
            self._problem = None  # Dramatiq starts a consumer again after a while: then it is time to try again
            self._wake()
            return line

    def close_line(self, line: Line) -> None:
        """A consumer ends; what it has not taken is given back."""
        with self._changed:
            if self._lines.get(line.queue) is line:
                del self._lines[line.queue]
            back = [Settlement(one.id, one.claim_id, Release()) for one, _ in line.waiting]
            line.waiting.clear()
        try:
            self.settle(back)
        except OutworkError as error:
            self._let_go(back)  # their leases run out
            logger.warning("%d messages could not be given back: %s", len(back), error)
        self._tell_if_idle()

    def next(self, line: Line, timeout: float) -> Received | None:
        """The next job of a line, None after `timeout` seconds. Raises what the broker says."""
        deadline = monotonic() + timeout
        with self._changed:
            while not line.waiting:
                if self._problem is not None:
                    raise self._problem
                if self._closed:
                    raise BrokerUnavailable(f"{self._broker.url}: this broker was closed")
                left = deadline - monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)
            return line.waiting.popleft()

    def settle(self, settlements: Sequence[Settlement]) -> list[Answer]:
        """Write down what became of jobs. They stay in hand, and their leases are renewed, when that fails.

        Raises what the broker says.
        """
        if not settlements:
            return []
        answers = self._broker.exchange(new_claim_id(), settlements, [], 0, 0, self.id).answers
        for (job_id, _, _), answer in zip(settlements, answers, strict=True):
            if answer is Answer.STALE:
                logger.warning("job %s: its lease was lost, so its outcome is not taken (another has it)", job_id)
        self._let_go(settlements)
        self._tell_if_idle()
        return answers

    def serve_threads(self, threads: int) -> None:
        """How many threads run messages in this process. 0: not known, any number."""
        with self._changed:
            self._threads = threads
            self._resting = False
            self._wake()

    def rest(self) -> None:
        """Claim nothing more: the worker stops."""
        with self._changed:
            self._resting = True
            listening = self._listening is not None
        if listening:
            self._interrupt()  # what rings from now on is for others

    def close(self) -> None:
        """Give back all that is in hand, and leave."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._interrupt()
        self._puller.join(5.0)
        with self._changed:
            back = [Settlement(*held.claim, Release()) for held in self._hand.values()]
        try:
            if back:
                self._broker.exchange(new_claim_id(), back, [], 0, 0, self.id)
            self._broker.leave(self.id)
        except OutworkError as error:
            logger.warning("%d messages could not be given back: %s", len(back), error)
        self._keeper.close()
        self._life.release()

    # ---- the puller -------------------------------------------------------------------------------------------------

    def _pull(self) -> None:
        while True:
            with self._changed:
                self._listening = None
                shares = self._wanted()
                while not (shares or self._closed):
                    self._changed.wait()
                    shares = self._wanted()
                if self._closed:
                    return
                free = self._free()
                self._listening = frozenset(share.queue for share in shares)
            try:
                claimed = self._claim(shares, free)
                if not claimed:
                    self._broker.wait([share.queue for share in shares], LISTEN_SECONDS)
            except Exception as error:  # noqa: BLE001 - the consumers raise it, and Dramatiq starts them again
                self._suffer(error)

    def _wanted(self) -> list[Share]:
        """What may be claimed. Nothing while no thread would be free: so a batch is claimed at once, others can have
        what would only wait here, and one that has killed its worker before gets a thread at once."""
        if self._resting or self._free() <= 0:
            return []
        taken = Counter(held.queue for held in self._hand.values())
        rooms = (Share(line.queue, line.prefetch - taken[line.queue]) for line in self._lines.values())
        return [share for share in rooms if share.most > 0]

    def _free(self) -> int:
        """How many threads have nothing to do."""
        threads = self._threads or sum(line.prefetch for line in self._lines.values())
        return threads - len(self._hand)

    def _claim(self, shares: list[Share], free: int) -> list[Claimed]:
        limit = sum(share.most for share in shares)
        claim_id = new_claim_id()
        claimed = self._broker.exchange(claim_id, [], shares, limit, min(free, limit), self.id).claimed
        if claimed:
            self._share_out(claimed)
        return claimed

    def _share_out(self, claimed: list[Claimed]) -> None:
        """Into the lines. Of those that may kill this worker only one is kept."""
        back: list[Settlement] = []
        with self._changed:
            for one in claimed:
                outcome = self._take(one)
                if outcome is not None:
                    back.append(Settlement(one.id, one.claim_id, outcome))
            self._changed.notify_all()
        if back:
            self._broker.exchange(new_claim_id(), back, [], 0, 0, self.id)

    def _take(self, one: Claimed) -> Outcome | None:
        """Take a job into our hand, or say what becomes of it instead."""
        try:
            job = codec.decode_job(one.body)
        except Undecodable as error:
            logger.error("job %s: %s", one.id, error)
            return Dead(remember(one.errors, failure_of(error, one, self.id)))
        line = self._lines.get(job.queue)
        if line is None or self._closed:
            return Release()
        suspect = one.crashes >= SUSPECT_AFTER
        if suspect and any(held.suspect for held in self._hand.values()):
            return Release(delay=SUSPECT_PAUSE)
        self._hand[one.id] = Held(Claim(one.id, one.claim_id), line.queue, suspect)
        line.waiting.append(Received(one, job))
        return None

    def _suffer(self, error: Exception) -> None:
        """The broker is away: every consumer that waits hears of it; try again in a moment."""
        if not isinstance(error, OutworkError):
            logger.error("claiming failed", exc_info=error)
            error = BrokerUnavailable(str(error))
        with self._changed:
            self._problem = error
            self._changed.notify_all()
            self._changed.wait(OUTAGE_PAUSE)
            self._problem = None

    # ---- inside the condition ---------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Something changed: there may be more to claim than the puller listens for."""
        self._changed.notify_all()
        if self._listening is None or self._listening.issuperset(share.queue for share in self._wanted()):
            return
        self._interrupt()

    def _interrupt(self) -> None:
        try:
            self._broker.interrupt()
        except OutworkError as error:  # the puller meets it, too
            logger.debug("the puller could not be woken: %s", error)

    def _let_go(self, settlements: Iterable[Settlement]) -> None:
        with self._changed:
            for job_id, claim_id, outcome in settlements:
                held = self._hand.get(job_id)
                if held is not None and held.claim.claim_id == claim_id:
                    del self._hand[job_id]
                    self._failed += isinstance(outcome, Dead)
                    self._done += not isinstance(outcome, Dead | Release)
            self._wake()

    def _tell_if_idle(self) -> None:
        if self.idle:
            self._when_idle(self)

    # ---- what the keeper asks and tells -----------------------------------------------------------------------------

    def _claims(self) -> list[Claim]:
        with self._changed:
            return [held.claim for held in self._hand.values()]

    def _presence(self) -> Presence:
        with self._changed:
            return Presence(
                worker=self.id,
                host=host_name(),
                pid=os.getpid(),
                lock=self._life.path,
                queues=self._queues,
                concurrency=self._threads or len(self._hand),
                started_at=self._started_at,
                version=__version__,
                running=min(len(self._hand), self._threads or len(self._hand)),
                done=self._done,
                failed=self._failed,
                ttl=max(60.0, 4 * self._broker.terms.lease),
            )

    def _on_extended(self, began: float, claims: Sequence[Claim], extended: Extended) -> None:
        with self._changed:
            for claim in claims:
                held = self._hand.get(claim.job_id)
                if claim.job_id not in extended.lost or held is None or held.claim != claim:
                    continue
                del self._hand[claim.job_id]
                if (line := self._lines.get(held.queue)) is not None:
                    line.waiting = deque(one for one in line.waiting if one.claimed.id != claim.job_id)
                logger.warning("job %s: its lease was lost; another worker may run it", claim.job_id)
            self._wake()

    def _on_tended(self, tended: Tended) -> None:
        """Whatever was rescued rings; there is nothing to add."""
