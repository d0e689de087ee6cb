"""Words of a command line, read by type hints."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import click
import pytest

from outwork.cli.values import read_arguments, read_value
from outwork.errors import WrongArguments


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Address(str):
    """A subclass of a plain type."""


@dataclass
class Point:
    x: int
    y: int = 0


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("5", int, 5),
        ("5", str, "5"),
        ("5", float, 5.0),
        ("5", Any, 5),
        ("Ada", Any, "Ada"),
        ("true", bool, True),
        ("true", str, "true"),
        ("null", str, "null"),
        ("null", int | None, None),
        ("5", int | None, 5),
        ("null", str | None, None),
        ("Ada", str | None, "Ada"),
        ("5", str | None, "5"),
        ("5", int | str, 5),
        ('"x"', str | None, "x"),
        ("[1, 2]", list[int], [1, 2]),
        ('{"a": 1}', dict[str, int], {"a": 1}),
        ('{"x": 1}', Point, Point(1)),
        ("red", Colour, Colour.RED),
        ("red", Literal["red", "blue"], "red"),
        ("2", Literal[1, 2], 2),
        ("2030-05-17", date, date(2030, 5, 17)),
        ("2030-05-17T09:00:00Z", datetime, datetime(2030, 5, 17, 9, tzinfo=UTC)),
        ("1.10", Decimal, Decimal("1.10")),
        ("PT10M", timedelta, timedelta(minutes=10)),
        ("0192d3a8-0000-7000-8000-000000000000", UUID, UUID("0192d3a8-0000-7000-8000-000000000000")),
        ("QUJD", bytes, b"ABC"),
        ("a@example.org", Address, Address("a@example.org")),
        ("[1, 2]", tuple[int, int], (1, 2)),
    ],
)
def test_reads_a_word_by_its_hint(text: str, hint: Any, value: Any) -> None:
    read = read_value(text, hint, "x")
    assert read == value
    assert type(read) is type(value)


def test_a_moment_without_a_zone_is_meant_here() -> None:
    read = read_value("2030-05-17T09:00:00", datetime, "x")
    assert read == datetime(2030, 5, 17, 9).astimezone()
    assert read.tzinfo is not None


@pytest.mark.parametrize(
    ("text", "hint"),
    [("many", int), ("5.5", int), ("[1]", int), ("green", Colour), ('{"y": 1}', Point), ("x", list[str]), ("", int)],
)
def test_refuses_what_is_no_value_and_names_the_argument(text: str, hint: Any) -> None:
    with pytest.raises(WrongArguments, match=r"^OW105 times="):
        read_value(text, hint, "times")


def greet(name: str, times: int = 1, *, loud: bool = False) -> None: ...
def collect(first: int, *rest: int, **named: float) -> None: ...


@pytest.mark.parametrize(
    ("function", "words", "expected"),
    [
        (greet, ["Ada", "times=2"], (["Ada"], {"times": 2})),
        (greet, ["Ada", "2", "loud=true"], (["Ada", 2], {"loud": True})),
        (greet, ["https://example.org/?a=b"], (["https://example.org/?a=b"], {})),
        (greet, ["name=a=b"], ([], {"name": "a=b"})),
        (greet, ["Ada", "tmies=2"], (["Ada"], {"tmies": 2})),
        (collect, ["1", "2", "3", "x=4"], ([1, 2, 3], {"x": 4.0})),
        (greet, [], ([], {})),
    ],
)
def test_splits_values_and_named_ones(
    function: Callable[..., None], words: list[str], expected: tuple[list[Any], dict[str, Any]]
) -> None:
    hints = inspect.get_annotations(function, eval_str=True)
    assert read_arguments(words, inspect.signature(function), hints) == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["name=Ada", "name=Bob"], "name is given twice"),
        (["name=Ada", "2"], "'2' stands behind name=value"),
        (["Ada", "times=many"], "times=many is not a value for int"),
    ],
)
def test_refuses_what_cannot_be_a_call(words: list[str], said: str) -> None:
    hints = inspect.get_annotations(greet, eval_str=True)
    with pytest.raises((click.UsageError, WrongArguments)) as caught:
        read_arguments(words, inspect.signature(greet), hints)
    assert said in str(caught.value)
