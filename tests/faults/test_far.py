"""A broker that is far away: every way to it and back takes a while, and the worker's throughput does not collapse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import Final

import pytest

from outwork import Outwork
from outwork.brokers.base import Broker, Exchanged, Settlement, Share
from outwork.job import State
from support.inside import working
from support.mariadb_server import shared_mariadb
from support.postgres_server import shared_postgres
from support.proxy import Proxy
from support.rabbitmq_server import RabbitServer
from support.redis_server import RedisServer
from support.waiting import until

ONE_WAY: Final = 0.06
"""Seconds. There and back takes longer than a prefetched job may wait in a worker's hand."""
JOBS: Final = 2000
FEW: Final = 120
"""Exchanges. A worker that gives back what came late needs one for each handful of jobs: 250, and more."""


class Watched:
    """Counts what a worker asks of its broker."""

    def __init__(self, broker: Broker) -> None:
        self.exchanges = 0
        self._lock = Lock()
        self._exchange = broker.exchange
        broker.exchange = self.exchange  # type: ignore[method-assign]

    def exchange(
        self,
        claim_id: str,
        outcomes: Sequence[Settlement],
        queues: Sequence[Share],
        limit: int,
        free: int,
        worker: str,
    ) -> Exchanged:
        with self._lock:
            self.exchanges += 1
        return self._exchange(claim_id, outcomes, queues, limit, free, worker)


@pytest.fixture(params=["redis", "postgresql", "mysql", "rabbitmq", "rabbitmq+postgresql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """The settings of one who is near, and of one who is far away."""
    with ExitStack() as inside:
        near: dict[str, str] = {}
        far: dict[str, str] = {}

        def at(name: str, url: str, port: int) -> None:
            proxy = inside.enter_context(Proxy(port, ONE_WAY))
            near[name], far[name] = url, url.replace(f":{port}", f":{proxy.port}")

        kind, _, store = request.param.partition("+")
        if kind == "redis":
            server: RedisServer = request.getfixturevalue("redis_server")
            server.ask("FLUSHALL")
            at("broker_url", server.url(), server.port)
        if kind == "mysql":
            shared_mariadb().empty()
            at("broker_url", shared_mariadb().url(), shared_mariadb().port)
        if kind == "rabbitmq":
            rabbit: RabbitServer = request.getfixturevalue("rabbit_server")
            at("broker_url", rabbit.url(), rabbit.port)
        if "postgresql" in (kind, store):
            shared_postgres().empty()
            name = "store_url" if store else "broker_url"
            at(name, shared_postgres().url(), shared_postgres().port)
        yield near, far


@pytest.fixture(scope="module")
def rabbit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    server = RabbitServer(tmp_path_factory.mktemp("rabbit"))
    yield server
    server.close()


def test_a_worker_far_from_its_broker_is_not_starved(urls: tuple[dict[str, str], dict[str, str]]) -> None:
    near, far = urls
    ran: Counter[int] = Counter()

    def application(settings: dict[str, str]) -> tuple[Outwork, Callable[..., object]]:
        app = Outwork(broker_url=settings["broker_url"], store_url=settings.get("store_url"))

        @app.task(name="tiny", queue_name="far")
        def tiny(number: int) -> None:
            ran[number] += 1

        return app, lambda: [*app.enqueue_many(tiny.bind(number) for number in range(JOBS))].clear()

    app, enqueue = application(near)
    enqueue()
    worker_app, _ = application(far)
    watched = Watched(worker_app.broker)
    with working(worker_app, concurrency=8, queues={"far": None}) as inside:
        until(lambda: len(ran) == JOBS, "the end of all jobs", seconds=120)
        summary = inside.stop()
    assert ran == Counter(range(JOBS))
    assert summary.done == JOBS
    assert watched.exchanges < FEW
    if "rabbitmq" not in str(type(app.broker)):
        assert {count.state: count.jobs for count in app.store.counts() if count.jobs} == {State.SUCCESSFUL: JOBS}
    app.close()
    worker_app.close()
