"""Tables of the configuration that belong to ready-made tasks: `[mail]`, `[sms]`, `[provisioning]`, `[webhook]`.

Each is a frozen struct beside its task, found by name when such a table is given, as a broker's class is found by its
URL. So a typo in `[mail]` is an error where the settings are read, with file and line, and not when a mail is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeAlias, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import fields

from outwork.configuration.toml_lines import line_of
from outwork.durations import seconds_of
from outwork.errors import SettingsError

SECTIONS: Final[Mapping[str, str]] = {
    "mail": "outwork.contrib.mail.settings:MailSettings",
    "provisioning": "outwork.contrib.provisioning.settings:ProvisioningSettings",
    "sms": "outwork.contrib.sms.settings:SmsSettings",
    "webhook": "outwork.contrib.webhook.settings:WebhookSettings",
}
"""The tables of this release, and the structs behind them."""

MASK: Final = "***"
FILE: Final = "_file"

Secret: TypeAlias = Annotated[str, Meta(extra={"secret": True})]
"""A text that is shown as ***. Its key with `_file` behind names a file that holds it."""

Seconds: TypeAlias = Annotated[float, Meta(extra={"seconds": True})]
"""A length of time: seconds, or a text such as "10s" in a file or the environment."""


class Found(NamedTuple):
    """A value as it was found. `label` names it in an error, `origin` is what `outwork config` shows, `folder` is where
    relative paths in it begin (None: in the current directory)."""

    value: object
    label: str
    origin: str
    folder: Path | None = None


class Section(Struct, frozen=True, kw_only=True):
    """The settings of a ready-made task. What is secret in them is not in their repr.

    A subclass checks what belongs together in `__post_init__`, by a ValueError that says what to write.
    """

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in flattened(self).items())
        return f"{type(self).__name__}({', '.join(shown)})"


def flattened(section: Struct, above: str = "") -> dict[str, object]:
    """Every value by its dotted key, secrets masked."""
    values: dict[str, object] = {}
    hints = _hints(type(section))
    for field in fields(section):
        value = getattr(section, field.name)
        key = above + field.name
        if isinstance(value, Struct):
            values |= flattened(value, f"{key}.")
        elif isinstance(value, Mapping) and _struct_inside(hints[field.name]):
            for name, one in value.items():
                values |= flattened(one, f"{key}.{name}.")
        else:
            values[key] = MASK if value and _is(hints[field.name], "secret") else value
    return values


def toml_section(
    path: Path, text: str, above: tuple[str, ...], names: tuple[str, ...], table: Mapping[str, object]
) -> dict[str, Found]:
    """The values of a table of a TOML file, and of the tables in it, by their dotted keys."""
    values: dict[str, Found] = {}
    for key, value in table.items():
        inner = (*names, key)
        if isinstance(value, dict):
            values |= toml_section(path, text, above, inner, cast("dict[str, object]", value))
        else:
            origin = f"{path}:{line_of(text, (*above, *inner))}"
            label = f"{origin} [{'.'.join((*above, *names))}] {key}"
            values[".".join(inner)] = Found(value, label, origin, path.absolute().parent)
    return values


def read_sections(found: Mapping[str, Found]) -> dict[str, Struct]:
    """The structs of all tables that were given, from their values by dotted keys. Raises SettingsError."""
    tables: dict[str, dict[str, Found]] = {}
    for key, value in found.items():
        name, _, rest = key.partition(".")
        tables.setdefault(name, {})[rest] = value
    return {name: _read(_class_of(name), table, name) for name, table in tables.items()}


def _class_of(name: str) -> type[Struct]:
    module, _, attribute = SECTIONS[name].partition(":")
    kind: type[Struct] = getattr(import_module(module), attribute)
    return kind


def _read(kind: type[Struct], given: Mapping[str, Found], name: str) -> Struct:
    """A struct from its values by keys that are dotted where structs are inside."""
    hints = _hints(kind)
    values: dict[str, Any] = {}
    inside: dict[str, dict[str, Found]] = {}
    for key, found in given.items():
        field, dot, rest = key.partition(".")
        if dot and field in hints and _struct_inside(hints[field]):
            inside.setdefault(field, {})[rest] = found
        elif key.endswith(FILE) and _is(hints.get(key.removesuffix(FILE)), "secret"):
            field = key.removesuffix(FILE)
            if field in given:
                raise SettingsError(f"{found.label}: {field} and {key} are both given. Leave one of them out")
            values[field] = _content(found)
        elif key in hints and not _struct_inside(hints[key]):
            values[key] = _leaf(hints[key], found)
        else:
            raise SettingsError(f"{found.label}: unknown key{_nearest(key, hints)}")
    for field, more in inside.items():
        hint = _struct_inside(hints[field])
        assert hint is not None
        if get_origin(hints[field]) is None:
            values[field] = _read(hint, more, f"{name}.{field}")
            continue
        each: dict[str, dict[str, Found]] = {}
        for key, found in more.items():
            item, dot, rest = key.partition(".")
            if not dot:
                raise SettingsError(f"{found.label}: a table is needed: [{name}.{field}.{item}]")
            each.setdefault(item, {})[rest] = found
        values[field] = {item: _read(hint, table, f"{name}.{field}.{item}") for item, table in each.items()}
    return _build(kind, values, next(iter(given.values())), name)


def _build(kind: type[Struct], values: Mapping[str, Any], first: Found, name: str) -> Struct:
    missing = [field.name for field in fields(kind) if field.required and field.name not in values]
    place = first.origin.partition(" ")[0] if first.origin.startswith("environment") else first.origin
    if missing:
        raise SettingsError(f"{place} [{name}]: {', '.join(missing)} is missing")
    try:
        return kind(**values)
    except ValueError as error:
        raise SettingsError(f"{place} [{name}]: {error}") from error


def _leaf(hint: Any, found: Found) -> Any:
    value = found.value
    from_text = found.origin.startswith("environment") and isinstance(value, str)
    try:
        if _is(hint, "seconds"):
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise ValueError('a length of time is needed: seconds, or a text like "10s"')
            return seconds_of(value)
        if from_text and get_origin(hint) is tuple:
            assert isinstance(value, str)
            value = [item.strip() for item in value.split(",") if item.strip()]
        return msgspec.convert(value, hint, strict=not from_text)
    except ValueError as error:
        shown = "" if _is(hint, "secret") else f" = {value!r}"
        raise SettingsError(f"{found.label}{shown}: {error}") from error


def _content(found: Found) -> str:
    if not isinstance(found.value, str):
        raise SettingsError(f"{found.label}: the path of a file is needed")
    path = (found.folder or Path()) / found.value
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{found.label}: cannot read {path}: {error}") from error


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(key, known, n=1)
    return f' (did you mean "{close[0]}"?)' if close else f". Known are: {', '.join(known)}"


def _hints(kind: type[Struct]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _is(hint: Any, mark: str) -> bool:
    return get_origin(hint) is Annotated and any(
        isinstance(meta, Meta) and bool((meta.extra or {}).get(mark)) for meta in get_args(hint)[1:]
    )


def _struct_inside(hint: Any) -> type[Struct] | None:
    """The struct that a hint is, or that its dictionary is of."""
    last = get_args(hint)[-1] if get_origin(hint) is dict else hint
    return last if isinstance(last, type) and issubclass(last, Struct) else None
