"""A store of each kind for the workers, empty, with its server in reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGINT
from typing import Final, NamedTuple

import pytest

from contrib.channels.site_of_thumbs import Site, site_on
from support.postgres_server import PostgresServer, shared_postgres
from support.redis_server import RedisServer

KINDS: Final = ("sqlite", "redis", "postgresql")


class Restartable(NamedTuple):
    """Where a layer is, and how its server is restarted so that it keeps what the store keeps."""

    url: str
    restart: Callable[[], None]


@contextmanager
def place_of(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty store."""
    if kind == "redis":
        server = RedisServer(folder / "redis", appendonly="yes")
        try:
            yield server.url()
        finally:
            server.kill()
    elif kind == "postgresql":
        shared = shared_postgres()
        for table in ("message", "member", "reader"):
            shared.ask(f"DROP TABLE IF EXISTS outwork_channel_{table}")
        yield shared.url()
    else:
        yield f"sqlite:///{folder}/channels.db"


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with place_of(request.param, tmp_path) as url, site_on(tmp_path, url=url) as site:
        yield site


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[list[Site]]:
    """One on a store of each kind."""
    with ExitStack() as stack:
        found: list[Site] = []
        for kind in KINDS:
            folder = tmp_path / kind
            folder.mkdir()
            found.append(stack.enter_context(site_on(folder, url=stack.enter_context(place_of(kind, folder)))))
        yield found


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """One that may be restarted."""
    with PostgresServer() as own:
        yield own


@pytest.fixture(params=["redis", "postgresql"])
def restartable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Restartable]:
    if request.param == "redis":
        server = RedisServer(tmp_path / "redis", appendonly="yes")
        yield Restartable(server.url(), server.restart)
        server.kill()
    else:
        own: PostgresServer = request.getfixturevalue("own_server")

        def restart() -> None:
            own.stop(SIGINT)
            own.start()

        yield Restartable(own.url(), restart)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Site]:
    """On a file: for what is the worker's own, whatever the store."""
    with site_on(tmp_path, url=f"sqlite:///{tmp_path}/channels.db?busy_timeout=0.2") as site:
        yield site
