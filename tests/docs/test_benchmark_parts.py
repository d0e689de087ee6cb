"""Each part of the benchmarks runs, and records what the page shows of it. Nothing is asserted of the numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from benchmarks.page import tables
from benchmarks.page.cells import Book, Row
from benchmarks.results import ROOT

SMALL: Final[dict[str, tuple[tuple[Row, ...], list[str]]]] = {
    "endtoend": (tables.ENDTOEND, ["--jobs=1000", "--few=50", "--latencies=3"]),
    "idle": (tables.IDLE, ["--silence=1"]),
    "drivers": ((*tables.DRIVERS, *tables.CROWDED), ["--jobs=600", "--crowd=1000"]),
    "bare": (tables.BARE, ["--jobs=400", "--latencies=3"]),
    "bound": (tables.BOUND, ["--rounds=1"]),
    "flow": (tables.FLOW, ["--jobs=200"]),
    "django": (tables.DJANGO, ["--jobs=1000", "--latencies=3"]),
}
NOT_SQLITE: Final = ("consume", "memory of a", "the least queue, from", "Outwork, from")
"""Rows that other brokers have."""


@pytest.mark.parametrize("part", SMALL)
def test_a_part_records_what_the_page_shows(part: str, tmp_path: Path) -> None:
    rows, sizes = SMALL[part]
    command = [sys.executable, "-m", f"benchmarks.{part}", "sqlite", "--quick", *sizes]
    env = {**os.environ, "BENCH_RESULTS": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = Book(tmp_path / "quick")[part]
    [run] = result.runs
    assert run.command == " ".join(["python", "-m", f"benchmarks.{part}", "sqlite", "--quick", *sizes])
    assert "SQLite" in run.versions
    assert [
        row.text
        for row in rows
        if not row.cell(result, "SQLite") and not any(words in row.text for words in NOT_SQLITE)
    ] == []
