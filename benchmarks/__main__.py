"""All measurements, on private servers: `python -m benchmarks [sqlite|redis|postgresql|mysql|rabbitmq]... [--bare]`.

For each broker the measurements of `benchmarks.endtoend` with a real worker process; with `--bare` also the script that
compares it with its bare driver. What the table in `docs/benchmarks.md` says was printed by this.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))


@contextmanager
def sqlite(folder: Path) -> Iterator[list[str]]:
    yield [f"sqlite:///{folder}/bench.db"]


@contextmanager
def redis(folder: Path) -> Iterator[list[str]]:
    from support.redis_server import RedisServer

    server = RedisServer(folder, appendonly="yes")
    try:
        yield [server.url()]
    finally:
        server.stop()


@contextmanager
def postgresql(folder: Path) -> Iterator[list[str]]:
    from support.postgres_server import PostgresServer

    server = PostgresServer()
    try:
        yield [server.url()]
    finally:
        server.clean_up()


@contextmanager
def mysql(folder: Path) -> Iterator[list[str]]:
    from support.mariadb_server import MariaDBServer

    server = MariaDBServer()
    try:
        yield [server.url()]
    finally:
        server.clean_up()


@contextmanager
def rabbitmq(folder: Path) -> Iterator[list[str]]:
    from support.rabbitmq_server import RabbitServer

    server = RabbitServer(folder)
    try:
        yield [server.url(queue_type="classic", prefix="classic"), server.url(prefix="quorum")]
    finally:
        server.stop()


BROKERS: dict[str, Callable[[Path], AbstractContextManager[list[str]]]] = {
    "sqlite": sqlite,
    "redis": redis,
    "postgresql": postgresql,
    "mysql": mysql,
    "rabbitmq": rabbitmq,
}
BARE = {
    "sqlite": [["benchmarks.sqlite_broker"], ["benchmarks.bare", "sqlite"]],
    "redis": [["benchmarks.redis_broker"], ["benchmarks.bare", "redis"]],
    "postgresql": [["benchmarks.sql_brokers", "--only", "postgresql"], ["benchmarks.bare", "postgresql"]],
    "mysql": [["benchmarks.sql_brokers", "--only", "mysql"]],
    "rabbitmq": [["benchmarks.rabbitmq_broker"]],
}


def run(*command: str) -> None:
    subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("brokers", nargs="*", choices=[*BROKERS, []], help="all of them if none is named")
    parser.add_argument("--jobs", default="100000")
    parser.add_argument("--bare", action="store_true", help="also beside the bare driver")
    arguments = parser.parse_args()
    for name in arguments.brokers or BROKERS:
        with tempfile.TemporaryDirectory() as folder, BROKERS[name](Path(folder)) as urls:
            for url in urls:
                print(f"== {name}: {url}", flush=True)
                run("benchmarks.endtoend", url, "--jobs", arguments.jobs)
        if arguments.bare:
            for command in BARE[name]:
                run(*command)
    if not arguments.brokers:
        run("benchmarks.flow")
        run("benchmarks.isolation")
        run("benchmarks.channels")


if __name__ == "__main__":
    main()
