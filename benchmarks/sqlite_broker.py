"""The SQLite broker against the bare driver, in the same run: `python benchmarks/sqlite_broker.py [--quick]`.

The bare driver inserts the very rows that the broker writes, into the same tables. Each number is the best of three.
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
from collections.abc import Callable
from pathlib import Path

from msgspec import Raw

from outwork.brokers.base import Claim, Settlement, Share
from outwork.brokers.sql.sqlite import SQLiteBroker
from outwork.codec import encode_job
from outwork.ids import new_job_id
from outwork.job import Done, Job, Release

BATCH = 200
COLUMNS = "id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, expires_at, body"
PRODUCER = """
import sys, time
from msgspec import Raw
from outwork.brokers.sql.sqlite import SQLiteBroker
from outwork.ids import new_job_id
from outwork.job import Job
broker = SQLiteBroker(sys.argv[1])
for line in sys.stdin:
    job = Job(v=1, id=new_job_id(), task="bench.add", args=Raw(b'{"x":1,"y":"hello"}'), queue="bench")
    before = time.monotonic()
    broker.enqueue([job])
    print(before, time.monotonic(), flush=True)
broker.close()
"""


def jobs(count: int) -> list[Job]:
    args = Raw(b'{"x":1,"y":"hello"}')
    return [
        Job(v=1, id=new_job_id(), task="bench.add", args=args, queue="bench", created=time.time()) for _ in range(count)
    ]


def drain(broker: SQLiteBroker, most: int | None = None) -> float:
    """Settle and claim in batches until nothing is left, or `most` are done; jobs a second."""
    held: list[Settlement] = []
    total = 0
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


def beside_busy_thread(measure: Callable[[], float], interval: float) -> float:
    """The same with a thread that runs Python all the time."""
    stop = threading.Event()
    usual = sys.getswitchinterval()
    sys.setswitchinterval(interval)

    def spin() -> None:
        while not stop.is_set():
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        return measure()
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(usual)


class Bench:
    def __init__(self, directory: str, count: int) -> None:
        self.directory = directory
        self.count = count
        self.files = 0

    def broker(self) -> SQLiteBroker:
        self.files += 1
        return SQLiteBroker(os.path.join(self.directory, f"{self.files}.db"))

    def best(self, measure: Callable[[SQLiteBroker], float]) -> float:
        results: list[float] = []
        for _ in range(3):
            broker = self.broker()
            broker.counts()  # opens it
            results.append(measure(broker))
            broker.close()
        return max(results)

    def bare(self, broker: SQLiteBroker, together: int) -> float:
        """Insert rows by the driver alone, durably; `together` in a transaction. Jobs a second."""
        total = self.count if together > 1 else self.count // 20
        connection = sqlite3.connect(broker.path, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        now = time.time()
        rows = [(job.id, job.task, job.queue, 0, now, now, 3, 0, None, encode_job(job).decode()) for job in jobs(total)]
        insert = f"INSERT INTO outwork_job ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        begin = time.perf_counter()
        for at in range(0, total, together):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(insert, rows[at : at + together])
            connection.execute("COMMIT")
        taken = time.perf_counter() - begin
        connection.close()
        return total / taken

    def enqueue(self, broker: SQLiteBroker, together: int) -> float:
        total = self.count if together > 1 else self.count // 20
        many = jobs(total)
        begin = time.perf_counter()
        for at in range(0, total, together):
            broker.enqueue(many[at : at + together])
        return total / (time.perf_counter() - begin)

    def drained(self, broker: SQLiteBroker) -> float:
        fill(broker, jobs(self.count))
        return drain(broker)

    def drained_busily(self, broker: SQLiteBroker, interval: float) -> float:
        fill(broker, jobs(self.count // 10))
        return beside_busy_thread(lambda: drain(broker), interval)

    def extended(self, broker: SQLiteBroker) -> float:
        fill(broker, jobs(1000))
        claimed = broker.exchange(secrets.token_hex(16), [], [Share("bench", 1000)], 1000, 1000, "bench-1").claimed
        claims = [Claim(one.id, one.claim_id) for one in claimed]
        begin = time.perf_counter()
        for _ in range(20):
            broker.extend(claims)
        return 20 * len(claims) / (time.perf_counter() - begin)


def fill(broker: SQLiteBroker, many: list[Job]) -> None:
    for at in range(0, len(many), 1000):
        broker.enqueue(many[at : at + 1000])


def crowd(broker: SQLiteBroker, finished: int, waiting: int) -> None:
    """So many finished and so many waiting jobs in the same queue, by copying rows: enqueueing them takes a minute."""
    fill(broker, jobs(1))
    connection = sqlite3.connect(broker.path)
    copy = """
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
        INSERT INTO outwork_job (id, task, queue, priority, due, enqueued_at, max_crashes, at_most_once, body)
        SELECT ? || printf('%08d', n.i), task, queue, priority, due, enqueued_at, max_crashes, at_most_once, body
        FROM n CROSS JOIN (SELECT * FROM outwork_job LIMIT 1)"""
    connection.execute(copy, [finished, "019a0000-"])
    connection.execute(copy, [waiting, "019b0000-"])
    connection.execute("""
        INSERT INTO outwork_ended (seq, state, queue, task, finished_at, prune_at, claim_id, worker, started_at, result)
        SELECT seq, 'SUCCESSFUL', queue, task, due, due + 86400, hex(randomblob(16)), 'bench-1', due, '3'
        FROM outwork_job WHERE id LIKE '019a0000-%'""")
    connection.execute("""
        INSERT INTO outwork_ready SELECT queue, 0, 0, due, id, seq, task, NULL
        FROM outwork_job WHERE id LIKE '019b0000-%'""")
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def latency(broker: SQLiteBroker, rounds: int) -> tuple[list[float], list[float]]:
    """From a process' call of enqueue, and from its return, to the return of `wait` in this one; milliseconds."""
    producer = subprocess.Popen(
        [sys.executable, "-c", PRODUCER, broker.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert producer.stdin
    assert producer.stdout
    from_call: list[float] = []
    from_return: list[float] = []
    for _ in range(rounds):
        woken: list[float] = []

        def listen(woken: list[float] = woken) -> None:
            assert broker.wait(["bench"], 10)
            woken.append(time.monotonic())

        thread = threading.Thread(target=listen)
        thread.start()
        time.sleep(0.02)  # it is asleep by then; this is a benchmark, not a test
        print("go", file=producer.stdin, flush=True)
        before, after = map(float, producer.stdout.readline().split())
        thread.join()
        from_call.append((woken[0] - before) * 1000)
        from_return.append((woken[0] - after) * 1000)
        drain(broker)
    producer.stdin.close()
    producer.stdout.close()
    producer.wait()
    return sorted(from_call), sorted(from_return)


def show(name: str, rate: float, compared: float | None = None) -> None:
    ratio = "" if compared is None else f"   {rate / compared:6.1%}"
    print(f"{name:<52}{rate:>10,.0f}/s  {1e6 / rate:>9.2f} µs{ratio}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer jobs, and 100,000 in place of a million")
    parser.add_argument("--directory", default=None, help="where the files are made (the disk counts)")
    chosen = parser.parse_args()
    count, million = (10_000, 100_000) if chosen.quick else (40_000, 1_000_000)
    with tempfile.TemporaryDirectory(dir=chosen.directory) as directory:
        bench = Bench(directory, count)
        many = bench.best(lambda broker: bench.bare(broker, 1000))
        show("bare executemany, 1,000 in a transaction", many)
        enqueued = bench.best(lambda broker: bench.enqueue(broker, 1000))
        show("enqueue of 1,000", enqueued, many)
        single = bench.best(lambda broker: bench.bare(broker, 1))
        show("bare insert, one in a transaction, FULL", single)
        show("enqueue of 1", bench.best(lambda broker: bench.enqueue(broker, 1)), single)
        drained = bench.best(bench.drained)
        show("exchange: settle 200, claim 200", drained)
        for interval in (0.0005, 0.005):
            busy = bench.best(lambda broker, interval=interval: bench.drained_busily(broker, interval))  # type: ignore[misc]
            show(f"  beside a busy thread, switch interval {interval * 1000:g} ms", busy, drained)
        show("extend 1,000 leases", bench.best(bench.extended))

        broker = bench.broker()
        crowd(broker, million, million)
        beside = [(bench.enqueue(broker, 1000), drain(broker, count)) for _ in range(3)]
        show(f"enqueue of 1,000 beside {million:,} + {million:,}", max(rate for rate, _ in beside), enqueued)
        show(f"exchange beside {million:,} + {million:,}", max(rate for _, rate in beside), drained)
        for name, ask in (("counts", broker.counts), ("queues", broker.queues)):
            begin = time.perf_counter()
            ask()
            print(f"{name} of them: {(time.perf_counter() - begin) * 1000:.1f} ms")
        broker.close()

        broker = bench.broker()
        from_call, from_return = latency(broker, 50 if chosen.quick else 300)
        for name, times in (("call of enqueue", from_call), ("return of enqueue", from_return)):
            p99 = times[int(len(times) * 0.99)]
            print(f"{name} -> wait returns: p50 {statistics.median(times):.3f} ms, p99 {p99:.3f} ms")
        broker.close()
        print(f"disk: {Path(directory)}")


if __name__ == "__main__":
    main()
