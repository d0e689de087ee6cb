"""A store of each kind for the workers, empty, with its server in reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGINT
from typing import NamedTuple

import pytest

from contrib.channels.site_of_thumbs import Site, site_on
from support.postgres_server import own_postgres, shared_postgres
from support.redis_server import RedisServer


class Place(NamedTuple):
    """Where a layer is, and how its server is restarted as by a crash (None: there is no server)."""

    url: str
    restart: Callable[[], None] | None


@pytest.fixture(params=["sqlite", "redis", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "redis":
        server = RedisServer(tmp_path / "redis", appendonly="yes")
        yield Place(server.url(), lambda: server.restart(kill=True))
        server.kill()
    elif request.param == "postgresql":
        server_ = shared_postgres()
        for table in ("message", "member", "reader"):
            server_.ask(f"DROP TABLE IF EXISTS outwork_channel_{table}")
        yield Place(server_.url(), None)
    else:
        yield Place(f"sqlite:///{tmp_path}/channels.db", None)


@pytest.fixture(params=["redis", "postgresql"])
def restartable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A server of the test's own, with a restart that keeps what the store keeps."""
    if request.param == "redis":
        server = RedisServer(tmp_path / "redis", appendonly="yes")
        yield Place(server.url(), server.restart)
        server.kill()
    else:
        with own_postgres() as own:

            def restart() -> None:
                own.stop(SIGINT)
                own.start()

            yield Place(own.url(), restart)


@pytest.fixture
def site(place: Place, tmp_path: Path) -> Iterator[Site]:
    with site_on(tmp_path, url=place.url) as site:
        yield site


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Site]:
    """On a file: for what is the worker's own, whatever the store."""
    with site_on(tmp_path, url=f"sqlite:///{tmp_path}/channels.db") as site:
        yield site
