"""PostgreSQL and MySQL/MariaDB beside their bare drivers, in the same run: python -m benchmarks.sql_brokers

    --only postgresql|mysql   one of them          --quick   fewer jobs
    --growth [JOBS]           a million jobs through PostgreSQL, with and without a transaction that pins a snapshot

The servers are private ones, as the tests start them; fsync is on.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec import Raw

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from outwork import Outwork  # noqa: E402
from outwork.brokers import open_broker  # noqa: E402
from outwork.brokers.base import Settlement, Share  # noqa: E402
from outwork.codec import encode_job  # noqa: E402
from outwork.ids import new_job_id  # noqa: E402
from outwork.job import Done, Job, Release  # noqa: E402
from outwork.worker.plan import Plan  # noqa: E402
from outwork.worker.worker import Worker  # noqa: E402
from support.mariadb_server import MariaDBServer  # noqa: E402
from support.postgres_server import PostgresServer  # noqa: E402

BATCH = 200
COLUMNS = "id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, expires_at, body"
PRODUCER = """
import sys, time
from msgspec import Raw
from outwork.brokers import open_broker
from outwork.ids import new_job_id
from outwork.job import Job
broker = open_broker(sys.argv[1])
for line in sys.stdin:
    job = Job(v=1, id=new_job_id(), task="bench.add", args=Raw(b'{"x":1,"y":"hello"}'), queue="bench")
    before = time.monotonic()
    broker.enqueue([job])
    print(before, time.monotonic(), flush=True)
broker.close()
"""

app = Outwork()
entered: list[float] = []
arrived = threading.Event()


@app.task(name="bench.add", queue_name="bench")
def add(x: int, y: str) -> int:
    entered.append(time.monotonic())
    arrived.set()
    return x


def jobs(count: int) -> list[Job]:
    args = Raw(b'{"x":1,"y":"hello"}')
    return [
        Job(v=1, id=new_job_id(), task="bench.add", args=args, queue="bench", created=time.time()) for _ in range(count)
    ]


def drain(broker: Any, most: int | None = None) -> float:
    """Settle and claim in batches until nothing is left, or `most` are done; jobs a second."""
    held: list[Settlement] = []
    total = 0
    broker.exchange(secrets.token_hex(16), [], [], 0, 0, "bench-1")  # the first one looks closer
    begin = time.perf_counter()
    while True:
        answer = broker.exchange(secrets.token_hex(16), held, [Share("bench", BATCH)], BATCH, BATCH, "bench-1")
        total += len(held)
        if not answer.claimed or (most is not None and total >= most):
            rate = total / (time.perf_counter() - begin)
            give_back = [Settlement(one.id, one.claim_id, Release()) for one in answer.claimed]
            broker.exchange(secrets.token_hex(16), give_back, [], 0, 0, "bench-1")
            return rate
        held = [Settlement(one.id, one.claim_id, Done(b"3")) for one in answer.claimed]


def fill(broker: Any, many: list[Job]) -> None:
    for at in range(0, len(many), 1000):
        broker.enqueue(many[at : at + 1000])


def work(url: str) -> float:
    """One worker in this process until nothing is left; jobs a second."""
    app._broker = app._settings = None
    app.override({"broker_url": url})
    entered.clear()
    worker = Worker(app, Plan(queues={"bench": None}, drain=True))
    begin = time.perf_counter()
    done = worker.run().done
    rate = done / (time.perf_counter() - begin)
    app.broker.close()
    return rate


def latency(url: str, rounds: int) -> tuple[list[float], list[float]]:
    """From a process' call of enqueue, and from its return, to the first line of the task in this one; milliseconds."""
    app._broker = app._settings = None
    app.override({"broker_url": url})
    worker = Worker(app, Plan(queues={"bench": None}))
    running = threading.Thread(target=worker.run)
    running.start()
    producer = subprocess.Popen([sys.executable, "-c", PRODUCER, url], stdin=-1, stdout=-1, text=True)
    assert producer.stdin
    assert producer.stdout
    from_call: list[float] = []
    from_return: list[float] = []
    for _ in range(rounds):
        entered.clear()
        arrived.clear()
        time.sleep(0.05)  # it is asleep by then; this is a benchmark, not a test
        print("go", file=producer.stdin, flush=True)
        before, after = map(float, producer.stdout.readline().split())
        arrived.wait(30)
        from_call.append((entered[0] - before) * 1000)
        from_return.append((entered[0] - after) * 1000)
    producer.stdin.close()
    producer.stdout.close()
    producer.wait()
    worker.stop()
    running.join()
    app.broker.close()
    return sorted(from_call[5:]), sorted(from_return[5:])


