"""The numbered schema files of a dialect: what they are, which are still to be applied, and their text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Final, NamedTuple

from outwork.errors import SchemaError

NAME: Final = re.compile(r"(\d{4})_(\w+)\.sql")


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


def steps(dialect: str, prefix: str) -> list[Step]:
    """The schema files of a dialect in their order, `{prefix}` put in."""
    found: list[Step] = []
    for file in files("outwork.brokers.sql").joinpath("schema", dialect).iterdir():
        match = NAME.fullmatch(file.name)
        if match:
            found.append(Step(int(match[1]), match[2], file.read_text("utf-8").replace("{prefix}", prefix)))
    return sorted(found)


def todo(known: Sequence[Step], version: int, where: str, to: int | None = None) -> list[Step]:
    """The steps that lead from `version` to `to` (None: the newest).

    Raises SchemaError for a database that is newer than this release, or a `to` that is not ahead.
    """
    newest = known[-1].number
    if version > newest:
        raise SchemaError(
            f"{where} has schema version {version}; this release knows versions up to {newest}. "
            "Nothing was changed. Upgrade outwork here, or use another database"
        )
    if to is not None and not version <= to <= newest:
        raise SchemaError(f"{where} has schema version {version} and can go up to {newest}, not to {to}")
    return [step for step in known if version < step.number <= (newest if to is None else to)]
