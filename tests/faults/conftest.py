"""A broker, a ledger and real workers. A further broker joins by one more parameter of `broker_url`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.scorecard.page import pytest_collection_modifyitems, pytest_runtest_logreport, pytest_sessionfinish
from outwork import Outwork
from support import chores
from support.ledger import VARIABLE, Ledger
from support.mariadb_server import shared_mariadb
from support.postgres_server import shared_postgres
from support.redis_server import RedisServer, need_redis
from support.workers import Workers, workers_in

__all__ = ["pytest_collection_modifyitems", "pytest_runtest_logreport", "pytest_sessionfinish"]
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all of these tests; each starts with it empty."""
    need_redis()
    server = RedisServer(tmp_path_factory.mktemp("redis"), appendonly="yes")
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "redis", "postgresql", "mysql"])
def broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty broker, to which options may be appended after a `?`."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        server.ask("FLUSHALL")
        return server.url()
    if request.param == "postgresql":
        shared_postgres().empty()
        return shared_postgres().url()
    if request.param == "mysql":
        shared_mariadb().empty()
        return shared_mariadb().url()
    assert request.param == "sqlite"
    return f"sqlite:///{tmp_path}/tasks.db"


@pytest.fixture
def app(broker_url: str, ledger: Ledger) -> Iterator[Outwork]:
    """The application of the chores, on this broker."""
    chores.app.override({"broker_url": broker_url})
    yield chores.app
    chores.app.close()


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    path = tmp_path / "ledger"
    monkeypatch.setenv(VARIABLE, str(path))
    return Ledger(path)


@pytest.fixture
def environ(ledger: Ledger) -> dict[str, str]:
    """The environment of the processes that a test starts: nothing of ours but the ledger, tests importable."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OUTWORK_")}
    return clean | {"PYTHONPATH": str(TESTS), "PYTHONWARNINGS": "error"}


@pytest.fixture
def workers(tmp_path: Path, broker_url: str, environ: dict[str, str]) -> Iterator[Workers]:
    """Starts workers; none outlives the test."""
    with workers_in(tmp_path, broker_url, environ) as started:
        yield started
