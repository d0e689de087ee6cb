"""Lengths of time as people write them: "90", "10m", "1h30m", "14d", a number of seconds, a timedelta; and amounts of
memory: "512M"."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Final

UNITS: Final[dict[str, float]] = {
    "ms": 0.001,
    "millisecond": 0.001,
    "milliseconds": 0.001,
    "s": 1.0,
    "sec": 1.0,
    "secs": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "m": 60.0,
    "min": 60.0,
    "mins": 60.0,
    "minute": 60.0,
    "minutes": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "hours": 3600.0,
    "d": 86_400.0,
    "day": 86_400.0,
    "days": 86_400.0,
    "w": 604_800.0,
    "week": 604_800.0,
    "weeks": 604_800.0,
}

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*")
_ADVICE = 'write seconds (90), or units as in "500ms", "10m", "1h30m", "14d"'


def seconds_of(value: timedelta | int | float | str) -> float:
    """The length of time in seconds, never negative.

    Text without a unit is seconds. Raises ValueError, also for a value of another type, and says what to write.
    """
    if isinstance(value, timedelta):
        number = value.total_seconds()
    elif isinstance(value, str):
        number = _read(value)
    elif isinstance(value, bool) or not isinstance(value, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"{value!r} is not a length of time: {_ADVICE}")
    else:
        number = _float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a length of time: {_ADVICE}")
    if number < 0:
        raise ValueError(f"a length of time cannot be negative, and {value!r} is")
    return number


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _read(text: str) -> float:
    stripped = text.strip().lower()
    try:
        return float(stripped)
    except ValueError:
        pass  # not a bare number: it has units, or is no length of time at all
    negative = stripped.startswith("-")
    rest = stripped.removeprefix("-")
    total = 0.0
    position = 0
    while position < len(rest):
        part = _PART.match(rest, position)
        if part is None:
            raise ValueError(f"{text!r} is not a length of time: {_ADVICE}")
        unit = part.group(2)
        if unit not in UNITS:
            raise ValueError(f"{text!r}: {unit!r} is not a unit of time: {_ADVICE}")
        total += float(part.group(1)) * UNITS[unit]
        position = part.end()
    if not rest:
        raise ValueError(f"{text!r} is not a length of time: {_ADVICE}")
    return -total if negative else total


def duration_text(seconds: float) -> str:
    """The length of time for people, at most two units: "250ms", "2.5s", "1h 30m", "14d"."""
    if seconds < 0:
        return "-" + duration_text(-seconds)
    if seconds < 1:
        return f"{round(seconds * 1000)}ms" if seconds else "0s"
    if seconds < 60:
        return f"{round(seconds, 1):g}s" if seconds < 59.95 else "1m"
    whole = round(seconds)
    sizes = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))
    first = next(index for index, (_, size) in enumerate(sizes) if whole >= size)
    parts: list[str] = []
    for name, size in sizes[first : first + 2]:
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count}{name}")
    return " ".join(parts)


_SIZE = re.compile(r"(\d+)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def bytes_of(value: object) -> int:
    """The amount of memory in bytes, at least one; K, M, G and T are powers of 1024.

    Raises ValueError, also for a value of another type, and says what to write.
    """
    number = value if isinstance(value, int) and not isinstance(value, bool) else 0
    if isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        number = int(found[1]) * 1024 ** _POWERS[found[2].lower()]
    if number < 1:
        raise ValueError(f'{value!r} is not an amount of memory: write bytes, or "512M", "2G"')
    return number
