"""The reference of the command line, as click knows it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from inspect import cleandoc
from typing import Final

import click

from outwork.cli import main

EVERYWHERE: Final = ("--app", "--config", "--broker", "--verbose", "--help")
"""Options that are told once."""
RANGE: Final = re.compile(r"  \[[^\]]*\bx\b[^\]]*\]$")
"""What click adds to a number's help."""


def commands() -> str:
    """A section for each command, with its options."""
    root = click.Context(main, info_name="outwork")
    found = list(_walk(root))
    shared = {name: row for context in found for name, row in _options(context) if name in EVERYWHERE}
    without = [f"`{context.command_path}`" for context in found if "--app" not in dict(_options(context))]
    parts = [
        "## Options of every command\n\n",
        _table(shared[name] for name in EVERYWHERE),
        f"\n{' and '.join(without)} look at no application, and take the last two only.\n",
    ]
    parts += [_section(context) for context in found]
    return "".join(parts)


def _walk(context: click.Context) -> Iterator[click.Context]:
    """The commands below a group, groups left out."""
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, parent=context, info_name=name)
        if isinstance(command, click.Group):
            yield from _walk(inner)
        else:
            yield inner


def _options(context: click.Context) -> Iterator[tuple[str, list[str]]]:
    """Each option by its long name, as a row of a table."""
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            name = next(name for name in parameter.opts if name.startswith("--"))
            yield name, [f"`{record[0]}`", _prose(RANGE.sub("", record[1]))]


def _section(context: click.Context) -> str:
    usage = " ".join([context.command_path, *context.command.collect_usage_pieces(context)]).rstrip()
    rows = [row for name, row in _options(context) if name not in EVERYWHERE]
    text = f"\n## {context.command_path}\n\n```text\n{usage}\n```\n\n{_prose(cleandoc(context.command.help or ''))}\n"
    return f"{text}\n{_table(rows)}" if rows else text


def _prose(text: str) -> str:
    """Options in prose as code: two hyphens would become a dash."""
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]*|--(?= ))", r"`\1`", text)


def _table(rows: Iterable[list[str]]) -> str:
    lines = [" | ".join(cell.replace("|", r"\|") for cell in row) for row in rows]
    return "".join(f"| {line} |\n" for line in ["option | ", "--- | ---", *lines])
