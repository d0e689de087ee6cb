"""Names of channels and groups, and how many messages each channel may hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import translate
from typing import Final

from outwork.errors import InvalidChannel

LONGEST: Final = 100
"""Characters of a name: as many as the specification asks for."""
CHANNEL: Final = re.compile(r"[a-zA-Z0-9\-_.]+(![a-zA-Z0-9\-_.]*)?")
GROUP: Final = re.compile(r"[a-zA-Z0-9\-_.]+")


def check_channel(name: object) -> str:
    """The name. Raises InvalidChannel."""
    return _checked("channel", name, CHANNEL, ", and one ! in the names that new_channel() makes")


def check_fixed(name: object) -> str:
    """The name of a channel that any process may read. Raises InvalidChannel."""
    return _checked("fixed channel", name, GROUP, "")


def check_group(name: object) -> str:
    """The name. Raises InvalidChannel."""
    return _checked("group", name, GROUP, "")


def _checked(what: str, name: object, pattern: re.Pattern[str], besides: str) -> str:
    if isinstance(name, str) and len(name) <= LONGEST and pattern.fullmatch(name):
        return name
    raise InvalidChannel(
        f"{name!r:.120} is not the name of a {what}: it needs 1 to {LONGEST} ASCII letters, digits, hyphens, "
        f"underscores and periods{besides}"
    )


class Capacities:
    """How many messages a channel may hold: the first pattern that matches its name says it, or else the default.

    A pattern is a name, a glob such as `http.*`, or a compiled regular expression.
    """

    def __init__(self, default: int, patterns: Mapping[str | re.Pattern[str], int] | None) -> None:
        self.default = default
        self.patterns = [
            (re.compile(translate(pattern)) if isinstance(pattern, str) else pattern, capacity)
            for pattern, capacity in (patterns or {}).items()
        ]

    def of(self, channel: str) -> int:
        for pattern, capacity in self.patterns:
            if pattern.match(channel):
                return capacity
        return self.default
