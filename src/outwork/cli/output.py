"""What commands print: plain text that journald, pipes, screen readers and a mouse that copies an id can use.

Tables are plain on a terminal, too: those of rich shorten ids and wrap times to its width, and an id is to be copied.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click
import msgspec

GAP = "  "


def coloured() -> bool:
    """Whether colours may be used: `NO_COLOR` forbids, `FORCE_COLOR` demands, otherwise a terminal decides."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stdout.isatty()


def say(text: str = "", *, colour: str | None = None, bold: bool = False) -> None:
    """Print a line."""
    click.echo(click.style(text, fg=colour, bold=bold) if colour or bold else text, color=coloured())


def symbol(preferred: str, plain: str) -> str:
    """`preferred` where the terminal's encoding has it."""
    try:
        preferred.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return plain
    return preferred


def say_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def say_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns under their headers; columns of numbers are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    right = [_numeric([row[index] for row in rows]) for index in range(len(headers))]
    for number, row in enumerate((headers, *rows)):
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        say(GAP.join(cells).rstrip(), bold=number == 0)


def say_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values under each other; a value of several lines is indented."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        first, *others = value.splitlines() or [""]
        say(f"{name.ljust(width)}{GAP}{first}".rstrip())
        for line in others:
            say(" " * (width + len(GAP)) + line)


def moment(at: float | None) -> str:
    """A time for people: local, to the second, with its offset."""
    if at is None:
        return "-"
    return datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="seconds")


def plural(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _numeric(cells: Sequence[str]) -> bool:
    numbers = [cell for cell in cells if cell != "-"]
    return bool(numbers) and all(cell.replace(",", "").isdecimal() for cell in numbers)
