"""What binds a job to others: a key that only one job may hold, gates that let so many through, jobs it comes after, a
key by which those who share a line take turns.

Pure: data, and the arithmetic of a gate and of a line. `outwork.brokers.ledger` keeps the books; `docs/limits.md` and
`docs/composition.md` say it in words.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from msgspec import Struct

Conflict: TypeAlias = Literal["return", "replace", "raise"]
"""What becomes of a job whose unique key is held: the one that holds it stands for it, or takes its arguments and time,
or the enqueue is refused."""


TURN: Final = 1e-6
"""Seconds between two jobs of one fair key in a line: the distance of a time of today from its neighbour as eight bytes
hold it is a quarter of that."""
TURNS_KNOWN: Final = 86_400.0
"""Seconds for which the last place of a fair key is remembered."""


class Unique(Struct, frozen=True, omit_defaults=True, gc=False):
    """The key that only one job may hold at a time.

    It is held until the job ends, or with `seconds` for so long from the enqueue, whatever becomes of the job. With
    `patience`, a job that is replaced again and again starts at the latest so many seconds after the first of them.
    """

    key: str
    seconds: float | None = None
    conflict: Conflict = "return"
    patience: float | None = None


class Gate(Struct, frozen=True, omit_defaults=True, gc=False):
    """How many jobs of a key may run at a time (`most`, 0: any number), and how many may start (`rate` a second, 0: any
    number; `burst` at once after a rest). A job that may not pass is held at the gate, not claimed again and again."""

    key: str
    most: int = 0
    rate: float = 0.0
    burst: int = 1


class Ties(Struct, frozen=True, omit_defaults=True, gc=False):
    """All of it. The envelope says what was asked for; the record's own ties are what is left of that.

    - awaits: it is held until so many jobs that report to it have ended, well or not; they are enqueued with it or
      `within` so many seconds, after which those that never came no longer count
    - after: jobs enqueued before, for whose end it waits as well
    - reports: held jobs that are told when this one ends
    - fair: whose job it is, of those who take turns in its line; its place is found when it is enqueued, and nothing of
      this is left in the record
    """

    unique: Unique | None = None
    gates: tuple[Gate, ...] = ()
    awaits: int = 0
    within: float = 600.0
    after: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()
    fair: str | None = None

    @property
    def bound_at_enqueue(self) -> bool:
        """Whether an enqueue has to look at other jobs, too."""
        others = self.awaits or self.after or self.reports
        return self.unique is not None or self.fair is not None or bool(others)


def next_pass(gate: Gate, spent_until: float, now: float) -> float:
    """When the gate's rate lets the next job start: `now`, or later (the generic cell rate algorithm; `spent_until` is
    the moment at which all that was let through is paid for)."""
    return max(now, spent_until - (gate.burst - 1) / gate.rate)


def passed(gate: Gate, spent_until: float, now: float) -> float:
    """`spent_until` after one more job was let through."""
    return max(now, spent_until) + 1 / gate.rate


def fair_place(front: float | None, last: float | None, now: float) -> float:
    """The place in a line, as a due time, of a job whose fair key had its `last` place there (None: it had none):
    behind the `front` of the line (start-time fair queueing: whoever comes new is level with those who are being
    served), and behind all that its key has there. None is in front: now.

    A long batch runs ahead of the clock, by its microseconds; a last place further ahead than that is of a clock that
    was set back since, and there is nothing left in the line that it stood for.
    """
    if front is None and last is not None and last > now + 1:
        last = None
    start = now if front is None else front
    return start if last is None else max(start, last + TURN)
