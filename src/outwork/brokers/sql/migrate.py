"""The numbered schema files of a dialect: what they are, which are still to be applied, and their text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Final, NamedTuple

from outwork.errors import SchemaError

NAME: Final = re.compile(r"(\d{4})_(\w+)\.sql")
TABLES: Final = {
    1: ("ready", "scheduled", "running", "ended", "job", "worker", "meta"),
    2: ("outbox",),
    3: ("bound", "cell"),
}
"""The tables that each step brings."""
COLUMNS: Final = {3: ("ties", "progress")}
"""The columns of `job` that it adds."""


class Step(NamedTuple):
    """One schema file, `number` from 1; the database is at the number of the last one that was applied."""

    number: int
    name: str
    sql: str

    @property
    def statements(self) -> list[str]:
        """Its statements: each ends with a semicolon at the end of a line (drivers run one at a time)."""
        code = "\n".join(line for line in self.sql.splitlines() if not line.lstrip().startswith("--"))
        return [statement.strip() for statement in re.split(r";[ \t]*(?:\n|$)", code) if statement.strip()]


class Standing(NamedTuple):
    """At which version the tables are (0: there are none), and the oldest version whose code can go on with them."""

    version: int
    oldest: int


def standing(meta: Mapping[str, str]) -> Standing:
    """How the tables stand, by the rows of our meta table."""
    version = int(meta.get("version", 0))
    return Standing(version, int(meta.get("oldest", version)))


def steps(dialect: str, prefix: str) -> list[Step]:
    """The schema files of a dialect in their order, `{prefix}` put in."""
    found: list[Step] = []
    for file in files("outwork.brokers.sql").joinpath("schema", dialect).iterdir():
        match = NAME.fullmatch(file.name)
        if match:
            found.append(Step(int(match[1]), match[2], file.read_text("utf-8").replace("{prefix}", prefix)))
    return sorted(found)


def todo(known: Sequence[Step], now: Standing, where: str, to: int | None = None) -> list[Step]:
    """The steps that lead from where the tables stand to version `to` (None: the newest).

    None for tables that a newer release has made, if this one can go on with them: so workers of two releases run side
    by side while one takes the place of the other. Raises SchemaError for those that it cannot go on with, or a `to`
    that is not ahead.
    """
    newest = known[-1].number
    version = now.version
    if version > newest and now.oldest <= newest and to is None:
        return []
    if version > newest:
        raise SchemaError(
            f"{where} has schema version {version}; this release knows versions up to {newest}. "
            "Nothing was changed. Upgrade outwork here, or use another database"
        )
    if to is not None and not version <= to <= newest:
        raise SchemaError(f"{where} has schema version {version} and can go up to {newest}, not to {to}")
    return [step for step in known if version < step.number <= (newest if to is None else to)]


def undo(number: int, prefix: str) -> list[str]:
    """The statements that take back the step of this number, in any dialect; what it held is lost."""
    dropped = [f"DROP TABLE IF EXISTS {prefix}{name}" for name in TABLES[number]]
    if number == 1:
        return dropped
    columns = [f"ALTER TABLE {prefix}job DROP COLUMN {name}" for name in COLUMNS.get(number, ())]
    return [*dropped, *columns, f"UPDATE {prefix}meta SET value = '{number - 1}' WHERE name = 'version'"]
