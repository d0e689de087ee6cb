"""The scorecard: each fault on each broker, under the standard load, judged by the ledger.

`make faults` runs all of it and writes docs/reliability.md. `make test` runs a few cells that no other test has, with
a third of the load.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from faults.scorecard.grounds import GROUNDS, Ground
from faults.scorecard.harness import judge, prepared, score
from faults.scorecard.rows import BY_NUMBER, ROWS, Row
from support import load
from support.ledger import Ledger

WHOLE: Final = bool(os.environ.get("FAULTS_PAGE"))
CHOSEN: Final = (
    *(("4", "sqlite"), ("9", "redis"), ("10", "postgresql"), ("7, 8", "mysql"), ("7, 8", "redis")),
    *(("25", "mysql"), ("26", "redis"), ("27", "postgresql")),
)


def cells() -> list[tuple[Row, str]]:
    if not WHOLE:
        return [(BY_NUMBER[number], broker) for number, broker in CHOSEN]
    return [(row, broker) for broker in GROUNDS for row in ROWS if broker in row.brokers]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("row", "broker"),
    [
        pytest.param(row, broker, marks=pytest.mark.cell(row=row.number, broker=broker), id=f"{row.number}-{broker}")
        for row, broker in cells()
    ],
)
def test_cell(
    row: Row,
    broker: str,
    grounds: Callable[[type[Any]], Ground],
    tmp_path: Path,
    ledger: Ledger,
    environ: dict[str, str],
    record_property: Callable[[str, object], None],
) -> None:
    environ.pop("PYTHONWARNINGS")
    if row.number == "16":
        (tmp_path / "clock").write_text("0")
        environ[load.CLOCK] = str(tmp_path / "clock")
    with prepared(grounds(row.grounds[broker]), tmp_path, ledger, environ) as run:
        run.own_clock = row.number == "16" and broker == "sqlite"
        verdict = score(run, row.harm, 300 if WHOLE else 100)
        record_property("twice", verdict.twice)
        record_property("bound", verdict.bound)
        record_property("seconds", round(verdict.seconds, 1))
        record_property("replayed", verdict.replayed)
        print(verdict)
        judge(verdict)
