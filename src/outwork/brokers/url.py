"""Reading a broker's URL: its parts, its options with their types, and how it may be shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from outwork.errors import InvalidURL
from outwork.job import Terms

T = TypeVar("T")

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off"})


def masked(url: str) -> str:
    """The URL with its password replaced by `***`, for logs and messages."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    before, mark, query = rest.partition("?")
    user, at, host = before.rpartition("@")  # the last one: a careless password may hold an @ or a slash
    name, colon, _ = user.partition(":")
    if at and colon:
        before = f"{name}:***@{host}"
    if not mark:
        return f"{scheme}://{before}"
    hidden = [
        f"{part.partition('=')[0]}=***" if "password" in part.partition("=")[0].lower() else part
        for part in query.split("&")
    ]
    return f"{scheme}://{before}?{'&'.join(hidden)}"


def anchored(url: str, folder: Path) -> str:
    """A SQLite URL with its relative path made absolute from `folder`; any other URL as it is."""
    scheme, colon, rest = url.strip().partition("://")
    base, mark, query = rest.partition("?")
    if scheme.lower() != "sqlite" or not colon:
        return url
    if base.startswith("//"):  # sqlite:////absolute
        return url
    relative = base.removeprefix("/")
    if not relative or relative.startswith(":memory:"):
        return url
    path = os.path.normpath(folder / unquote(relative))
    return f"{scheme}:///{quote(path)}{mark}{query}"


class BrokerURL:
    """A URL taken apart. Options are taken with `option(...)`; `done()` refuses those that nobody took.

    `hosts` are `host` or `host:port` texts, several where the URL lists them with commas; percent-encoding is undone
    in `username` and `password`.
    """

    def __init__(self, url: str) -> None:
        self.shown = masked(url)
        scheme, colon, rest = url.partition(":")
        if not colon or not scheme:
            raise InvalidURL(
                f"{self.shown!r} is not a broker URL: it has no scheme. Write, for example, sqlite:///tasks.db"
            )
        self.scheme = scheme.lower()
        try:
            parts = urlsplit(rest, allow_fragments=False)
        except ValueError as error:
            raise InvalidURL(f"{self.shown!r} cannot be read as a URL: {error}") from error
        self.path = unquote(parts.path)
        authority = parts.netloc
        user, at, hosts = authority.rpartition("@")
        name, has_password, password = user.partition(":")
        self.authority = unquote(hosts)
        self.username = unquote(name) if at and name else None
        self.password = unquote(password) if has_password else None
        self.hosts = tuple(unquote(host) for host in hosts.split(",") if host)
        self._query: dict[str, str] = {}
        for key, value in parse_qsl(parts.query, keep_blank_values=True):
            if key in self._query:
                raise InvalidURL(f"{self.shown}: the option {key!r} is given twice. Keep one of them")
            self._query[key] = value
        self._known: list[str] = []

    def option(self, name: str, read: Callable[[str], T], default: T) -> T:
        """Take the option `name`, read by `read` (`seconds`, `boolean`, `number`, `str`), or `default`."""
        self._known.append(name)
        text = self._query.pop(name, None)
        if text is None:
            return default
        try:
            return read(text)
        except ValueError as error:
            raise InvalidURL(f"{self.shown}: option {name}={text!r}: {error}") from error

    def terms(self, default: Terms) -> Terms:
        """The options every broker has: `lease`, `keep`, `keep_failed`, in seconds."""
        return Terms(
            lease=self.option("lease", seconds, default.lease),
            keep=self.option("keep", seconds, default.keep),
            keep_failed=self.option("keep_failed", seconds, default.keep_failed),
        )

    def done(self) -> None:
        """Refuse what nobody took.

        Raises InvalidURL with the list of the known options.
        """
        if not self._query:
            return
        known = sorted(self._known)
        unknown = ", ".join(sorted(self._query))
        close = get_close_matches(next(iter(self._query)), known, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise InvalidURL(
            f"{self.shown}: unknown option {unknown}.{hint} Known options of {self.scheme}: {', '.join(known)}"
        )


def seconds(text: str) -> float:
    """A positive number of seconds."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("a positive number of seconds is needed")
    return value


def number(text: str) -> int:
    """A whole number, not negative."""
    value = int(text)
    if value < 0:
        raise ValueError("a whole number that is not negative is needed")
    return value


def boolean(text: str) -> bool:
    """true or false."""
    word = text.lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ValueError("write true or false")
