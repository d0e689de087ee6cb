"""What was aimed at, beside what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from benchmarks.page.cells import Book, milliseconds, number, percent, table
from benchmarks.servers import SUBJECTS

SQLITE, REDIS, POSTGRESQL, MARIADB, CLASSIC, QUORUM = SUBJECTS
RABBITMQ: Final = (CLASSIC, QUORUM)
OTHERS: Final = (SQLITE, REDIS, POSTGRESQL, MARIADB)
Value = Callable[[Book, str], float | None]
"""What was measured of a subject."""


class Budget(NamedTuple):
    """One aim for some subjects. `aims`: for each subject the least (`at_least`) or the most it is to reach."""

    what: str
    unit: str
    value: Value
    aims: Mapping[str, float]
    at_least: bool = False
    limits: Mapping[str, str] = {}
    """Why a subject misses it, where that is known; "" for all that are not named. Words, no numbers."""

    def met(self, subject: str, value: float) -> bool:
        return value >= self.aims[subject] if self.at_least else value <= self.aims[subject]

    def show(self, value: float) -> str:
        if self.unit == "%":
            return percent(value)
        return (milliseconds if self.unit == "ms" else number)(value)

    def aim(self, subject: str) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.show(self.aims[subject])}"

    @property
    def title(self) -> str:
        return self.what if self.unit == "%" else f"{self.what}, {self.unit}"


def measured(part: str, quantity: str, subject: str = "") -> Value:
    return lambda book, column: book.median(part, subject or column, quantity)


def compared(part: str, quantity: str, of: str) -> Value:
    return lambda book, column: book.ratio(part, column, quantity, of)


def alike(subjects: Iterable[str], aim: float) -> dict[str, float]:
    return dict.fromkeys(subjects, aim)


def pinned(book: Book, subject: str) -> float | None:
    """The rate of the last three tenths beside a pinned snapshot, of that of the first three."""
    found = book["growth"].find(f"{subject}, beside a pinned snapshot", "exchange")
    return None if found is None else statistics.median(found.rounds[-3:]) / statistics.median(found.rounds[:3])


CROWD: Final = (
    "The tables and their indexes are larger, and a commit touches more of their pages: the disk is measured."
)
TAIL: Final = "The slowest of a hundred meets a checkpoint, a slow commit or another process on the same cores."
DISK: Final = (
    "`enqueue` returns when the job is on the disk or confirmed by the server; from its return the task starts sooner, "
    "as the table of latencies shows."
)
BUDGETS: Final[Sequence[Budget]] = (
    Budget(
        "drain, one worker process",
        "jobs/s",
        measured("endtoend", "drain, one process"),
        {SQLITE: 50e3, REDIS: 50e3, POSTGRESQL: 40e3, MARIADB: 8e3, CLASSIC: 15e3, QUORUM: 10e3},
        True,
        {
            POSTGRESQL: "The server's own process is the limit: it writes each job's rows and index entries.",
            REDIS: "The server's own process is the limit: most of it is the Lua script of the exchange.",
        },
    ),
    Budget(
        "drain by two worker processes, of one",
        "%",
        compared("endtoend", "drain, two processes", "drain, one process"),
        alike((POSTGRESQL, MARIADB), 1.0),
        True,
        {"": "Two workers and the server share two cores here."},
    ),
    Budget(
        "`enqueue`, one at a time, of the bare driver",
        "%",
        compared("drivers", "enqueue, one at a time", "bare driver, one at a time"),
        alike(SUBJECTS, 0.75),
        True,
        {MARIADB: "An enqueue is several statements in one message, and PyMySQL reads each answer in Python."},
    ),
    Budget(
        "`enqueue_many`, of the bare driver",
        "%",
        compared("drivers", "enqueue, 1,000 at once", "bare driver, 1,000 at once"),
        alike(SUBJECTS, 0.5),
        True,
        {SQLITE: "Each job is a row of its table and a place in the queue, with indexes; the bare insert is the row."},
    ),
    Budget(
        "latency from the call of `enqueue`, p50",
        "ms",
        measured("endtoend", "latency from the call, p50"),
        {**alike(SUBJECTS, 0.8), MARIADB: 2.0},
        limits={"": DISK},
    ),
    Budget(
        "latency from the call of `enqueue`, p99",
        "ms",
        measured("endtoend", "latency from the call, p99"),
        {**alike(SUBJECTS, 4.0), **alike(RABBITMQ, 5.0)},
        limits={"": TAIL},
    ),
    Budget(
        "the same after a silence, median",
        "ms",
        measured("idle", "latency after a silence, from the call"),
        {**alike(SUBJECTS, 0.8), MARIADB: 2.0},
        limits={"": "After a silence the caches of processor and server are cold, and the cores sleep."},
    ),
    Budget(
        "`enqueue` beside a crowd, of an empty broker",
        "%",
        compared("drivers", "enqueue, beside a crowd", "enqueue, 1,000 at once"),
        alike(OTHERS, 0.8),
        True,
        {"": CROWD},
    ),
    Budget(
        "settle and claim beside a crowd, of an empty broker",
        "%",
        compared("drivers", "exchange, beside a crowd", "exchange"),
        alike(OTHERS, 0.8),
        True,
        {"": CROWD},
    ),
    Budget(
        "idle worker, processor time",
        "% of a core",
        measured("idle", "idle worker, CPU"),
        {**alike(SUBJECTS, 0.2), **alike(RABBITMQ, 0.5)},
    ),
    Budget(
        "idle worker, memory",
        "MB",
        measured("idle", "idle worker, memory"),
        alike(SUBJECTS, 45),
        limits={"": "Most of it is Python, the driver and what it imports."},
    ),
    Budget("`import outwork`", "ms", measured("start", "import outwork", "outwork"), {"": 60}),
    Budget(
        "group with a callback, of a plain drain",
        "%",
        compared("flow", "group with a callback", "plain drain"),
        alike((*OTHERS, QUORUM), 0.5),
        True,
        {
            "": "A member's place is a wider row with more indexes than a free job's, and what it leads to is looked "
            "up when it ends. On SQLite all of that is in the worker's own process, beside the tasks."
        },
    ),
    Budget(
        "unique enqueue, one at a time, of a plain one",
        "%",
        compared("bound", "one at a time, unique", "one at a time, plain"),
        alike(OTHERS, 0.7),
        True,
    ),
    Budget(
        "unique enqueues, 1,000 at once, of plain ones",
        "%",
        compared("bound", "1,000 at once, unique", "1,000 at once, plain"),
        alike(OTHERS, 0.7),
        True,
        {
            "": "Each job has a row more for its key, in a table and an index more, and its place is a row of a table "
            "with more indexes."
        },
    ),
    Budget(
        "rate of the last three tenths beside a pinned snapshot, of the first three",
        "%",
        pinned,
        {POSTGRESQL: 0.5},
        True,
        {"": "Dead rows cannot be removed while the snapshot is held; the claim walks over them."},
    ),
    Budget(
        "Django, drain, one worker process",
        "tasks/s",
        measured("django", "drain, one process"),
        {POSTGRESQL: 5e3},
        True,
    ),
    Budget(
        "Django, latency from the call of `enqueue`, p50",
        "ms",
        measured("django", "latency from the call, p50"),
        {POSTGRESQL: 5},
        limits={"": DISK},
    ),
)


class Verdict(NamedTuple):
    """A budget for a subject with what was measured; None if nothing was."""

    budget: Budget
    subject: str
    value: float | None

    @property
    def met(self) -> bool | None:
        return None if self.value is None else self.budget.met(self.subject, self.value)


def verdicts(book: Book) -> list[Verdict]:
    return [Verdict(one, subject, one.value(book, subject)) for one in BUDGETS for subject in one.aims]


def budgets(book: Book) -> str:
    """Aim, measured, met: a line for each budget, a column for each broker."""
    by_budget: dict[str, list[Verdict]] = {}
    for verdict in verdicts(book):
        by_budget.setdefault(verdict.budget.title, []).append(verdict)
    rows: list[list[str]] = []
    for title, found in by_budget.items():
        aims = list(dict.fromkeys(one.budget.aim(one.subject) for one in found))
        cells = {one.subject: _cell(one, alone=len(aims) == 1) for one in found}
        rows.append([title, aims[0] if len(aims) == 1 else "", *(cells.get(name, "") for name in (*SUBJECTS, ""))])
    met = [one.met for one in verdicts(book)]
    said = f"{met.count(True)} met, {met.count(False)} missed, {met.count(None)} not measured yet.\n\n"
    return said + table(["", "aim", *SUBJECTS, "all"], rows)


def _cell(verdict: Verdict, *, alone: bool) -> str:
    if verdict.value is None:
        return "not measured"
    shown = verdict.budget.show(verdict.value)
    said = f"✓ {shown}" if verdict.met else f"✗ **{shown}**"
    return said if alone else f"{said} ({verdict.budget.aim(verdict.subject)})"


def missed(book: Book) -> str:
    """One line for each budget that is missed: by whom, by how much, and why if that is known."""
    lines: list[str] = []
    for budget in BUDGETS:
        found = [one for one in verdicts(book) if one.budget is budget and one.met is False]
        if found:
            said = "; ".join(filter(None, (_short(one) for one in found)))
            known = {one.subject: budget.limits.get(one.subject, budget.limits.get("", "")) for one in found}
            whys = _reasons(known)
            lines.append(f"- **{budget.what}**: {said}. {whys}".rstrip() + "\n")
    return "".join(lines) or "None of those that are measured.\n"


def _reasons(known: Mapping[str, str]) -> str:
    """Each reason once; with its subjects, where it is not that of all."""
    by_reason: dict[str, list[str]] = {}
    for subject, why in known.items():
        by_reason.setdefault(why, []).append(subject)
    if len(by_reason) == 1:
        return next(iter(by_reason))
    return " ".join(f"{', '.join(subjects)}: {why[0].lower()}{why[1:]}" for why, subjects in by_reason.items() if why)


def _short(verdict: Verdict) -> str:
    budget, value = verdict.budget, verdict.value
    assert value is not None
    unit = "" if budget.unit == "%" else f" {budget.unit}"
    whose = f"{verdict.subject} " if verdict.subject else ""
    return f"{whose}{budget.show(value)}{unit} (aim {budget.aim(verdict.subject)})"
