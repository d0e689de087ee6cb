"""The package index, and the tasks that fill it. They are the same wherever they run."""

from __future__ import annotations

import sqlite3
import tomllib
from collections.abc import Iterator
from pathlib import Path

from outwork import Outwork, provided

DATABASE = "packages.db"
UPSTREAM = {"conda-forge": [("scipy", "1.14"), ("pandas", "2.2")]}

tasks = Outwork.from_mapping(tomllib.loads(Path("config.toml").read_text()).get("worker"))


def open_session() -> Iterator[sqlite3.Connection]:
    """A database session, for an attempt of a task as well as for a request."""
    session = sqlite3.connect(DATABASE, check_same_thread=False)
    try:
        session.execute("create table if not exists packages (name text, version text, unique (name, version))")
        with session:  # commits, or rolls back
            yield session
    finally:
        session.close()


tasks.provide(sqlite3.Connection, open_session)


@tasks.task
def index(name: str, version: str, session: sqlite3.Connection = provided()) -> None:
    session.execute("insert or ignore into packages values (?, ?)", [name, version])


@tasks.task
def synchronise(channel: str, session: sqlite3.Connection = provided()) -> int:
    """Take over what another channel has."""
    session.executemany("insert or ignore into packages values (?, ?)", UPSTREAM[channel])
    return len(UPSTREAM[channel])
