"""The Lua scripts: each names in its first lines its keys, and the files that it `needs`, `opens`, and needs `then`."""

from __future__ import annotations

import re
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Final, NamedTuple

KEYS: Final = (
    *("job", "body", "errors", "result"),
    *("ready", "later", "held", "claims", "expiry", "ended", "ids"),
    *("counts", "watch", "workers", "alive"),
    *("outbox", "pace"),
    *("aside", "knots", "ties", "cell", "attention", "until", "paused", "stops", "progress", "schedules"),
)
"""Everything a namespace consists of, besides a list `bell:<queue>` where somebody is to be woken."""
ORDERED: Final = frozenset(
    (
        *("ready", "later", "claims", "expiry", "ended", "ids", "alive", "outbox"),
        *("aside", "attention", "until", "stops"),
    )
)
"""Those that are sorted sets; the others are hashes."""


class Script(NamedTuple):
    """A script as it is sent: its source, the digest by which the server knows it, and its keys without namespace."""

    source: bytes
    digest: bytes
    keys: tuple[str, ...]


@cache
def script(name: str) -> Script:
    """The script of this name, with `base.lua` and what it needs above it."""
    text = _read(name)
    keys = tuple(_directive(text, "keys"))
    names = ", ".join([*(key.upper() for key in keys), "PREFIX"])
    places = ", ".join(f"KEYS[{place}]" for place in range(1, len(keys) + 2))
    parts = [f"local {names} = {places}", _read("base"), *map(_read, _directive(text, "needs"))]
    if opened := _directive(text, "opens"):
        parts.append(_opened(opened))
    parts += [*map(_read, _directive(text, "then")), text]
    source = "\n".join(_stripped(part) for part in parts).encode()
    return Script(source, sha1(source, usedforsecurity=False).hexdigest().encode(), keys)


def _opened(names: list[str]) -> str:
    """Files whose functions are made at the first call of `books()`, which has them: a script makes all of its own each
    time it runs, which takes longer than most of what it does."""
    text = "\n".join(map(_read, names))
    fields = ", ".join(f"{name} = {name}" for name in re.findall(r"^local function (\w+)", text, re.MULTILINE))
    begin, end = "local book\nlocal function books()\nif book then return book end", "return book\nend"
    return f"{begin}\n{text}\nbook = {{{fields}}}\n{end}"


def _read(name: str) -> str:
    return files("outwork.brokers.redis").joinpath("lua", f"{name}.lua").read_text("utf-8")


def _directive(text: str, word: str) -> list[str]:
    return [name for line in text.splitlines() if line.startswith(f"-- {word}:") for name in line.split()[2:]]


def _stripped(text: str) -> str:
    """Without lines that are only a comment: the server keeps the source for as long as it runs."""
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--"))
