"""What reads the value of one setting: each raises ValueError that says what to write."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from outwork.brokers.url import FALSE_WORDS, TRUE_WORDS
from outwork.durations import seconds_of


def text(value: object) -> str:
    """A text."""
    if not isinstance(value, str):
        raise ValueError("a text is needed")
    return value.strip()


def class_path(value: object) -> str:
    """A class, as `module:Class`."""
    path = text(value)
    if path and not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", path):
        raise ValueError('write "module:Class"')
    return path


def texts(value: object) -> tuple[str, ...]:
    """A list of texts, none of them twice."""
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise ValueError('a list of texts is needed, as in ["one", "two"]')
    items = cast("list[object]", list(value))  # pyright: ignore[reportUnknownArgumentType]
    texts = tuple(item.strip() for item in items if isinstance(item, str) and item.strip())
    if len(texts) != len(items):
        raise ValueError("every entry must be a text that is not empty")
    if len(set(texts)) != len(texts):
        raise ValueError("an entry is given twice")
    return texts


def queue_name(name: str) -> str:
    """The name of a queue."""
    if len(name) > 100 or not set(name).isdisjoint(" ,:\t\n\r\0"):
        raise ValueError(f"{name!r}: a queue's name has up to 100 characters, no spaces, commas or colons")
    return name


def queues(value: object) -> tuple[str, ...]:
    """The names of queues."""
    return tuple(map(queue_name, texts(value)))


def shares(value: object) -> tuple[str, ...]:
    """Names of queues, each perhaps with a limit: `mail:4`."""
    given = texts(value)
    names: set[str] = set()
    for share in given:
        name, colon, limit = share.partition(":")
        if not name or (colon and not (limit.isdecimal() and int(limit) >= 1)):
            raise ValueError(f'{share!r}: write the name of a queue, or "name:4" for at most 4 at once')
        if queue_name(name) in names:
            raise ValueError(f"the queue {name!r} is given twice")
        names.add(name)
    return given


def at_least_one(value: object) -> int:
    """A whole number, 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a whole number is needed")
    if value < 1:
        raise ValueError("a number of at least 1 is needed")
    return value


def duration(value: object) -> float:
    """Seconds, or a length of time as text."""
    if not isinstance(value, int | float | str):
        raise ValueError('a length of time is needed: seconds, or a text like "10m" or "14d"')
    return seconds_of(value)


def lease(value: object) -> float:
    """A duration that is longer than nothing."""
    seconds = duration(value)
    if seconds <= 0:
        raise ValueError("a lease must be longer than nothing")
    return seconds


def flag(value: object) -> bool:
    """True or false."""
    word = str(value).strip().lower()
    if word not in TRUE_WORDS | FALSE_WORDS:
        raise ValueError("write true or false")
    return word in TRUE_WORDS


def log_format(value: object) -> str:
    """`text` or `json`."""
    if value not in ("text", "json"):
        raise ValueError('write "text" or "json"')
    return str(value)


def weights(value: object) -> dict[str, int]:
    """How often each queue is the first in its turn: a table of numbers, or `mail=10,bulk=1` in the environment."""
    if isinstance(value, str):
        parts = (part.partition("=") for part in value.split(",") if part.strip())
        value = {name: weight for name, _, weight in parts}
    if not isinstance(value, Mapping):
        raise ValueError("a table of whole numbers is needed, as in { mail = 10 }")
    given = cast("Mapping[str, object]", value)
    return {queue_name(name.strip()): _weight(name, weight) for name, weight in given.items()}


def _weight(name: str, weight: object) -> int:
    number = int(weight) if isinstance(weight, str) and weight.strip().isdecimal() else weight
    try:
        return at_least_one(number)
    except ValueError as error:
        raise ValueError(f"the weight of {name!r}: {error}") from None


def queue_tables(value: Mapping[str, object]) -> tuple[list[str], dict[str, object]]:
    """The tables `[queues.NAME]` of a file: the queues that they declare, and the weights that they say."""
    said: dict[str, object] = {}
    for name, table in value.items():
        keys = cast("Mapping[str, object]", table) if isinstance(table, Mapping) else {"": table}
        if keys.keys() - {"weight"}:
            raise ValueError(f"[queues.{name}] takes one key: weight = 10")
        if "weight" in keys:
            said[name] = keys["weight"]
    return list(value), said
