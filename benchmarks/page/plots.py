"""What each plot shows, as data, and in words for those who do not see it. `drawing` makes SVG of it."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from benchmarks.page.budgets import BUDGETS
from benchmarks.page.cells import Book, missing, number
from benchmarks.page.peers import BROKERS, CPU, DRAIN, P50, P99, contestants
from benchmarks.servers import SUBJECTS

DIGEST: Final = re.compile(r"data sha256:([0-9a-f]{64})")
"""What a file says of the data that it was drawn from: a test without matplotlib can tell one that is stale."""


class Bar(msgspec.Struct, frozen=True):
    """A line of a plot: values of its series, None where there is none; `aim` for the first of them."""

    name: str
    values: tuple[float | None, ...]
    ours: bool = True
    aim: float | None = None


class Panel(msgspec.Struct, frozen=True):
    title: str
    bars: list[Bar]


class Bars(msgspec.Struct, frozen=True, tag=True):
    """Panels of horizontal bars, one for each series; on a log scale, a line from the first to the last, or a dot."""

    title: str
    unit: str
    series: tuple[str, ...]
    panels: list[Panel]
    log: bool = False

    def said(self) -> str:
        """In words, for those who do not see it."""
        return f"{self.title}, {self.unit}. " + " ".join(_panel_said(panel, self.series) for panel in self.panels)


class Line(msgspec.Struct, frozen=True):
    name: str
    values: list[float]


class Lines(msgspec.Struct, frozen=True, tag=True):
    """Panels above the same axis, each with a unit and its lines."""

    title: str
    axis: str
    at: list[float]
    panels: dict[str, list[Line]]

    def said(self) -> str:
        parts = [
            f"{line.name}: {unit} from {number(line.values[0])} to {number(line.values[-1])}"
            for unit, lines in self.panels.items()
            for line in lines
        ]
        return f"{self.title}, from {number(self.at[0])} to {number(self.at[-1])} {self.axis}. {'; '.join(parts)}."


Plot = Bars | Lines


def _panel_said(panel: Panel, series: Sequence[str]) -> str:
    bars = []
    for bar in panel.bars:
        known = [(name, value) for name, value in zip(series, bar.values, strict=True) if value is not None]
        shown = ", ".join(f"{name} {number(value)}" if name else number(value) for name, value in known)
        bars.append(f"{bar.name}: {shown}")
    return (f"On {panel.title}: " if panel.title else "") + "; ".join(bars) + "."


def _ours(book: Book, quantities: Sequence[str], aims: Mapping[str, float]) -> list[Panel]:
    bars = [
        Bar(subject, tuple(book.median("endtoend", subject, one) for one in quantities), aim=aims.get(subject))
        for subject in SUBJECTS
    ]
    bars = [bar for bar in bars if any(value is not None for value in bar.values)]
    return [Panel("", bars)] if bars else []


def _aims(what: str) -> Mapping[str, float]:
    [found] = [one.aims for one in BUDGETS if one.what == what]
    return found


def drain(book: Book) -> Plot | None:
    aims = _aims("drain, one worker process")
    panels = _ours(book, ["drain, one process", "drain, two processes"], aims)
    series = ("one worker process", "two worker processes")
    return Bars("Drain of jobs that do nothing", "jobs/s", series, panels) if panels else None


def latency(book: Book) -> Plot | None:
    aims = _aims("latency from the call of `enqueue`, p50")
    panels = _ours(book, ["latency from the call, p50", "latency from the call, p99"], aims)
    title = "From the call of enqueue to the task, in an idle worker"
    return Bars(title, "ms", ("p50", "p99"), panels, log=True) if panels else None


def growth(book: Book) -> Plot | None:
    result = book["growth"]
    names = {"no snapshot pinned": "PostgreSQL", "beside a pinned snapshot": "PostgreSQL, beside a pinned snapshot"}
    at = result.find("PostgreSQL", "jobs so far")
    panels = {
        unit: [Line(name, one.rounds) for name, subject in names.items() if (one := result.find(subject, quantity))]
        for quantity, unit in (("exchange", "jobs/s"), ("dead rows", "dead rows"))
    }
    if at is None or not all(panels.values()):
        return None
    return Lines("PostgreSQL, settle and claim without a worker", "jobs so far", at.rounds, panels)


def _peers(book: Book, *quantities: str) -> list[Panel]:
    panels = []
    for broker, name in BROKERS.items():
        found = [(one, tuple(one.value(quantity) for quantity in quantities)) for one in contestants(book, broker)]
        known = [(one, values) for one, values in found if all(_drawn(value) for value in values)]
        if known:
            known.sort(key=lambda pair: pair[1][0] or 0.0, reverse=quantities[0] == DRAIN)
            panels.append(Panel(name, [Bar(one.name, values, one.ours) for one, values in known]))
    return panels


def _drawn(value: float | None) -> bool:
    return value is not None and 0 < value < math.inf


def peers_drain(book: Book) -> Plot | None:
    panels = _peers(book, DRAIN)
    return Bars("Drain, one worker", "jobs/s", ("",), panels) if panels else None


def peers_latency(book: Book) -> Plot | None:
    panels = _peers(book, P50, P99)
    title = "From the call of enqueue to the task, in an idle worker"
    return Bars(title, "ms", ("p50", "p99"), panels, log=True) if panels else None


def peers_cpu(book: Book) -> Plot | None:
    panels = _peers(book, CPU)
    title = "Processor time of 1,000 jobs: producer, worker and server"
    return Bars(title, "s", ("",), panels, log=True) if panels else None


PLOTS: Final[Mapping[str, Callable[[Book], Plot | None]]] = {
    "drain": drain,
    "latency": latency,
    "growth": growth,
    "peers_drain": peers_drain,
    "peers_latency": peers_latency,
    "peers_cpu": peers_cpu,
}


def digest(plot: Plot) -> str:
    return hashlib.sha256(msgspec.json.encode(plot)).hexdigest()


def drawn_from(svg: str) -> str:
    """The digest of the data that a plot was drawn from; "" if it has none."""
    found = DIGEST.search(svg)
    return found[1] if found else ""


def embedded(name: str, book: Book) -> str:
    """The plot as the page shows it, with what it says in words; or that nothing is measured."""
    plot = PLOTS[name](book)
    if plot is None:
        return missing("peers" if name.startswith("peers") else "growth" if name == "growth" else "endtoend")
    return f"![{plot.said()}](plots/{name}.svg)\n"
