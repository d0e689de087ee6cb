"""Enqueues of jobs that are bound, beside plain ones, turn and turn about in one run: python -m benchmarks.bound

    --only sqlite,redis,postgresql,mysql     --rounds 20     --clients 1 (threads that enqueue one at a time)

Every job has a key of its own, as it mostly is. The servers are private ones, as the tests start them; fsync is on.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Raw

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from outwork.brokers import open_broker  # noqa: E402
from outwork.brokers.base import Broker  # noqa: E402
from outwork.ids import new_job_id  # noqa: E402
from outwork.job import Job  # noqa: E402
from outwork.ties import Gate, Ties, Unique  # noqa: E402
from support.mariadb_server import MariaDBServer  # noqa: E402
from support.postgres_server import PostgresServer  # noqa: E402
from support.redis_server import RedisServer  # noqa: E402

ONES: Final = 100
"""Enqueues of one job in a round."""
MANY: Final = 1000
KINDS: Final[dict[str, Callable[[str], Ties | None]]] = {
    "plain": lambda key: None,
    "unique": lambda key: Ties(unique=Unique(key)),
    "fair": lambda key: Ties(fair=key[-3:]),
    "limit": lambda key: Ties(gates=(Gate(key, most=1),)),
}


def jobs(kind: str, count: int) -> list[Job]:
    args = Raw(b'{"x":1,"y":"hello"}')
    ids = [new_job_id() for _ in range(count)]
    return [Job(v=1, id=i, task="bench.add", args=args, queue="bench", ties=KINDS[kind](f"bench:{i}")) for i in ids]


def one_at_a_time(broker: Broker, kind: str, clients: ThreadPoolExecutor) -> float:
    """Seconds for one."""
    some = jobs(kind, ONES)
    begin = time.perf_counter()
    list(clients.map(lambda job: broker.enqueue([job]), some))
    return (time.perf_counter() - begin) / ONES


def in_bulk(broker: Broker, kind: str) -> float:
    """Seconds for a thousand."""
    some = jobs(kind, MANY)
    begin = time.perf_counter()
    broker.enqueue(some)
    return time.perf_counter() - begin


@contextmanager
def place(name: str, folder: Path) -> Iterator[str]:
    """The URL of a broker that nobody else uses."""
    if name == "sqlite":
        yield f"sqlite:///{folder}/jobs.db"
        return
    if name == "redis":
        redis = RedisServer(folder / "redis", appendonly="yes")
        try:
            yield redis.url()
        finally:
            redis.kill()
        return
    server = PostgresServer() if name == "postgresql" else MariaDBServer()
    try:
        yield server.url()
    finally:
        server.stop()


def measure(name: str, rounds: int, clients: int) -> None:
    with tempfile.TemporaryDirectory() as folder, place(name, Path(folder)) as url:
        broker = open_broker(url)
        ones: dict[str, list[float]] = {kind: [] for kind in KINDS}
        bulks: dict[str, list[float]] = {kind: [] for kind in KINDS}
        with ThreadPoolExecutor(clients) as pool:
            for number in range(rounds + 2):
                for kind in KINDS:
                    one, bulk = one_at_a_time(broker, kind, pool), in_bulk(broker, kind)
                    if number > 1:  # the first two warm up
                        ones[kind].append(one)
                        bulks[kind].append(bulk)
        broker.close()
    for what, unit, times in (("one at a time", 1, ones), ("1,000 at once", MANY, bulks)):
        plain = statistics.median(times["plain"])
        said = [f"{name:11} {what}: plain {unit / plain:,.0f}/s"]
        said += [f"{kind} {plain / statistics.median(times[kind]):.0%}" for kind in KINDS if kind != "plain"]
        print(", ".join(said), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="sqlite,redis,postgresql,mysql")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--clients", type=int, default=1)
    given = parser.parse_args()
    for name in given.only.split(","):
        measure(name, given.rounds, given.clients)


if __name__ == "__main__":
    main()
