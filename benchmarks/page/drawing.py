"""The plots as SVG. Needs matplotlib, from the dependency group `bench`.

The background is white and everything on it is drawn for that, so that it can be read in a dark page as well. Text
stays text, and the same data makes the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.page.cells import Book, number
from benchmarks.page.plots import PLOTS, Bar, Bars, Lines, Panel, digest

OURS: Final = "#1f6feb"
OURS_TOO: Final = "#9cc3f7"
OTHERS: Final = "#8c959f"
AIM: Final = "#bc4c00"
INK: Final = "#24292f"
FAINT: Final = "#d0d7de"
MARKS: Final = {True: "o", False: "|"}
"""Of the first value of a line, and of the others."""
STYLE: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "outwork",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "sans-serif"],
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.titlesize": 11,
    "xtick.color": INK,
    "ytick.color": INK,
}


def draw(book: Book, folder: Path) -> list[Path]:
    """Write all plots for which there are results."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, make in PLOTS.items():
        if plot := make(book):
            with matplotlib.rc_context(STYLE):
                figure = _bars(plot) if isinstance(plot, Bars) else _lines(plot)
                metadata = {"Date": None, "Title": plot.title, "Description": f"data sha256:{digest(plot)}"}
                figure.savefig(folder / f"{name}.svg", metadata=metadata, bbox_inches="tight", pad_inches=0.2)
            written.append(folder / f"{name}.svg")
    return written


def _figure(heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(7.6, sum(heights) + 0.6 * len(heights) + 0.5), layout="constrained")
    return figure, list(figure.subplots(len(heights), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0])


def _bars(plot: Bars) -> Figure:
    step = 0.3 if plot.log or len(plot.series) == 1 else 0.26 * len(plot.series) + 0.1
    figure, all_axes = _figure([step * len(panel.bars) for panel in plot.panels])
    figure.suptitle(f"{plot.title}, {plot.unit}", x=0.01, ha="left", fontsize=12)
    for axes, panel in zip(all_axes, plot.panels, strict=True):
        (_dumbbells if plot.log else _filled)(axes, plot, panel)
        axes.set_yticks(range(len(panel.bars)), [bar.name for bar in panel.bars])
        for label, bar in zip(axes.get_yticklabels(), panel.bars, strict=True):
            label.set_fontweight("bold" if bar.ours and len(plot.panels) > 1 else "normal")
        axes.set_ylim(len(panel.bars) - 0.4, -0.6)
        axes.tick_params(labelbottom=True)
        axes.set_title(panel.title, loc="left", fontweight="bold")
        _plain(axes, "x")
    _legend(all_axes[0], plot)
    return figure


def _filled(axes: Axes, plot: Bars, panel: Panel) -> None:
    """Bars from nought, with their numbers."""
    thick = 0.8 / len(plot.series)
    for place, bar in enumerate(panel.bars):
        for number_of, value in enumerate(bar.values):
            if value is not None:
                at = place + (number_of - (len(bar.values) - 1) / 2) * thick
                axes.barh(at, value, thick * 0.92, color=_colour(bar, number_of))
                axes.annotate(number(value), (value, at), (4, 0), textcoords="offset points", va="center", fontsize=9)
        if bar.aim is not None:
            axes.plot([bar.aim, bar.aim], [place - 0.45, place + 0.45], color=AIM, linewidth=2)
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _: number(value))


def _dumbbells(axes: Axes, plot: Bars, panel: Panel) -> None:
    """A line from the first value to the last, on a log scale, with the numbers at its ends."""
    for place, bar in enumerate(panel.bars):
        known = [value for value in bar.values if value is not None]
        axes.plot(known, [place] * len(known), color=_colour(bar, 1), linewidth=3, zorder=1)
        for number_of, value in enumerate(bar.values):
            if value is not None:
                first = number_of == 0
                before = first and len(bar.values) > 1
                axes.scatter(
                    [value], [place], s=36 if first else 80, color=_colour(bar, 0), zorder=2, marker=MARKS[first]
                )
                axes.annotate(
                    number(value),
                    (value, place),
                    (-7 if before else 7, 0),
                    textcoords="offset points",
                    ha="right" if before else "left",
                    va="center",
                    fontsize=9,
                )
        if bar.aim is not None:
            axes.plot([bar.aim, bar.aim], [place - 0.4, place + 0.4], color=AIM, linewidth=2, zorder=0)
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter(lambda value, _: number(value))
    axes.xaxis.set_minor_formatter(lambda value, _: "")


def _colour(bar: Bar, number_of: int) -> str:
    if not bar.ours:
        return OTHERS if number_of == 0 else FAINT
    return OURS if number_of == 0 else OURS_TOO


def _legend(axes: Axes, plot: Bars) -> None:
    marks: list[Any] = []
    if len(plot.series) > 1:
        for number_of, name in enumerate(plot.series):
            colour = _colour(Bar("", ()), number_of)
            if plot.log:
                mark = Line2D([], [], color=OURS, marker=MARKS[number_of == 0], linestyle="", label=name)
            else:
                mark = Line2D([], [], color=colour, linewidth=6, label=name)
            marks.append(mark)
    if any(bar.aim is not None for panel in plot.panels for bar in panel.bars):
        marks.append(Line2D([], [], color=AIM, linewidth=2, label="aim" if not plot.log else "aim of p50"))
    if marks:
        axes.figure.legend(handles=marks, loc="outside lower left", ncols=len(marks), frameon=False, fontsize=9)


def _lines(plot: Lines) -> Figure:
    figure, all_axes = _figure([1.6] * len(plot.panels))
    figure.suptitle(plot.title, x=0.01, ha="left", fontsize=12)
    for axes, (unit, lines) in zip(all_axes, plot.panels.items(), strict=True):
        for line, colour in zip(lines, (OURS, AIM), strict=False):
            axes.plot(plot.at, line.values, color=colour, marker="o", markersize=4, label=line.name)
        axes.set_title(unit, loc="left")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: number(value))
        axes.xaxis.set_major_formatter(lambda value, _: number(value))
        _plain(axes, "y")
    all_axes[-1].set_xlabel(plot.axis)
    all_axes[0].legend(frameon=False, fontsize=9, loc="best")
    return figure


def _plain(axes: Axes, grid: Any) -> None:
    axes.grid(axis=grid, color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ("top", "right", "left" if grid == "x" else "bottom"):
        axes.spines[side].set_visible(False)
