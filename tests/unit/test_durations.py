"""Lengths of time: what is read, what is refused, how they are shown."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from outwork.durations import bytes_of, duration_text, seconds_of


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (90, 90),
        (0, 0),
        (1.5, 1.5),
        (timedelta(minutes=2), 120),
        ("90", 90),
        ("1.5", 1.5),
        ("500ms", 0.5),
        ("10m", 600),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        (" 14d ", 14 * 86_400),
        ("2w", 14 * 86_400),
        ("1.5h", 5400),
        ("10 minutes", 600),
        ("1 day", 86_400),
        ("25S", 25),
    ],
)
def test_reads_what_people_write(value: timedelta | float | str, seconds: float) -> None:
    assert seconds_of(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", ["", "  ", "soon", "10x", "1h-30m", "h", "-", "1h30", "10m!", "nan", "inf", "1e400"])
def test_refuses_other_text_and_says_what_to_write(value: str) -> None:
    with pytest.raises(ValueError, match=r"1h30m"):
        seconds_of(value)


@pytest.mark.parametrize("value", [None, True, [], b"10m", math.nan, math.inf, 10**400])
def test_refuses_other_types_and_numbers(value: Any) -> None:
    with pytest.raises(ValueError, match="not a length of time"):
        seconds_of(value)


@pytest.mark.parametrize("value", [-1, -0.5, "-10", "-10m", timedelta(seconds=-1)])
def test_refuses_negative_lengths(value: timedelta | float | str) -> None:
    with pytest.raises(ValueError, match="negative"):
        seconds_of(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (1, "1s"),
        (2.5, "2.5s"),
        (59.97, "1m"),
        (60, "1m"),
        (90, "1m 30s"),
        (3600, "1h"),
        (5400, "1h 30m"),
        (86_400, "1d"),
        (14 * 86_400, "14d"),
        (86_400 * 2 + 3600 * 5 + 59, "2d 5h"),
        (-90, "-1m 30s"),
    ],
)
def test_shows_two_units_at_most(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize("seconds", [0.25, 1, 90, 5400, 86_400, 1_209_600])
def test_reads_back_what_it_shows(seconds: float) -> None:
    assert seconds_of(duration_text(seconds)) == seconds


@pytest.mark.parametrize(
    ("value", "size"), [(4096, 4096), ("4096", 4096), ("64k", 65_536), (" 512M ", 1 << 29), ("2 GiB", 1 << 31)]
)
def test_reads_amounts_of_memory(value: int | str, size: int) -> None:
    assert bytes_of(value) == size


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "", "M", "0", "0M", "1.5G", "512X", "-512M", None])
def test_refuses_what_is_no_amount_of_memory(value: object) -> None:
    with pytest.raises(ValueError, match="amount of memory"):
        bytes_of(value)
