"""How PostgreSQL carries out what is said for every message, whatever it knows of the table at that moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import psycopg
import pytest

from outwork.contrib.channels.postgresql.statements import STATEMENTS, TABLES
from outwork.contrib.channels.postgresql.store import SETTINGS
from support.postgres_server import shared_postgres

TABLE: Final = "plans_channel_message"
WORDS: Final = {
    "push": ("text, bytea, bigint, float8, bool, text, bool", "'one', '', 100, 60, true, 'one', true"),
    "append": ("text, bytea, bigint, float8, text, bool", "'one', '', 100, 60, 'one', true"),
    "take": ("text, bigint, bool", "'one', 100, true"),
    "spread": (
        "text, text[], text, bytea, float8, bigint, text[], bigint[]",
        "'team', '{}', 'outwork/', '', 60, 100, '{}', '{}'",
    ),
}
FILL: Final = f"""INSERT INTO {TABLE} (pipe, expires, content)
    SELECT 'pipe-' || number % 3, extract(epoch FROM now()) + 60, '' FROM generate_series(1, 5000) number"""
STATES: Final = {
    "never analyzed": [],
    "analyzed when empty": [f"VACUUM ANALYZE {TABLE}"],
    "analyzed when full": [FILL, f"ANALYZE {TABLE}"],
    "analyzed, all dead": [FILL, f"DELETE FROM {TABLE}", f"ANALYZE {TABLE}"],
    "filled, emptied and vacuumed": [FILL, f"DELETE FROM {TABLE}", f"VACUUM ANALYZE {TABLE}"],
}


@pytest.fixture
def connection() -> Iterator[psycopg.Connection[Any]]:
    with shared_postgres().connect(autocommit=True) as connection:
        for name, value in SETTINGS.items():
            connection.execute("SELECT set_config(%s, %s, false)", [name, value])
        connection.execute(TABLES.replace("{p}", "plans_"))
        connection.execute(f"ALTER TABLE {TABLE} SET (autovacuum_enabled = off)")
        yield connection
        for kind in ("message", "member", "reader"):
            connection.execute(f"DROP TABLE plans_channel_{kind}")


@pytest.mark.parametrize("state", STATES)
def test_no_statement_walks_over_the_messages_of_others(connection: psycopg.Connection[Any], state: str) -> None:
    """By way of the primary key it would, in the order of which all messages lie; thousands for each one taken."""
    for command in STATES[state]:
        connection.execute(command)
    for name, (types, values) in WORDS.items():
        connection.execute(f"PREPARE {name} ({types}) AS {STATEMENTS[name].replace('{p}', 'plans_')}".encode())
        lines = [row[0] for row in connection.execute(f"EXPLAIN EXECUTE {name} ({values})".encode())]
        walks = [line for line in lines if f"{TABLE}_pkey" in line or f"Seq Scan on {TABLE}" in line]
        assert not walks, (name, lines)
