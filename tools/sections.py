"""The settings of ready-made tasks, from the structs behind their tables."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final, get_args, get_type_hints

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from outwork.configuration.sections import SECTIONS

WORDS: Final = {
    "str": "text",
    "int": "number",
    "int | None": "number",
    "bool": "true or false",
    "Seconds": "length of time",
    "Secret": "text, not shown",
    "tuple[str, ...]": "list of texts",
}
"""What a file has for a hint."""


def sections() -> str:
    """A part for each table: what its structs say, and its keys."""
    parts: list[str] = []
    for name, path in SECTIONS.items():
        module, _, attribute = path.partition(":")
        struct = getattr(import_module(module), attribute)
        said = "\n\n".join(inspect.getdoc(one) or "" for one in _structs(struct))
        parts.append(f"### [{name}]\n\n{said}\n\n| key | | default |\n| --- | --- | --- |\n")
        parts += [f"| `{key}` | {kind} | {default} |\n" for key, kind, default in _keys(struct, f"{name}.")]
        parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


def _structs(struct: type[Struct]) -> Iterator[type[Struct]]:
    """It, and those of the tables in it."""
    yield struct
    for hint in get_type_hints(struct).values():
        inner = _struct_in(hint)
        if inner is not None:
            yield from _structs(inner)


def _keys(struct: type[Struct], above: str) -> Iterator[tuple[str, str, str]]:
    """Each key with what it takes and its default."""
    hints, written = get_type_hints(struct), inspect.get_annotations(struct)
    for field in fields(struct):
        inner = _struct_in(hints[field.name])
        if inner is not None:
            yield from _keys(inner, f"{above}{field.name}.NAME.")
        else:
            hint = written[field.name]
            yield f"{above}{field.name}", _kind(hint), _default(field.default)


def _struct_in(hint: Any) -> type[Struct] | None:
    """The struct of a table of tables."""
    return next((one for one in get_args(hint) if inspect.isclass(one) and issubclass(one, Struct)), None)


def _kind(hint: str) -> str:
    if hint.startswith("Literal["):
        return " or ".join(
            f"`{one.strip()}`".replace("'", '"') for one in hint.removeprefix("Literal[").rstrip("]").split(",")
        )
    return WORDS[hint]


def _default(value: object) -> str:
    if value is NODEFAULT:
        return "must be given"
    return "" if value in (None, "", ()) else f"`{msgspec.json.encode(value).decode()}`"
