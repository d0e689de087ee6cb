"""Each broker beside the least that a queue can be on the same driver, turn and turn about: python -m benchmarks.bare

    python -m benchmarks.bare [postgresql] [redis] [sqlite] [--jobs N] [--rounds N]

Speeds of a shared machine swing by half from minute to minute, so what counts here is the ratio: both sides are
measured in each round, and the medians are compared. The bare queues keep one table (or a list and two hashes), know no
lease, no retry, no priority, no fencing and no second queue: they claim and settle in batches of 200, as we do, and
that is all.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.__main__ import BROKERS
from benchmarks.sql_brokers import drain, fill, jobs, latency
from outwork.brokers import open_broker

BATCH = 200
BODY = (
    b'{"v":1,"id":"01a1fdf2-036a-7863-9f46-ff2bd814f372","task":"bench.add","args":{"x":1,"y":"hello"},"queue":"bench"}'
)
PAUSE = 0.05
"""Seconds of silence before each measured message: by then everybody sleeps, and the caches are cold."""


class Bare(ABC):
    """A queue of nothing but a driver's calls."""

    producer: ClassVar[str] = ""
    """A program that puts one message for each line it reads, and writes when it began and when it was done."""

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def fill(self, count: int) -> None: ...

    @abstractmethod
    def swap(self, held: list[Any]) -> list[Any]:
        """Settle what is held and claim up to 200 more."""

    @abstractmethod
    def nothing(self) -> object:
        """The least round trip there is."""

    def wait_and_claim(self) -> None:
        """Sleep until a message comes, and claim it."""
        raise NotImplementedError("there is no producer")

    def drain(self, count: int) -> float:
        self.fill(count)
        held: list[Any] = []
        done = 0
        begin = time.perf_counter()
        while held := self.swap(held):
            done += len(held)
        return done / (time.perf_counter() - begin)

    def latency(self, rounds: int) -> list[tuple[float, float]]:
        """(call of the insert -> claimed, its return -> claimed), milliseconds."""
        claimed: list[float] = []
        asleep, came = threading.Event(), threading.Event()

        def consume() -> None:
            for _ in range(rounds):
                asleep.set()
                self.wait_and_claim()
                claimed.append(time.monotonic())
                came.set()

        consumer = threading.Thread(target=consume)
        consumer.start()
        producer = subprocess.Popen([sys.executable, "-c", self.producer, self.url], stdin=-1, stdout=-1, text=True)
        assert producer.stdin
        assert producer.stdout
        times: list[tuple[float, float]] = []
        for _ in range(rounds):
            asleep.wait()
            asleep.clear()
            came.clear()
            time.sleep(PAUSE)
            print("go", file=producer.stdin, flush=True)
            began, ended = map(float, producer.stdout.readline().split())
            came.wait(10)
            times.append(((claimed[-1] - began) * 1e3, (claimed[-1] - ended) * 1e3))
        producer.stdin.close()
        producer.stdout.close()
        producer.wait()
        consumer.join()
        return times[5:]


class BarePostgreSQL(Bare):
    producer = """
import sys, time, psycopg
connection = psycopg.connect(sys.argv[1], autocommit=True, prepare_threshold=0)
for line in sys.stdin:
    began = time.monotonic()
    with connection.pipeline(), connection.transaction():
        connection.execute("INSERT INTO bare (body) VALUES (%s)", [b"x" * 100])
        connection.execute("NOTIFY bare")
    print(began, time.monotonic(), flush=True)
"""

    def __init__(self, url: str) -> None:
        import psycopg

        super().__init__(url)
        self._worker = psycopg.connect(url, autocommit=True, prepare_threshold=0)
        self._listener = psycopg.connect(url, autocommit=True)
        self._listener.execute("LISTEN bare")
        self._cursor: Any = self._worker.cursor(binary=True)
        self._cursor.execute(
            "CREATE TABLE bare (id bigserial PRIMARY KEY, state smallint NOT NULL DEFAULT 0, claim text, body bytea,"
            " result bytea)"
        )
        self._cursor.execute("CREATE INDEX ON bare (id) WHERE state = 0")

    def fill(self, count: int) -> None:
        self._cursor.execute("TRUNCATE bare")
        with self._cursor.copy("COPY bare (body) FROM STDIN") as copy:
            for _ in range(count):
                copy.write_row([BODY])
        self._cursor.execute("ANALYZE bare")

    def swap(self, held: list[Any]) -> list[Any]:
        claim = secrets.token_hex(16)
        return list(
            self._cursor.execute(
                """WITH done AS (UPDATE bare SET state = 2, result = %s WHERE id = ANY (%s) AND state = 1),
                    heads AS MATERIALIZED (
                        SELECT id FROM bare WHERE state = 0 ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)
                UPDATE bare SET state = 1, claim = %s FROM heads WHERE bare.id = heads.id
                RETURNING bare.id, bare.body""",
                [b"3", [one[0] for one in held], BATCH, claim],
            )
        )

    def nothing(self) -> object:
        return self._cursor.execute("SELECT 1").fetchall()

    def wait_and_claim(self) -> None:
        next(self._listener.notifies(stop_after=1))
        self._cursor.execute(
            """WITH lax AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
                heads AS MATERIALIZED (
                    SELECT id FROM bare, lax WHERE state = 0 ORDER BY id LIMIT 1 FOR UPDATE OF bare SKIP LOCKED)
            UPDATE bare SET state = 1 FROM heads WHERE bare.id = heads.id RETURNING bare.body"""
        ).fetchall()


