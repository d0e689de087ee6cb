"""Collects what has become of the cells, from all processes that run tests, and writes docs/reliability.md."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from faults.scorecard.proven import WHAT, cell_of
from faults.scorecard.rows import BY_NUMBER, ROWS

VARIABLE: Final = "FAULTS_PAGE"
"""The environment variable that asks for the whole scorecard, and names the pages to write."""
SOME: Final = "FAULTS_CELLS"
"""The environment variable that says, in the words of `pytest -k`, which cells alone are run again."""
ROOT: Final = Path(__file__).parents[3]
COLUMNS: Final = {
    "thread:": "`thread:`",
    "process:": "`process:`",
    "sqlite": "SQLite",
    "postgresql": "PostgreSQL",
    "mysql": "MySQL",
    "redis": "Redis",
    "rabbitmq": "RabbitMQ",
}
PART: Final = re.compile(r"(<!-- scorecard -->\n).*?(<!-- end -->)", re.DOTALL)

outcomes: Final[defaultdict[tuple[str, str], dict[str, str]]] = defaultdict(dict)
"""By row and broker: what became of each test."""
numbers: Final[defaultdict[tuple[str, str], dict[str, dict[str, Any]]]] = defaultdict(dict)
"""By row and broker: what each test of a load has counted."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what fills a cell."""
    for item in items:
        marker = item.get_closest_marker("cell")
        cell = (marker.kwargs["row"], marker.kwargs["broker"]) if marker else cell_of(item.nodeid)
        if cell is not None:
            if marker is None:
                item.add_marker(pytest.mark.cell(row=cell[0], broker=cell[1]))
            item.user_properties.append(("cell", list(cell)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    said: dict[str, Any] = dict(report.user_properties)
    if "cell" not in said:
        return
    row, broker = said["cell"]
    before = outcomes[row, broker].get(report.nodeid)
    if report.when == "call" or report.outcome != "passed":
        outcomes[row, broker][report.nodeid] = "failed" if "failed" in (before, report.outcome) else report.outcome
    if "bound" in said:
        numbers[row, broker][report.nodeid] = said


def pytest_sessionfinish(session: pytest.Session) -> None:
    pages = os.environ.get(VARIABLE, "").split()
    if not hasattr(session.config, "workerinput"):
        for page in pages:
            write(ROOT / page)


def write(page: Path) -> None:
    page.write_text(PART.sub(lambda found: found[1] + table(Former(found[0])) + found[2], page.read_text()))


class Former:
    """The table that is there. When only some cells were run again (`make faults CELLS=...`) on the same code, it keeps
    the others, and says which are newer."""

    def __init__(self, text: str) -> None:
        self.cells: dict[tuple[str, str], str] = {}
        self.again: set[str] = set()
        self.moves = 0
        head = re.search(r"^(.*), commit (\S+), .* all ([\d,]+) moves", text, re.MULTILINE)
        if not os.environ.get(SOME) or head is None or head[2] != commit():
            return
        self.moves = int(head[3].replace(",", ""))
        if newer := re.search(r"Run again by themselves: (.*)\.$", text, re.MULTILINE):
            self.again = set(newer[1].split(", "))
        for line in text.splitlines():
            number, _, *shown = (
                [part.strip() for part in line.strip("|").split(" | ")] if re.match(r"\| \d", line) else [""] * 2
            )
            self.cells |= {(number, broker): one for broker, one in zip(COLUMNS, shown, strict=False)}


def table(former: Former) -> str:
    """When and how it was made, and a line for each row."""
    what = WHAT | {row.number: row.what for row in ROWS}
    shown = {(number, broker): cell(number, broker, former) for number in what for broker in COLUMNS}
    tried = [one for one in shown.values() if one]
    good = sum("failed" not in one and one != "not run" for one in tried)
    moves = former.moves + sum(said["replayed"] for cell in numbers.values() for said in cell.values())
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit()}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"`make faults`: {good} of {len(tried)} cells hold. The state machine explains all {moves:,} moves of the jobs "
        f"whose records the brokers keep.{again(former)}\n",
        f"| # | fault | {' | '.join(COLUMNS.values())} |",
        "| --- " * (len(COLUMNS) + 2) + "|",
    ]
    for number in sorted(what, key=lambda one: (int(re.findall(r"\d+", one)[0]), one)):
        lines.append(f"| {number} | {what[number]} | {' | '.join(shown[number, broker] for broker in COLUMNS)} |")
    return "\n".join(lines) + "\n"


def again(former: Former) -> str:
    """Which cells are newer than the others."""
    if not former.cells:
        return ""
    newer = former.again | {f"{row} on {COLUMNS[broker]}" for row, broker in outcomes}
    return f" Run again by themselves: {', '.join(sorted(newer))}."


def cell(row: str, broker: str, former: Former) -> str:
    """What became of it: a hook, or D where only a bound is promised, with how many were run twice and how many might
    have been, and after how many seconds all was done; of several tests together."""
    found = set(outcomes.get((row, broker), {}).values())
    if not found:
        return former.cells.get((row, broker), "")
    if "failed" in found:
        return "**failed**"
    if found == {"skipped"}:
        return "not run"
    said = numbers[row, broker].values() if (row, broker) in numbers else ()
    sign = "D" if row in BY_NUMBER and broker in BY_NUMBER[row].bounded else "✓"
    if not said:
        return sign
    twice, bound = (sum(one[what] for one in said) for what in ("twice", "bound"))
    return f"{sign} {twice}/{bound} {max(one['seconds'] for one in said):.0f} s"


def commit() -> str:
    """The last one that changed the code that was measured."""
    short = _git("log", "-1", "--format=%h", "--abbrev=12", "--", "src")
    return f"{short} (and changes to it)" if _git("status", "--porcelain", "src") else short


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
