"""What binds a job to others: a key that only one job may hold, gates that let so many through, jobs it comes after.

Pure: data, and the arithmetic of a gate. `outwork.brokers.ledger` keeps the books; `docs/flow.md` says it in words.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

Conflict: TypeAlias = Literal["return", "replace", "raise"]
"""What becomes of a job whose unique key is held: the one that holds it stands for it, or takes its arguments and time,
or the enqueue is refused."""


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
    """

    unique: Unique | None = None
    gates: tuple[Gate, ...] = ()
    awaits: int = 0
    within: float = 600.0
    after: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()

    @property
    def bound_at_enqueue(self) -> bool:
        """Whether an enqueue has to look at other jobs, too."""
        return self.unique is not None or bool(self.awaits or self.after or self.reports)


def next_pass(gate: Gate, spent_until: float, now: float) -> float:
    """When the gate's rate lets the next job start: `now`, or later (the generic cell rate algorithm; `spent_until` is
    the moment at which all that was let through is paid for)."""
    return max(now, spent_until - (gate.burst - 1) / gate.rate)


def passed(gate: Gate, spent_until: float, now: float) -> float:
    """`spent_until` after one more job was let through."""
    return max(now, spent_until) + 1 / gate.rate
