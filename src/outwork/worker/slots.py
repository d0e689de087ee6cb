"""The slots of a worker: which of the claimed jobs run, which wait for a slot, which have ended.

    backlog ──a slot is free──> its runner's queue ──> running ──> ended ──> settled by the puller

Everything that runners and puller share is here, under one lock that is held for a few instructions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from threading import Lock
from time import monotonic
from typing import Final, NamedTuple, Protocol

from outwork.attempt import Attempt
from outwork.brokers.base import Claimed
from outwork.job import Outcome
from outwork.worker.bell import Bell

SETTLED_AT_ONCE: Final = 1000
"""Outcomes: what every broker takes in one round trip."""


class Runner(Protocol):
    """Where attempts of one kind run."""

    def start(self, attempt: Attempt, /) -> None:
        """Run an attempt as soon as there is a thread or child for it; it has a slot already."""

    def follow(self, attempt: Attempt, /) -> None:
        """The same, said by one of the runner's own threads that is about to be free: nobody needs to be woken."""


class Ended(NamedTuple):
    """A claimed job and what became of it. `attempt` None: there was nothing to run; `elapsed` in seconds."""

    claimed: Claimed
    outcome: Outcome
    attempt: Attempt | None = None
    elapsed: float = 0.0


class Slots:
    """`total` slots. `ended` gathers outcomes for the puller, whose bell is rung for each."""

    def __init__(self, total: int, runner_of: Callable[[Attempt], Runner], bell: Bell) -> None:
        self.total = total
        self.free = total
        self.lost = 0
        """Slots whose thread does not end although its time is over."""
        self.backlog: deque[Attempt] = deque()
        self.ended: deque[Ended] = deque()
        self.wake_at = 1
        """How many outcomes must wait before the puller is woken."""
        self.ran_out = True
        """Whether a slot was without work since somebody has set this to False."""
        self._runner_of = runner_of
        self._bell = bell
        self._lock = Lock()

    def add(self, attempts: Iterable[Attempt]) -> None:
        """Take claimed attempts: they start as far as slots are free, and wait in the backlog otherwise."""
        with self._lock:
            self.backlog.extend(attempts)
        self.fill()

    def fill(self) -> None:
        """Start what may be started."""
        while True:
            with self._lock:
                if self.free <= 0 or not self.backlog:
                    return
                self.free -= 1
                attempt = self.backlog.popleft()
            self._runner_of(attempt).start(attempt)

    def finish(self, attempt: Attempt, outcome: Outcome, runner: Runner) -> None:
        """An attempt has ended, says a thread of `runner`; its slot goes to the next one of the backlog."""
        self.ended.append(Ended(attempt.claimed, outcome, attempt, monotonic() - attempt.started_at))
        with self._lock:
            if self.backlog:
                following = self.backlog.popleft()
            else:
                following = None
                self.free += 1
                self.ran_out = True
        if following is None or len(self.ended) >= self.wake_at:
            self._bell.ring()
        if following is not None:
            its = self._runner_of(following)
            if its is runner:
                its.follow(following)
            else:
                its.start(following)

    def abandon(self, attempt: Attempt, outcome: Outcome) -> None:
        """An attempt is settled although its thread still runs: the slot stays taken for ever."""
        self.ended.append(Ended(attempt.claimed, outcome, attempt, monotonic() - attempt.started_at))
        self.lost += 1
        self._bell.ring()

    def oldest(self) -> Attempt | None:
        """The first of the backlog: taken under the lock, as a thread may take it out at this moment."""
        with self._lock:
            return self.backlog[0] if self.backlog else None

    def withdraw(self) -> list[Attempt]:
        """Take everything out of the backlog: jobs that have not started."""
        with self._lock:
            waiting = list(self.backlog)
            self.backlog.clear()
        return waiting

    def gather(self, seconds: float) -> None:
        """While there is a backlog to run, let outcomes gather for a moment: a settle of a hundred jobs costs hardly
        more than one of ten, and with half a batch in hand the slots go on working during the exchange."""
        waiting = len(self.backlog)
        if 0 < len(self.ended) < waiting:
            self.wake_at = waiting // 2 + len(self.ended)
            self._bell.wait(seconds)
            self.wake_at = 1

    def take_ended(self) -> list[Ended]:
        """What has ended since the last call, as far as one exchange can settle it well."""
        ended = self.ended
        return [ended.popleft() for _ in range(min(len(ended), SETTLED_AT_ONCE))]
