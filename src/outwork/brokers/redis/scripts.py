"""The Lua scripts: each file names its keys and the files it builds on in its first lines."""

from __future__ import annotations

from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Final, NamedTuple

KEYS: Final = (
    *("job", "body", "errors", "result"),
    *("ready", "later", "held", "claims", "expiry", "ended", "ids"),
    *("counts", "watch", "workers", "alive"),
)
"""Everything a namespace consists of, besides a list `bell:<queue>` where somebody is to be woken."""


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
    parts = [f"local {names} = {places}", _read("base"), *map(_read, _directive(text, "needs")), text]
    source = "\n".join(_stripped(part) for part in parts).encode()
    return Script(source, sha1(source, usedforsecurity=False).hexdigest().encode(), keys)


def _read(name: str) -> str:
    return files("outwork.brokers.redis").joinpath("lua", f"{name}.lua").read_text("utf-8")


def _directive(text: str, word: str) -> list[str]:
    return next((line.split()[2:] for line in text.splitlines() if line.startswith(f"-- {word}:")), [])


def _stripped(text: str) -> str:
    """Without lines that are only a comment: the server keeps the source for as long as it runs."""
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--"))