class Postgres:
    name = "postgresql"

    def __init__(self) -> None:
        self.server = PostgresServer()
        self.url = self.server.url()

    def bare_many(self, many: list[Job]) -> float:
        """COPY, 1,000 in a transaction; seconds."""
        now = time.time()
        rows = [(j.id, j.task, j.queue, 0, now, now, 3, False, None, encode_job(j)) for j in many]
        with self.server.connect() as connection, connection.cursor() as cursor:
            begin = time.perf_counter()
            for at in range(0, len(rows), 1000):
                with cursor.copy(f"COPY outwork_job ({COLUMNS}) FROM STDIN") as copy:
                    for row in rows[at : at + 1000]:
                        copy.write_row(row)
            return time.perf_counter() - begin

    def bare_one(self, many: list[Job]) -> float:
        now = time.time()
        rows = [(j.id, j.task, j.queue, 0, now, now, 3, False, None, encode_job(j)) for j in many]
        with self.server.connect(prepare_threshold=0) as connection, connection.cursor() as cursor:
            sql = f"INSERT INTO outwork_job ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            begin = time.perf_counter()
            for row in rows:
                cursor.execute(sql, row)
            return time.perf_counter() - begin

    def crowd(self, count: int) -> None:
        """So many finished and so many waiting jobs."""
        with self.server.connect() as connection:
            new = f"""INSERT INTO outwork_job ({COLUMNS})
                SELECT %s || lpad(n::text, 8, '0'), 'bench.add', 'bench', 0, 1.7e9 + n, 1.7e9, 3, false, NULL,
                       convert_to('{{"v":1,"id":"' || %s || lpad(n::text, 8, '0') ||
                       '","task":"bench.add","args":{{"x":1,"y":"hello"}},"queue":"bench"}}', 'UTF8')
                FROM generate_series(1, %s) n"""
            for prefix in ("019a0000-", "019b0000-"):
                connection.execute(new.replace("{{", "{").replace("}}", "}"), [prefix, prefix, count])
            connection.execute(
                "INSERT INTO outwork_ended SELECT id, 'SUCCESSFUL', queue, task, due, 4e9, md5(id), 'bench-1', due,"
                " false, '3' FROM outwork_job WHERE id LIKE '019a0000-%'"
            )
            connection.execute(
                "INSERT INTO outwork_ready SELECT queue, false, 0, due, id, task FROM outwork_job"
                " WHERE id LIKE '019b0000-%'"
            )

    def empty(self) -> None:
        with self.server.connect() as connection:
            connection.execute("TRUNCATE outwork_job, outwork_ready, outwork_scheduled, outwork_running, outwork_ended")


class MariaDB:
    name = "mysql"

    def __init__(self) -> None:
        self.server = MariaDBServer()
        self.url = self.server.url()

    def bare_many(self, many: list[Job]) -> float:
        now = time.time()
        rows = [(j.id, j.task, j.queue, 0, now, now, 3, False, None, encode_job(j), "t" * 32) for j in many]
        with closing(self.server.connect()) as connection, connection.cursor() as cursor:
            sql = f"INSERT INTO outwork_job ({COLUMNS}, token) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            begin = time.perf_counter()
            for at in range(0, len(rows), 1000):
                cursor.executemany(sql, rows[at : at + 1000])
            return time.perf_counter() - begin

    def bare_one(self, many: list[Job]) -> float:
        now = time.time()
        rows = [(j.id, j.task, j.queue, 0, now, now, 3, False, None, encode_job(j), "t" * 32) for j in many]
        with closing(self.server.connect()) as connection, connection.cursor() as cursor:
            sql = f"INSERT INTO outwork_job ({COLUMNS}, token) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            begin = time.perf_counter()
            for row in rows:
                cursor.execute(sql, row)
            return time.perf_counter() - begin

    def crowd(self, count: int) -> None:
        with closing(self.server.connect()) as connection, connection.cursor() as cursor:
            for prefix in ("019a0000-", "019b0000-"):
                cursor.execute(
                    f"INSERT INTO outwork_job ({COLUMNS}, token) SELECT concat(%s, lpad(seq, 8, '0')), 'bench.add',"
                    " 'bench', 0, 1.7e9 + seq, 1.7e9, 3, false, NULL,"
                    """ concat('{"v":1,"id":"', %s, lpad(seq, 8, '0'),"""
                    """ '","task":"bench.add","args":{"x":1,"y":"hello"},"queue":"bench"}'), 't'"""
                    f" FROM seq_1_to_{count}",
                    [prefix, prefix],
                )
            cursor.execute(
                "INSERT INTO outwork_ended SELECT id, 'SUCCESSFUL', queue, task, due, 4e9, md5(id), 'bench-1', due,"
                " false, '3' FROM outwork_job WHERE id LIKE '019a0000-%'"
            )
            cursor.execute(
                "INSERT INTO outwork_ready SELECT queue, false, 0, due, id, task, NULL FROM outwork_job"
                " WHERE id LIKE '019b0000-%'"
            )

    def empty(self) -> None:
        with closing(self.server.connect()) as connection, connection.cursor() as cursor:
            for table in ("job", "ready", "scheduled", "running", "ended"):
                cursor.execute(f"TRUNCATE outwork_{table}")


