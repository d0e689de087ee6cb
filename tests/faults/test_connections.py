"""How many connections to its server a process opens, as docs/production.md says it."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from outwork import Outwork
from support import chores
from support.ledger import Ledger
from support.mariadb_server import shared_mariadb
from support.postgres_server import shared_postgres
from support.rabbitmq_server import own_url
from support.redis_server import RedisServer
from support.waiting import until
from support.workers import Workers

DOCS: Final = Path(__file__).parents[2] / "docs"
NAMES: Final = {"postgresql": "PostgreSQL", "mysql": "MySQL, MariaDB", "redis": "Redis", "amqp": "RabbitMQ"}
THREADS: Final = 8
TARGET: Final = "support.chores"


@pytest.fixture(params=[*NAMES])
def broker_url(request: pytest.FixtureRequest) -> str:
    """An empty broker on each server."""
    if request.param == "amqp":
        return own_url()
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        server.ask("FLUSHALL")
        return server.url()
    database = shared_postgres() if request.param == "postgresql" else shared_mariadb()
    database.empty()
    return database.url()


def documented(scheme: str) -> list[int]:
    """The most of a process that enqueues and of a worker process, each with so many `threads` at it."""
    section = (DOCS / "production.md").read_text().partition("## Connections")[2]
    [cells] = re.findall(rf"^\| {NAMES[scheme]} \| ([^|]*) \| ([^|]*) \|", section, re.MULTILINE)
    return [sum(int(word) for word in cell.replace("threads", str(THREADS)).split(" + ")) for cell in cells]


def open_now(pid: int, port: int) -> int:
    """How many TCP connections to this port of ours the process has."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(entry)))
        except FileNotFoundError:  # closed meanwhile
            continue
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[9] in inodes and int(row[2].partition(":")[2], 16) == port for row in rows)


@contextmanager
def watched(look: Callable[[], int]) -> Iterator[list[int]]:
    """What `look` has seen, again and again."""
    seen: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            seen.append(look())

    thread = threading.Thread(target=watch)
    thread.start()
    yield seen
    over.set()
    thread.join(60)


def enqueue_much(app: Outwork, keys: str) -> list[Any]:
    """From many threads at once, and lookups between."""

    def some(number: int) -> list[Any]:
        return [chores.step.enqueue(f"{keys}-{number}-{one}", 0.001) for one in range(25)]

    with ThreadPoolExecutor(THREADS) as pool:
        return [result for results in pool.map(some, range(THREADS)) for result in results]


def test_no_more_than_documented(app: Outwork, broker_url: str, ledger: Ledger, workers: Workers) -> None:
    """Threads that enqueue and wait for results, and a worker whose tasks enqueue others."""
    parts = urlsplit(broker_url)
    port = int(parts.port or 0)
    web, worker = documented(parts.scheme)
    running = workers.start(TARGET, "--concurrency", str(THREADS)).ready()
    [process] = running.worker_pids()
    with watched(lambda: open_now(os.getpid(), port)) as here, watched(lambda: open_now(process, port)) as there:
        results = enqueue_much(app, "web")
        app.enqueue_many(chores.relay.bind(f"relay-{number}") for number in range(200))
        if app.broker.capabilities.results:
            with ThreadPoolExecutor(THREADS) as pool:
                assert len([*pool.map(lambda result: result.get(timeout=60), results)]) == len(results)
        until(lambda: ledger.count("E") >= len(results) + 2 * 200, "the end of all jobs", seconds=60)
    print(parts.scheme, max(here), max(there))
    assert 0 < max(here) <= web
    assert 0 < max(there) <= worker
    assert running.stop() == 0
