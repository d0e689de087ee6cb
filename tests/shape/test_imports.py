"""Who may know whom: the rooms of the house, kept by the import graph. docs/architecture.md says the same in words.

Three kinds of import are told apart:

- at the top of a module: counts as knowing, and may not be part of a cycle
- below `if TYPE_CHECKING:`: counts as knowing, too (a room that speaks of another's types knows it), but makes no
  cycle, because it does not happen
- inside a function: the same; it is there to make a start faster, or because a thing is rarely needed
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

SOURCE: Final = Path(__file__).parents[2] / "src"

PURE: Final = {"job", "codec", "progress", "retry", "schedule", "ties"}
PURE_MODULES: Final = {
    "__future__",
    "collections",
    "cronsim",
    "dataclasses",
    "datetime",
    "difflib",
    "enum",
    "functools",
    "json",
    "math",
    "msgspec",
    "typing",
    "zoneinfo",
}
"""What a pure room may use of the world: nothing with a clock, I/O, chance or threads."""

JOB: Final = {"job", "errors", "ties"}
DECLARED: Final = {
    *JOB,
    "context",
    "declaring",
    "durations",
    "events",
    "habits",
    "hooks",
    "ids",
    "progress",
    "result",
    "retry",
    "schedule",
    "task",
}
CALLED: Final = {*DECLARED, "attempt", "codec", "contract", "feeding"}
APPLICATION: Final = {*CALLED, "app", "client", "composition", "configuration", "loading", "public", "settings"}

KNOWS: Final[dict[str, set[str]]] = {
    "ties": set(),
    "progress": set(),
    "job": {"ties"},
    "ids": set(),
    "durations": set(),
    "errors": {"job"},
    "codec": JOB,
    "habits": {"errors"},
    "retry": {"durations", "errors", "habits"},
    "context": {*JOB, "contract", "progress"},
    "schedule": {"durations", "errors"},
    "events": {"job"},
    "hooks": {*JOB, "context", "events"},
    "result": {*JOB, "habits", "progress"},
    "contract": JOB,
    "configuration": {"contract", "durations", "errors", "schedule"},
    "settings": {"configuration", "contract", "durations", "errors", "schedule"},
    "brokers": {*JOB, "contract", "codec", "ids", "durations", "brokers.paired"},
    "brokers.ledger": {*JOB, "contract"},
    "brokers.memory": {*JOB, "contract", "codec", "ids", "durations", "brokers.ledger"},
    "brokers.sql": {*JOB, "contract", "codec", "ids", "durations", "brokers.ledger"},
    "brokers.redis": {*JOB, "contract", "codec", "ids", "durations", "brokers.ledger"},
    "brokers.rabbitmq": {*JOB, "contract", "codec", "ids", "durations"},
    "brokers.paired": {*JOB, "contract", "ids"},
    "brokers.memory_outbox": {*JOB, "contract", "brokers.ledger", "brokers.memory"},
    "declaring": {*JOB, "context", "durations", "habits", "retry", "schedule"},
    "task": DECLARED,
    "feeding": {*JOB, "ids"},
    "attempt": {*DECLARED, "codec", "contract", "feeding"},
    "client": {*CALLED, "brokers.memory"},
    "app": {*CALLED, "brokers", "brokers.memory", "client", "composition", "configuration", "settings"},
    "composition": {*CALLED, "app", "brokers.memory", "client"},
    "loading": {*JOB, "app", "task"},
    "public": {*CALLED, "app", "composition"},
    "worker": APPLICATION,
    "cli": APPLICATION | {"worker"},
    "contrib": APPLICATION
    # Django's own connection joins the SQL broker; channel layers connect as the brokers do
    | {"brokers", "brokers.sql", "brokers.redis", "cli", "worker"},
    "testing": {*CALLED, "app", "brokers.memory", "client", "public"},
}
"""For each room, the other rooms it may import from."""

PARTS: Final = {
    "outwork": "public",
    "outwork.__main__": "cli",
    "outwork.brokers.base": "contract",
    "outwork.brokers.courier": "brokers.paired",
    "outwork.brokers.letters": "contract",
    "outwork.brokers.memory_shelf": "brokers.memory",
    "outwork.brokers.turns": "brokers.ledger",
    "outwork.brokers.url": "contract",
    "outwork.periodic": "app",
    "outwork.registry": "app",
    "outwork.serving": "app",
}
"""Modules whose room is not their own name."""

EXCEPTIONS: Final = {
    # An application starts the worker inside its process by an import in that one function.
    ("outwork.app", "outwork.worker.embedded"),
    # Channels are a room of their own, which two commands open.
    ("outwork.cli.runworker", "outwork.contrib.channels.layer"),
    ("outwork.cli.runworker", "outwork.contrib.channels.running"),
    ("outwork.cli.runworker", "outwork.contrib.channels.sending"),
    ("outwork.cli.channels", "outwork.contrib.channels.layer"),
    ("outwork.cli.channels", "outwork.contrib.channels.pipes"),
    ("outwork.cli.channels", "outwork.contrib.channels.sending"),
}
"""Imports inside a function that a room may make though it may not know the other one."""

DRIVERS: Final = {
    "sqlite3": {"brokers.sql", "contrib"},
    "psycopg": {"brokers.sql", "contrib"},
    "channels": {"contrib"},
    "cryptography": {"contrib"},
    "hiredis": {"contrib"},
    "pymysql": {"brokers.sql"},
    "sqlalchemy": {"brokers.sql", "contrib"},
    "redis": {"brokers.redis", "contrib"},
    "pika": {"brokers.rabbitmq"},
    "watchfiles": {"worker"},
    "click": {"cli", "contrib", "worker"},  # the worker: for the progress bar of a drain
    "asgiref": {"contrib"},
    "django": {"contrib"},
    "dramatiq": {"contrib"},
    "django_tasks": {"contrib"},
    "alembic": {"contrib"},
    "flask": {"contrib"},
    "quart": {"contrib"},
    "fastapi": {"contrib"},
    "starlette": {"contrib"},
    "smpplib": {"contrib"},
    "httpx2": {"contrib"},
    "scim2_client": {"contrib"},
    "pydantic": {"contrib"},
    "scim2_models": {"contrib"},
    "pytest": {"testing"},
    "hypothesis": {"testing"},
}
"""Who may import what is not ours."""


class Import(NamedTuple):
    """An import of a module; `happens` when the importing module is loaded."""

    module: str
    happens: bool


@cache
def modules() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> tuple[Import, ...]:
    """All imports of a module; ours are named by the module where they arrive."""
    return tuple(_walk(ast.parse(modules()[module].read_text()).body, module, happens=True))


def _walk(nodes: list[ast.stmt], module: str, *, happens: bool) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (Import(_ours(alias.name), happens) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively; write the whole name"
            yield from (Import(_ours(f"{node.module}.{alias.name}"), happens) for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _walk(node.body, module, happens=False)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _walk(node.body, module, happens=False)
            yield from _walk(node.orelse, module, happens=happens)
        else:
            inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.ExceptHandler)]
            for child in inner:
                body = child.body if isinstance(child, ast.ExceptHandler) else [child]
                yield from _walk(body, module, happens=happens)


def _ours(name: str) -> str:
    """`outwork.job.State` -> `outwork.job`; what is not ours stays as it is."""
    if name.partition(".")[0] != "outwork":
        return name
    while name not in modules():
        name = name.rpartition(".")[0]
    return name


def room(module: str) -> str:
    """The room in which one of our modules is."""
    if module in PARTS:
        return PARTS[module]
    parts = module.split(".")[1:]
    return ".".join(parts[:2]) if parts[0] == "brokers" else parts[0]


@pytest.mark.parametrize("module", modules())
def test_a_room_imports_only_from_rooms_it_may_know(module: str) -> None:
    here = room(module)
    assert here in KNOWS, f"{module} is in a new room: say in KNOWS whom it may know"
    for imported, happens in imports(module):
        if (module, imported) in EXCEPTIONS and not happens:
            continue
        if imported.partition(".")[0] == "outwork" and room(imported) != here:
            assert room(imported) in KNOWS[here], f"{module} may not import {imported}"


@pytest.mark.parametrize("module", modules())
def test_a_library_is_used_where_it_belongs(module: str) -> None:
    for imported, _ in imports(module):
        name = imported.partition(".")[0]
        assert room(module) in DRIVERS.get(name, {room(module)}), f"{module} may not import {name}"
        if room(module) in PURE and name != "outwork":
            assert name in PURE_MODULES, f"{module} is pure and may not import {name}"


def test_what_is_required_is_all_that_is_needed() -> None:
    """Any other library is imported inside the room of DRIVERS that it belongs to."""
    known = {*DRIVERS, *sys.stdlib_module_names, "outwork", "msgspec", "cronsim"}
    used = {imported.module.partition(".")[0] for module in modules() for imported in imports(module)}
    assert used <= known


def test_there_is_no_cycle() -> None:
    """Of imports that happen. A module's own package is not counted: it is imported before in any case."""
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module in done:
            return
        for imported, happens in imports(module):
            if happens and imported in modules() and imported != module and not module.startswith(f"{imported}."):
                visit(imported, (*path, module))
        done.add(module)

    for module in modules():
        visit(module, ())
    assert done == set(modules())