def show(name: str, rate: float, compared: float | None = None) -> None:
    ratio = "" if compared is None else f"   {rate / compared:6.1%}"
    print(f"{name:<56}{rate:>10,.0f}/s  {1e6 / rate:>9.2f} µs{ratio}", flush=True)


def best(measure: Callable[[], float]) -> float:
    return max(measure() for _ in range(3))


def together(broker: Any, threads: int, each: int) -> float:
    """So many threads that enqueue one at a time."""
    batches = [jobs(each) for _ in range(threads)]

    def run(batch: list[Job]) -> None:
        for job in batch:
            broker.enqueue([job])

    running = [threading.Thread(target=run, args=[batch]) for batch in batches]
    begin = time.perf_counter()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return threads * each / (time.perf_counter() - begin)


def measure(place: Any, count: int, million: int, rounds: int) -> None:
    print(f"---- {place.name}", flush=True)
    broker: Any = open_broker(place.url)
    broker.counts()

    def fresh(call: Callable[[], float]) -> Callable[[], float]:
        def run() -> float:
            place.empty()
            return call()

        return run

    many, few = count, count // 20
    bare = best(fresh(lambda: many / place.bare_many(jobs(many))))
    show("bare driver, 1,000 rows at a time", bare)

    def enqueue(total: int, size: int) -> float:
        new = jobs(total)
        begin = time.perf_counter()
        for at in range(0, total, size):
            broker.enqueue(new[at : at + size])
        return total / (time.perf_counter() - begin)

    enqueued = best(fresh(lambda: enqueue(many, 1000)))
    show("enqueue of 1,000", enqueued, bare)
    single = best(fresh(lambda: few / place.bare_one(jobs(few))))
    show("bare insert, autocommit", single)
    show("enqueue of 1", best(fresh(lambda: enqueue(few, 1))), single)
    show("enqueue of 1, eight threads", best(fresh(lambda: together(broker, 8, few // 4))))

    def drained() -> float:
        fill(broker, jobs(many))
        return drain(broker)

    exchanged = best(fresh(drained))
    show("exchange: settle 200, claim 200", exchanged)

    def worked() -> float:
        fill(broker, jobs(many))
        return work(place.url)

    show("one worker, no-op task", best(fresh(worked)))

    from_call, from_return = latency(place.url, rounds)
    for name, times in (("call of enqueue", from_call), ("return of enqueue", from_return)):
        p99 = times[int(len(times) * 0.99)]
        print(f"{name} -> task entered: p50 {statistics.median(times):.3f} ms, p99 {p99:.3f} ms", flush=True)

    if million:
        place.empty()
        place.crowd(million)
        beside = [(enqueue(many, 1000), drain(broker, many)) for _ in range(3)]
        show(f"enqueue of 1,000 beside {million:,} + {million:,}", max(rate for rate, _ in beside), enqueued)
        show(f"exchange beside {million:,} + {million:,}", max(rate for _, rate in beside), exchanged)
    broker.close()


def growth(place: Postgres, total: int) -> None:
    """Dead rows and sizes while jobs go through, and the rate beside a transaction that keeps its snapshot."""
    broker: Any = open_broker(place.url)
    for pinned in (False, True):
        place.empty()
        with place.server.connect(autocommit=False) as other:
            if pinned:
                other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                other.execute("SELECT count(*) FROM outwork_meta")
            print(f"---- {total:,} jobs{', a snapshot pinned' if pinned else ''}", flush=True)
            part = total // 10
            for number in range(10):
                fill(broker, jobs(part))
                rate = drain(broker)
                found = place.server.ask(
                    "SELECT sum(n_dead_tup) FILTER (WHERE relname <> 'outwork_ended'), "
                    "pg_relation_size('outwork_ready') + pg_indexes_size('outwork_ready') "
                    "+ pg_relation_size('outwork_running') + pg_indexes_size('outwork_running') "
                    "FROM pg_stat_user_tables WHERE relname LIKE 'outwork%'"
                )
                print(
                    f"{(number + 1) * part:>10,}  {rate:>9,.0f}/s  dead rows {found[0][0]:>9,}  "
                    f"hot tables {found[0][1] / 1e6:7.1f} MB",
                    flush=True,
                )
            other.rollback()
    broker.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=["postgresql", "mysql"])
    parser.add_argument("--growth", type=int, nargs="?", const=1_000_000, metavar="JOBS")
    chosen = parser.parse_args()
    count, million, rounds = (10_000, 0, 60) if chosen.quick else (40_000, 1_000_000, 300)
    if chosen.growth:
        place = Postgres()
        try:
            open_broker(place.url).counts()  # type: ignore[attr-defined]
            growth(place, chosen.growth)
        finally:
            place.server.clean_up()
        return
    for kind in (Postgres, MariaDB):
        if chosen.only in (None, kind.name):
            place_ = kind()
            try:
                measure(place_, count, million, rounds)
            finally:
                place_.server.clean_up()


if __name__ == "__main__":
    main()
