"""Each broker beside the least that a queue can be on the same driver, turn and turn about: python -m benchmarks.bare

The bare queues keep one table (or a list and two hashes), know no lease, no retry, no priority, no fencing and no
second queue: they claim and settle in batches of 200, as we do, and that is all. Speeds of a shared machine swing from
minute to minute, so what counts here is the ratio: both sides are measured in each round.
"""

from __future__ import annotations

import secrets
import sqlite3
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from benchmarks import direct, latency, workload
from benchmarks.endtoend import default_broker, worker
from benchmarks.latency import PAUSE, Latency
from benchmarks.measuring import milliseconds, quantile
from benchmarks.options import options
from benchmarks.results import Recorder, recording
from benchmarks.servers import Place, private
from outwork.brokers import open_broker

BATCH = direct.BATCH
BODY = (
    b'{"v":1,"id":"01a1fdf2-036a-7863-9f46-ff2bd814f372","task":"bench.add","args":{"x":1,"y":"hello"},"queue":"bench"}'
)


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

    def latency(self, rounds: int) -> list[Latency]:
        """Until a message is claimed by somebody who slept."""
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
        times: list[Latency] = []
        for _ in range(rounds):
            asleep.wait()
            asleep.clear()
            came.clear()
            time.sleep(PAUSE)
            print("go", file=producer.stdin, flush=True)
            began, ended = map(float, producer.stdout.readline().split())
            came.wait(10)
            times.append(Latency((claimed[-1] - began) * 1e3, (claimed[-1] - ended) * 1e3))
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


def cold(call: Callable[[], object]) -> float:
    """How long something takes after a silence, in milliseconds."""
    time.sleep(PAUSE)
    return milliseconds(call)


def hops(rounds: int) -> list[float]:
    """From one thread to another that sleeps, in milliseconds."""
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
        began = time.perf_counter()
        there.release()
        back.acquire()
        times.append((entered[-1] - began) * 1e3)
    thread.join()
    return times


def our_latency(url: str, rounds: int) -> list[Latency]:
    with TemporaryDirectory() as below, default_broker(url):
        folder = Path(below)
        with latency.idle(lambda path: worker(url, folder / "report", stamps=path), folder, workload.stamp.enqueue) as (
            _,
            stamps,
        ):
            return stamps.latencies(workload.stamp.enqueue, rounds)


def measure(run: Recorder, place: Place, bare: Bare, jobs: int, rounds: int, latencies: int) -> None:
    subject = place.subject
    for _ in range(rounds):
        run.add(subject, "the least queue, exchange", "jobs/s", bare.drain(jobs))
        with closing(open_broker(place.url)) as broker:
            direct.enqueue(broker, direct.jobs(jobs))
            run.add(subject, "exchange", "jobs/s", direct.drain(broker))
    run.add(subject, "round trip after a pause", "ms", quantile((cold(bare.nothing) for _ in range(latencies)), 0.5))
    run.add(subject, "thread hop after a pause", "ms", quantile(hops(latencies), 0.5))
    if bare.producer:
        bare.fill(0)
        latency.record(run, subject, bare.latency(latencies), "the least queue, ")
        latency.record(run, subject, our_latency(place.url, latencies))


def main() -> None:
    given = options(__doc__, BARE, jobs=(20_000, 2_000), rounds=(5, 1), latencies=(100, 20))
    with recording("bare", quick=given.quick) as run:
        for broker in given.brokers:
            with private(broker, run) as places:
                for place in places:
                    measure(run, place, BARE[broker](place.url), given.jobs, given.rounds, given.latencies)


if __name__ == "__main__":
    main()
