"""The tables by Alembic's migrations, on each database: made once by whoever comes first, and removed."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("alembic")
pytest.importorskip("sqlalchemy")

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, MetaData, create_engine

from outwork import Outwork
from outwork.brokers.sql.migrate import steps
from outwork.contrib import alembic
from outwork.errors import SchemaError
from support.mariadb_server import shared_mariadb
from support.postgres_server import shared_postgres

Migrate = Callable[[Callable[[Operations], None]], None]
NEWEST = steps("sqlite", "outwork_")[-1].number


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Of a database without our tables: the broker's URL, and SQLAlchemy's."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/tasks.db", f"sqlite:///{tmp_path}/tasks.db"
        return
    server = shared_postgres() if request.param == "postgresql" else shared_mariadb()
    driver = "postgresql+psycopg" if request.param == "postgresql" else "mysql+pymysql"
    url = server.url(table_prefix="alembic_")
    yield url, driver + server.url().partition("?")[0][len(request.param) :]


@pytest.fixture
def prefix(urls: tuple[str, str]) -> str:
    return "alembic_" if "table_prefix" in urls[0] else "outwork_"


@pytest.fixture
def migrate(urls: tuple[str, str], prefix: str) -> Iterator[Migrate]:
    engine = create_engine(urls[1])

    def run(migration: Callable[[Operations], None]) -> None:
        with engine.begin() as connection:
            migration(Operations(MigrationContext.configure(connection)))

    yield run
    run(lambda op: alembic.downgrade(op, to=0, table_prefix=prefix))
    engine.dispose()


def up(prefix: str) -> Callable[[Operations], None]:
    return lambda op: alembic.upgrade(op, to=NEWEST, table_prefix=prefix)


def works(url: str) -> bool:
    app = Outwork(url)

    @app.task(name="tiny")
    def tiny() -> None: ...

    try:
        job = tiny.enqueue()
        return app.store.get([job.id]) != [None]
    finally:
        app.close()


def pending(url: str) -> list[str]:
    app = Outwork(url)
    try:
        steps: list[str] = app.broker.pending()  # type: ignore[attr-defined]
        return steps
    finally:
        app.close()


def test_a_migration_makes_the_tables_and_takes_them_away(urls: tuple[str, str], migrate: Migrate, prefix: str) -> None:
    migrate(lambda op: alembic.upgrade(op, to=1, table_prefix=prefix))
    assert len(pending(urls[0])) == NEWEST - 1
    migrate(up(prefix))
    migrate(up(prefix))
    assert pending(urls[0]) == []
    assert works(urls[0])
    for version in reversed(range(NEWEST)):
        migrate(lambda op, to=version: alembic.downgrade(op, to=to, table_prefix=prefix))  # type: ignore[misc]
        assert len(pending(urls[0])) == NEWEST - version
    migrate(up(prefix))
    assert works(urls[0])


def test_the_command_may_come_first(urls: tuple[str, str], migrate: Migrate, prefix: str) -> None:
    app = Outwork(urls[0])
    app.broker.migrate()  # type: ignore[attr-defined]
    app.close()
    migrate(up(prefix))
    migrate(lambda op: alembic.upgrade(op, to=1, table_prefix=prefix))  # an older migration, run late
    assert works(urls[0])


def test_autogenerate_leaves_them_alone(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/tasks.db")
    with engine.begin() as connection:
        up("outwork_")(Operations(MigrationContext.configure(connection)))
        assert differences(connection) != []
        assert differences(connection, include_name=alembic.include_name) == []


def differences(connection: Connection, **options: object) -> list[object]:
    found: list[object] = compare_metadata(MigrationContext.configure(connection, opts=options), MetaData())
    return found


def test_offline_the_statements_are_printed(tmp_path: Path) -> None:
    text = io.StringIO()
    context = MigrationContext.configure(dialect_name="sqlite", opts={"as_sql": True, "output_buffer": text})
    alembic.upgrade(Operations(context), to=1)
    first = text.getvalue()
    alembic.upgrade(Operations(context), to=NEWEST, since=1)
    path = tmp_path / "tasks.db"
    with sqlite3.connect(path) as database:
        database.executescript(text.getvalue())
    assert first.count("CREATE TABLE outwork_job ") == text.getvalue().count("CREATE TABLE outwork_job ") == 1
    assert pending(f"sqlite:///{path}") == []
    alembic.downgrade(Operations(context), to=0)
    with sqlite3.connect(path) as database:
        database.executescript(text.getvalue()[text.getvalue().index("DROP TABLE") :])
        assert database.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone() == (0,)


def test_what_is_refused(tmp_path: Path) -> None:
    oracle = MigrationContext.configure(dialect_name="oracle", opts={"as_sql": True, "output_buffer": io.StringIO()})
    with pytest.raises(ValueError, match="no broker for oracle; there are some for mariadb, mysql, postgresql, sqlite"):
        alembic.upgrade(Operations(oracle), to=1)
    engine = create_engine(f"sqlite:///{tmp_path}/tasks.db")
    with engine.begin() as connection, pytest.raises(SchemaError, match=f"can go up to {NEWEST}, not to 99"):
        alembic.upgrade(Operations(MigrationContext.configure(connection)), to=99)
