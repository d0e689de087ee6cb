"""Where something stands in a TOML text: tomllib does not tell."""

from __future__ import annotations

import re
from typing import Final

_KEY: Final = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_DOTTED: Final = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER: Final = re.compile(rf"\s*\[\[?\s*({_DOTTED})\s*\]\]?")
_ASSIGNMENT: Final = re.compile(rf"\s*({_DOTTED})\s*=")


def line_of(text: str, path: tuple[str, ...]) -> int:
    """The number of the line where `path` is written in a TOML text that was parsed without error.

    Inside an inline table it is the line where that table begins. Found by reading lines: headers give the table,
    `key =` the rest, and multi-line texts are passed over.
    """
    table: tuple[str, ...] = ()
    found = 1
    length = 0
    closing = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if closing:
            if closing in line:
                closing = ""
            continue
        if header := _HEADER.match(line):
            here = table = _names(header.group(1))
        elif assignment := _ASSIGNMENT.match(line):
            here = table + _names(assignment.group(1))
            rest = line[assignment.end() :]
            closing = next((q for q in ('"' * 3, "'" * 3) if rest.count(q) % 2), "")
        else:
            continue
        if here == path:
            return number
        if len(here) > length and here == path[: len(here)]:
            found, length = number, len(here)
    return found


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(name.strip("\"'") for name in re.findall(_KEY, dotted))