class BareRedis(Bare):
    producer = """
import sys, time, redis
server = redis.Redis.from_url(sys.argv[1])
server.ping()
for line in sys.stdin:
    began = time.monotonic()
    server.lpush("bare", b"x" * 100)
    print(began, time.monotonic(), flush=True)
"""
    SWAP = """
        for i = 2, #ARGV, 2 do
            redis.call('HDEL', KEYS[2], ARGV[i])
            redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
        end
        local taken = redis.call('RPOP', KEYS[1], ARGV[1]) or {}
        for i, one in ipairs(taken) do redis.call('HSET', KEYS[2], string.sub(one, 1, 32), one) end
        return taken"""

    def __init__(self, url: str) -> None:
        import redis

        super().__init__(url)
        self._server: Any = redis.Redis.from_url(url)
        self._swap = self._server.register_script(self.SWAP)

    def fill(self, count: int) -> None:
        self._server.delete("bare", "bare:held", "bare:results")
        for _ in range(0, count, 1000):
            self._server.lpush("bare", *(secrets.token_hex(16).encode() + BODY for _ in range(1000)))

    def swap(self, held: list[Any]) -> list[Any]:
        given = [part for one in held for part in (one[:32], b"3")]
        found: list[Any] = self._swap(["bare", "bare:held", "bare:results"], [BATCH, *given])
        return found

    def nothing(self) -> object:
        return self._server.ping()

    def wait_and_claim(self) -> None:
        self._server.blmove("bare", "bare:held:list", 30, "RIGHT", "LEFT")


class BareSQLite(Bare):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._file = sqlite3.connect(url.removeprefix("sqlite:///") + ".bare", isolation_level=None)
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = NORMAL")
        self._file.execute(
            "CREATE TABLE bare (id INTEGER PRIMARY KEY, state INTEGER NOT NULL, claim TEXT, body TEXT, result TEXT)"
        )
        self._file.execute("CREATE INDEX bare_ready ON bare (id) WHERE state = 0")

    def fill(self, count: int) -> None:
        self._file.execute("DELETE FROM bare")
        self._file.execute("BEGIN")
        self._file.executemany("INSERT INTO bare (state, body) VALUES (0, ?)", [[BODY.decode()]] * count)
        self._file.execute("COMMIT")

    def swap(self, held: list[Any]) -> list[Any]:
        claim = secrets.token_hex(16)
        self._file.execute("BEGIN IMMEDIATE")
        self._file.executemany("UPDATE bare SET state = 2, result = ? WHERE id = ?", [("3", one[0]) for one in held])
        found = self._file.execute(
            "UPDATE bare SET state = 1, claim = ? WHERE id IN (SELECT id FROM bare WHERE state = 0 ORDER BY id LIMIT ?)"
            " RETURNING id, body",
            [claim, BATCH],
        ).fetchall()
        self._file.execute("COMMIT")
        return found

    def nothing(self) -> object:
        return self._file.execute("SELECT 1").fetchall()


BARE: dict[str, type[Bare]] = {"postgresql": BarePostgreSQL, "redis": BareRedis, "sqlite": BareSQLite}


def cold(call: Callable[[], object], rounds: int) -> float:
    """How long something takes after a silence; the median in milliseconds."""
    times: list[float] = []
    for _ in range(rounds):
        time.sleep(PAUSE)
        begin = time.perf_counter()
        call()
        times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times)


def hop(rounds: int) -> float:
    """From one thread to another that sleeps; the median in milliseconds."""
    there, back = threading.Semaphore(0), threading.Semaphore(0)
    entered: list[float] = []

    def answer() -> None:
        for _ in range(rounds):
            there.acquire()
            entered.append(time.perf_counter())
            back.release()

    thread = threading.Thread(target=answer)
    thread.start()
    times: list[float] = []
    for _ in range(rounds):
        time.sleep(PAUSE)
        begin = time.perf_counter()
        there.release()
        back.acquire()
        times.append((entered[-1] - begin) * 1e3)
    thread.join()
    return statistics.median(times)


def measure(name: str, url: str, count: int, rounds: int) -> None:
    print(f"---- {name}; load average {os.getloadavg()[0]:.1f}", flush=True)
    bare = BARE[name](url)
    rates: list[tuple[float, float]] = []
    for _ in range(5):
        theirs = bare.drain(count)
        broker = open_broker(url)
        fill(broker, jobs(count))
        rates.append((theirs, drain(broker)))
        broker.close()
    theirs, ours = (statistics.median(side) for side in zip(*rates, strict=True))
    ratio = statistics.median(mine / other for other, mine in rates)
    print(f"settle 200, claim 200: bare {theirs:>9,.0f}/s, ours {ours:>9,.0f}/s   {ratio:6.1%}", flush=True)
    print(
        f"after {PAUSE} s of silence: round trip {cold(bare.nothing, rounds):.2f} ms, thread hop {hop(rounds):.2f} ms"
    )
    if bare.producer:
        bare.fill(0)
        for side, times in (("bare", bare.latency(rounds)), ("ours", latency_of(url, rounds))):
            call, back = (statistics.median(kind) for kind in zip(*times, strict=True))
            print(f"latency, {side}: p50 {call:.2f} ms from the call, {back:.2f} ms from its return", flush=True)


def latency_of(url: str, rounds: int) -> list[tuple[float, float]]:
    return list(zip(*latency(url, rounds), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("brokers", nargs="*", choices=[*BARE, []], help="all of them if none is named")
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args()
    for name in arguments.brokers or BARE:
        with tempfile.TemporaryDirectory() as folder, BROKERS[name](Path(folder)) as urls:
            measure(name, urls[0], arguments.jobs, arguments.rounds)


if __name__ == "__main__":
    main()
