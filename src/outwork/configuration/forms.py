"""Settings in the forms in which applications have them: nested tables, upper-case keys, and a `[worker]` table that
names a kind of worker instead of a URL.

    [worker]
    type = "redis"              # or "thread", "subprocess"
    redis_ip = "10.0.0.7"       # 127.0.0.1, 6379 and 0 if they are not given
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final, cast

from outwork.configuration.keys import LISTS, WHOLE
from outwork.errors import SettingsError

KINDS: Final = ("thread", "subprocess", "redis")
REDIS: Final[Mapping[str, str | int]] = {"redis_ip": "127.0.0.1", "redis_port": 6379, "redis_db": 0}
FORM: Final = frozenset({"type", *REDIS})
"""What a `[worker]` table of this form has, beside the settings that it may have in any case."""

OUTSIDE: Final = frozenset(
    {"broker", "broker_url", "lease", "max_payload", "modules", "periodic", "retention", "worker"}
)
"""What a mapping of all settings has, and a `[worker]` table has not."""


def from_mapping(mapping: Mapping[str, object], *, place: str = "mapping") -> dict[str, object]:
    """Settings by their dotted keys, from a mapping with tables inside; what `configure` takes.

    Keys may be written in capitals, and nested with `__` instead of a table. A `worker` table may have a `type`. Raises
    SettingsError for a form that cannot be; whether a key is known is judged where the settings are read.
    """
    found: dict[str, object] = {}
    tables: dict[str, dict[str, object]] = {}
    for name, value in _flattened(mapping):
        if name in found and found[name] != value:
            raise SettingsError(f"{place}: {name} is given twice, and differs")
        table, dot, key = name.partition(".")
        if table == "worker" and key in FORM:
            tables.setdefault(table, {})[key] = value
        else:
            found[name] = _read_text(name, value) if dot or isinstance(value, str) else value
    if form := tables.get("worker"):
        if found.get("broker_url"):
            raise SettingsError(f"{place}: broker_url and worker.type both say where tasks run. Leave one of them out")
        found["broker_url"] = url_of_worker(form, place=f"{place}: worker")
    return found


def from_worker_table(section: Mapping[str, object] | None, *, place: str = "mapping") -> dict[str, object]:
    """As `from_mapping`, of an application's `[worker]` table alone. No table, or one without a type, means threads."""
    return {"broker_url": "thread:"} | from_mapping({"worker": dict(section or {})}, place=place)


def of_application(mapping: Mapping[str, object] | None, *, place: str = "mapping") -> dict[str, object]:
    """Settings from what an application has: all of them, with tables; or its `[worker]` table alone."""
    if mapping and not OUTSIDE.isdisjoint(name.lower().partition("__")[0] for name in mapping):
        return {"broker_url": "thread:"} | from_mapping(mapping, place=place)
    return from_worker_table(mapping, place=place)


def url_of_worker(table: Mapping[str, object], *, place: str = "[worker]") -> str:
    """The URL that a table with a `type` means. Raises SettingsError that names the types."""
    kind = table.get("type")
    if kind is None:
        raise SettingsError(f"{place}: {', '.join(sorted(table))} without a type. Write one of: {', '.join(KINDS)}")
    if kind not in KINDS:
        close = get_close_matches(str(kind), KINDS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise SettingsError(f"{place}: type = {kind!r} is not a kind of worker{hint}. Write one of: {', '.join(KINDS)}")
    if kind != "redis":
        return "thread:" if kind == "thread" else "process:"
    address = {**REDIS, **{key: value for key, value in table.items() if key in REDIS}}
    host = str(address["redis_ip"]).strip()
    if not host or not set(host).isdisjoint(" /@?#"):
        raise SettingsError(f"{place}: redis_ip = {address['redis_ip']!r}: the name or address of a host is needed")
    port = _number(address["redis_port"], f"{place}: redis_port", 65_535)
    database = _number(address["redis_db"], f"{place}: redis_db", 1_000_000)
    return f"redis://{f'[{host}]' if ':' in host else host}:{port}/{database}"


def _number(value: object, label: str, largest: int) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdecimal() or int(text) > largest:
        raise SettingsError(f"{label} = {value!r}: a whole number from 0 to {largest} is needed")
    return int(text)


def _flattened(mapping: Mapping[str, object], above: str = "") -> list[tuple[str, object]]:
    """Every value with its dotted key, in small letters."""
    found: list[tuple[str, object]] = []
    for name, value in mapping.items():
        key = above + str(name).lower().replace("__", ".")
        if isinstance(value, Mapping) and key != "periodic":  # whose tables have names of their own
            found += _flattened(cast("Mapping[str, object]", value), f"{key}.")
        else:
            found.append((key, value))
    return found


def _read_text(key: str, value: Any) -> object:
    """A text that stands for a list or a number, as an environment variable holds it."""
    if not isinstance(value, str):
        return value
    if key in LISTS:
        return [item.strip() for item in value.split(",") if item.strip()]
    if key in WHOLE and value.strip().isdecimal():
        return int(value)
    return value
