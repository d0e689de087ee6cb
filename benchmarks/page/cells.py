"""Numbers, tables, and where they come from."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.results import KEPT, Measurement, Result, Run, load
from benchmarks.servers import PRODUCTS, SUBJECTS


class Book:
    """All results in a folder, each read once."""

    def __init__(self, folder: Path = KEPT) -> None:
        self._folder = folder
        self._read: dict[str, Result] = {}

    def __getitem__(self, part: str) -> Result:
        if part not in self._read:
            self._read[part] = load(part, self._folder)
        return self._read[part]

    def median(self, part: str, subject: str, quantity: str) -> float | None:
        found = self[part].find(subject, quantity)
        return None if found is None else found.median

    def ratio(self, part: str, subject: str, quantity: str, of: str) -> float | None:
        """What part of the other quantity of this subject it is."""
        found, other = self[part].find(subject, quantity), self[part].find(subject, of)
        return None if found is None or other is None else ratio(found, other)


def ratio(one: Measurement, other: Measurement) -> float:
    """The median of the ratios of the rounds, or that of the medians where the rounds are not the same ones."""
    rounds = [(mine, its) for mine, its in zip(one.values, other.values, strict=False) if mine is not None and its]
    if len(rounds) == len(one.values) == len(other.values):
        return statistics.median(mine / its for mine, its in rounds)
    return one.median / other.median


def number(value: float) -> str:
    """With as many digits as mean something: 66,517; 105; 46.2; 1.38; 0.041."""
    if math.isinf(value):
        return "not in time"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}".removesuffix(".0")
    if size >= 0.1 or value == 0:
        return f"{value:.2f}".removesuffix(".00")
    return f"{value:.2g}"


def percent(value: float) -> str:
    return f"{value:.0%}".replace("%", " %")


def milliseconds(value: float) -> str:
    """A task may be entered before `enqueue` has returned to its caller."""
    return "before it" if value < 0 else number(value)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


class Row(NamedTuple):
    """One line of a table whose columns are subjects.

    The cell is the median of `quantity`; with `of`, how much of that other quantity it is; with `then`, a second
    quantity behind a slash.
    """

    text: str
    quantity: str
    of: str = ""
    then: str = ""

    def cell(self, result: Result, subject: str) -> str:
        found = result.find(subject, self.quantity)
        if found is None:
            return ""
        if self.of:
            other = result.find(subject, self.of)
            return percent(ratio(found, other)) if other else ""
        shown = [found, result.find(subject, self.then)] if self.then else [found]
        say = milliseconds if found.unit == "ms" else number
        return " / ".join(say(one.median) for one in shown if one)

    @property
    def quantities(self) -> list[str]:
        return [name for name in (self.quantity, self.of, self.then) if name]


def beside_each_other(book: Book, part: str, rows: Sequence[Row], subjects: Sequence[str] = SUBJECTS) -> str:
    """A table with a column for each subject, and where it comes from."""
    result = book[part]
    shown = [one for one in subjects if any(row.cell(result, one) for row in rows)]
    if not shown:
        return missing(part)
    lines = [[row.text, *(row.cell(result, one) for one in shown)] for row in rows]
    lines = [line for line in lines if any(line[1:])]
    return table(["", *shown], lines) + "\n" + origin(result, [name for row in rows for name in row.quantities], shown)


def missing(part: str) -> str:
    return f"Not measured yet: run `python -m benchmarks.{part}`, then `make page`.\n"


def origin(
    result: Result,
    quantities: Iterable[str],
    subjects: Sequence[str] | None = None,
    *,
    rounds: bool = True,
    versions: bool = True,
) -> str:
    """For each run that the numbers come from: command, time, code, load, versions of what is in the subjects' names
    and of packages, and how far the rounds differ."""
    wanted = set(quantities)
    found = [
        (run, measured)
        for run in result.runs
        if (measured := [one for one in run.measurements if one.quantity in wanted and _of(one, subjects)])
    ]
    return ">\n".join(
        f"> {', '.join(_said(run, measured, alone=len(found) == 1, rounds=rounds, versions=versions))}.\n"
        for run, measured in found
    )


def _of(one: Measurement, subjects: Sequence[str] | None) -> bool:
    return subjects is None or one.subject in subjects


def _said(run: Run, measured: Sequence[Measurement], *, alone: bool, rounds: bool, versions: bool) -> Iterator[str]:
    about = list(dict.fromkeys(one.subject for one in measured))
    yield ("" if alone else f"{'; '.join(about)}: ") + f"`{run.command}`"
    yield f"{run.began:%Y-%m-%d %H:%M} UTC"
    yield f"commit {run.commit}"
    if run.dirty:
        yield "with changes"
    yield f"load average {run.load[0]:.1f} when it began"
    yield f"{run.load[1]:.1f} when it ended"
    for product, version in run.versions.items() if versions else ():
        if product not in PRODUCTS or any(product in one for one in about):
            yield f"{product} {version}"
    count = max(len(one.values) for one in measured)
    if rounds and count > 1:
        yield f"medians of {count} rounds"
        yield f"which lie up to {percent(max(map(_apart, measured)))} apart"


def _apart(one: Measurement) -> float:
    """From the least to the most, of the median."""
    least, most = one.spread
    return (most - least) / abs(one.median) if one.median and math.isfinite(most) else 0.0
