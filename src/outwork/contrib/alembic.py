"""Outwork's tables in the migrations of an application that uses Alembic.

In a migration:

    from alembic import op
    from outwork.contrib import alembic as outwork

    def upgrade() -> None:
        outwork.upgrade(op, to=3)

    def downgrade() -> None:
        outwork.downgrade(op, to=0)

Both this and `outwork migrate` read and write the version in the same table, so either may come first. Offline
(`alembic upgrade --sql`) all statements from version 0, or `since`, are printed. In `env.py`,
`context.configure(..., include_name=outwork.include_name)` keeps `--autogenerate` from dropping what it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy
from alembic.operations import Operations

from outwork.brokers.sql.migrate import standing, steps, todo, undo
from outwork.brokers.sql.names import PREFIX

DIALECTS: Final = {"sqlite": "sqlite", "postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql"}


def upgrade(op: Operations, *, to: int, since: int = 0, table_prefix: str = PREFIX) -> None:
    """Bring the tables to version `to`, as far as they are not there yet.

    A migration names its version, so that it means the same for ever; `outwork migrate --check` says when a release
    wants a newer one. `since` is where the migration before ended; only offline is it needed. Raises SchemaError for
    tables that a newer release has made, ValueError for a database without a broker.
    """
    dialect = _dialect(op)
    version = since if op.get_context().as_sql else _version(op, table_prefix)
    if version >= to:
        return
    for step in todo(steps(dialect, table_prefix), standing({"version": str(version)}), "this database", to):
        for statement in step.statements:
            op.execute(statement)


def downgrade(op: Operations, *, to: int, since: int | None = None, table_prefix: str = PREFIX) -> None:
    """Take the tables back to version `to`; 0 removes them, and all jobs with them. Offline it begins at `since`, by
    default at the newest version. Raises ValueError for a database without a broker."""
    newest = steps(_dialect(op), table_prefix)[-1].number
    offline = op.get_context().as_sql
    version = (newest if since is None else since) if offline else _version(op, table_prefix)
    for number in range(version, to, -1):
        for statement in undo(number, table_prefix):
            op.execute(statement)


def include_name(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
    """For `context.configure(include_name=...)`: every name but those of our tables of the default prefix."""
    return kind != "table" or name is None or not name.startswith(PREFIX)


def _dialect(op: Operations) -> str:
    name: str = op.get_context().dialect.name
    if name not in DIALECTS:
        raise ValueError(f"there is no broker for {name}; there are some for {', '.join(sorted(DIALECTS))}")
    return DIALECTS[name]


def _version(op: Operations, prefix: str) -> int:
    connection: Any = op.get_bind()
    if not sqlalchemy.inspect(connection).has_table(f"{prefix}meta"):
        return 0
    rows = connection.execute(sqlalchemy.text(f"SELECT name, value FROM {prefix}meta"))
    return standing(dict(rows.all())).version
