"""The tables `[periodic.NAME]` of the configuration: what an operator adds, changes or disables without code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, cast

from msgspec import Struct
from msgspec.structs import asdict

from outwork.configuration.sections import Found
from outwork.configuration.toml_lines import line_of
from outwork.errors import InvalidSchedule, SettingsError
from outwork.schedule import Misfire, make_periodic

TABLE: Final = "periodic"
ABOVE: Final = f"{TABLE}."


class PeriodicSettings(Struct, frozen=True, kw_only=True):
    """One such table; None is what it does not say. `task` None: the task that is named like the schedule. `args` are
    the job's arguments by name; `place` is where the table stands."""

    task: str | None = None
    cron: str | None = None
    every: float | str | None = None
    timezone: str | None = None
    misfire: Misfire | None = None
    queue: str | None = None
    args: Mapping[str, Any] | None = None
    enabled: bool | None = None
    place: str = ""

    def given(self) -> dict[str, object]:
        """What it says, by its keys."""
        return {key: value for key, value in asdict(self).items() if value is not None and key != "place"}


def is_periodic(key: str) -> bool:
    """Whether a dotted key belongs to these tables."""
    return key == TABLE or key.startswith(ABOVE)


def toml_tables(path: Path, text: str, above: tuple[str, ...], tables: object) -> dict[str, Found]:
    """The tables of a TOML file, each as one value: its keys with theirs."""

    def found(names: tuple[str, ...], value: object) -> Found:
        origin = f"{path}:{line_of(text, (*above, TABLE, *names))}"
        table = ".".join((*above, TABLE, *names[:1]))
        return Found(value, " ".join((origin, f"[{table}]", *names[1:])), origin, path.absolute().parent)

    return _tables(tables, found)


def mapped_tables(tables: object, origin: str) -> dict[str, Found]:
    """The tables of a mapping, as `toml_tables` gives them."""
    return _tables(tables, lambda names, value: Found(value, f"{origin}: {'.'.join((TABLE, *names))}", origin))


def _tables(tables: object, found: Callable[[tuple[str, ...], object], Found]) -> dict[str, Found]:
    if not isinstance(tables, Mapping):
        raise SettingsError(f"{found((), None).label}: tables are needed: [{TABLE}.NAME]")
    layer: dict[str, Found] = {}
    for name, table in cast("Mapping[str, object]", tables).items():
        whole = found((name,), None)
        if not isinstance(table, Mapping):
            raise SettingsError(f"{whole.label}: a table is needed: [{TABLE}.NAME] with task = ..., cron = ...")
        fields = {key: found((name, key), value) for key, value in cast("Mapping[str, object]", table).items()}
        layer[ABOVE + name] = whole._replace(value=fields)
    return layer


def origins_of(key: str, found: Found) -> dict[str, str]:
    """Where each value of a table comes from, by its dotted key."""
    return {f"{key}.{field}": one.origin for field, one in found.value.items()}  # type: ignore[attr-defined]


def read_tables(layer: Mapping[str, Found]) -> dict[str, PeriodicSettings]:
    """The schedules by name, checked as far as that can be done without their tasks. Raises SettingsError."""
    return {key.removeprefix(ABOVE): _read(found) for key, found in layer.items()}


def _read(table: Found) -> PeriodicSettings:
    if not isinstance(table.value, dict):
        raise SettingsError(f"{table.label}: schedules are given as tables of the configuration file, [{TABLE}.NAME]")
    fields = cast("dict[str, Found]", table.value)
    values: dict[str, Any] = {}
    for key, found in fields.items():
        if key not in READERS:
            close = get_close_matches(key, READERS, n=1)
            hint = f' (did you mean "{close[0]}"?)' if close else f". Known are: {', '.join(READERS)}"
            raise SettingsError(f"{found.label}: unknown key{hint}")
        try:
            values[key] = READERS[key](found.value)
        except ValueError as error:
            raise SettingsError(f"{found.label} = {found.value!r}: {error}") from error
    settings = PeriodicSettings(**values, place=table.label)
    try:
        if settings.cron is not None or settings.every is not None:
            make_periodic(settings.cron, settings.every, settings.timezone, settings.misfire)
        elif settings.timezone is not None:
            make_periodic("0 0 * * *", None, settings.timezone, None)
    except InvalidSchedule as error:
        raise SettingsError(f"{table.label}: {error.args[0]}") from error
    return settings


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text is needed")
    return value.strip()


def _every(value: object) -> float | str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError('a length of time is needed: seconds, or a text like "5m"')
    return value


def _misfire(value: object) -> str:
    if value not in ("skip", "once", "all"):
        raise ValueError('write "skip", "once" or "all"')
    return str(value)


def _args(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError('a table is needed: the arguments by name, as in { days = 7, to = "ada@example.com" }')
    return cast("Mapping[str, object]", value)


def _enabled(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("write true or false")
    return value


READERS: Final[Mapping[str, Callable[[object], object]]] = {
    "task": _text,
    "cron": _text,
    "every": _every,
    "timezone": _text,
    "misfire": _misfire,
    "queue": _text,
    "args": _args,
    "enabled": _enabled,
}
"""Every key of such a table, and what reads its value: raises ValueError that says what to write."""
