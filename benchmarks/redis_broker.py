"""The Redis broker against the bare driver, in the same run: `python benchmarks/redis_broker.py [--quick]`.

A private server (append-only file, written once a second) is started for it. The bare driver writes the same bytes into
the same kinds of keys. Each number is the best of three.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis
from msgspec import Raw

from outwork.brokers.base import Claim, Settlement, Share
from outwork.brokers.redis.broker import RedisBroker
from outwork.codec import encode_job
from outwork.ids import new_job_id
from outwork.job import Done, Job, Release

BATCH = 200
PRODUCER = """
import sys, time
from msgspec import Raw
from outwork.brokers.redis.broker import RedisBroker
from outwork.ids import new_job_id
from outwork.job import Job
broker = RedisBroker.from_url(sys.argv[1])
broker.now()
for line in sys.stdin:
    job = Job(v=1, id=new_job_id(), task="bench.add", args=Raw(b'{"x":1,"y":"hello"}'), queue="bench")
    before = time.monotonic()
    broker.enqueue([job])
    print(before, time.monotonic(), flush=True)
broker.close()
"""
SAME_WRITE = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[3])
redis.call('ZADD', KEYS[3], 0, ARGV[1])
return 1
"""
KEYS = ("{bare}:job", "{bare}:ready", "{bare}:ids")
RECORD_EXTRA = 100
"""Bytes that a record has beside its body and names, claimed."""


def jobs(count: int) -> list[Job]:
    args = Raw(b'{"x":1,"y":"hello"}')
    return [
        Job(v=1, id=new_job_id(), task="bench.add", args=args, queue="bench", created=time.time()) for _ in range(count)
    ]


@contextmanager
def server(directory: str) -> Iterator[int]:
    """A server on a free port, until the end of the block."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        sys.exit("redis-server is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    words = f"--port {port} --bind 127.0.0.1 --dir {directory} --appendonly yes --save".split()
    process = subprocess.Popen([binary, *words, ""], stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                with redis.Redis(port=port) as client:
                    client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


def drain(broker: RedisBroker, most: int | None = None) -> float:
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


def fill(broker: RedisBroker, count: int) -> None:
    for _ in range(0, count, 1000):
        broker.enqueue(jobs(1000))


class Bench:
    def __init__(self, port: int, count: int) -> None:
        self.url = f"redis://127.0.0.1:{port}"
        self.client = redis.Redis(port=port)
        self.count = count

    def broker(self) -> RedisBroker:
        """On an empty server."""
        self.client.flushall()
        broker = RedisBroker.from_url(self.url)
        broker.counts()  # connects, and loads some scripts
        return broker

    def best(self, measure: Callable[[RedisBroker], float]) -> float:
        results: list[float] = []
        for _ in range(3):
            broker = self.broker()
            results.append(measure(broker))
            broker.close()
        return max(results)

    def bare(self, together: int) -> float:
        """The same bytes, written by the driver alone. Jobs a second."""
        total = self.count if together > 1 else self.count // 20
        many = [(job.id, encode_job(job)) for job in jobs(total)]
        evaluate = self.client.register_script(SAME_WRITE)
        begin = time.perf_counter()
        for at in range(0, total, together):
            pipeline = self.client.pipeline(transaction=False)
            for job_id, body in many[at : at + together]:
                if together == 1:
                    evaluate(keys=KEYS, args=[job_id, body + b"." * RECORD_EXTRA, f"bench.........{job_id}"])
                else:
                    pipeline.hset(KEYS[0], job_id, body + b"." * RECORD_EXTRA)
                    pipeline.zadd(KEYS[1], {f"bench.........{job_id}": 0})
                    pipeline.zadd(KEYS[2], {job_id: 0})
            pipeline.execute()
        return total / (time.perf_counter() - begin)

    def enqueue(self, broker: RedisBroker, together: int) -> float:
        total = self.count if together > 1 else self.count // 20
        many = jobs(total)
        begin = time.perf_counter()
        for at in range(0, total, together):
            broker.enqueue(many[at : at + together])
        return total / (time.perf_counter() - begin)

    def drained(self, broker: RedisBroker) -> float:
        fill(broker, self.count)
        return drain(broker)

    def bare_exchange(self, _: RedisBroker) -> float:
        """What the same exchanges cost as a round trip: as many bytes there and back, one command a batch."""
        there = [b"x" * 36, b"D" + b"x" * 33, b"3"] * BATCH
        back = [b"x" * 36, b"x" * 110] * BATCH
        self.client.rpush("{bare}:back", *back)
        digest = self.client.script_load("return redis.call('LRANGE', KEYS[1], 0, -1)")
        begin = time.perf_counter()
        for _round in range(self.count // BATCH):
            self.client.evalsha(digest, 1, "{bare}:back", *there)
        return self.count / (time.perf_counter() - begin)

    def extended(self, broker: RedisBroker) -> float:
        fill(broker, 1000)
        claimed = broker.exchange(secrets.token_hex(16), [], [Share("bench", 1000)], 1000, 1000, "bench-1").claimed
        claims = [Claim(one.id, one.claim_id) for one in claimed]
        begin = time.perf_counter()
        for _ in range(20):
            broker.extend(claims)
        return 20 * len(claims) / (time.perf_counter() - begin)

    def memory(self) -> int:
        return int(self.client.info("memory")["used_memory"])

    def commands(self) -> int:
        return int(self.client.info("stats")["total_commands_processed"])


def latency(bench: Bench, rounds: int) -> tuple[list[float], list[float]]:
    """From a process' call of enqueue, and from its return, to the return of `wait` in this one; milliseconds."""
    broker = bench.broker()
    producer = subprocess.Popen(
        [sys.executable, "-c", PRODUCER, bench.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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
    broker.close()
    return sorted(from_call), sorted(from_return)


def idle_commands(bench: Bench) -> float:
    """Commands a second from somebody who waits."""
    broker = bench.broker()
    thread = threading.Thread(target=lambda: broker.wait(["bench"], 60))
    thread.start()
    time.sleep(0.5)
    before = bench.commands()
    time.sleep(3)
    rate = (bench.commands() - before - 1) / 3
    broker.interrupt()
    thread.join()
    broker.close()
    return rate


def show(name: str, rate: float, compared: float | None = None) -> None:
    ratio = "" if compared is None else f"   {rate / compared:6.1%}"
    print(f"{name:<52}{rate:>10,.0f}/s  {1e6 / rate:>9.2f} µs{ratio}", flush=True)


def beside_crowd(bench: Bench, million: int, enqueued: float, drained: float) -> None:
    """Memory, and the same again beside so many waiting and so many finished jobs."""
    broker = bench.broker()
    empty = bench.memory()
    fill(broker, million)
    waiting = bench.memory()
    print(f"memory: {(waiting - empty) / million:,.0f} bytes a waiting job of {len(encode_job(jobs(1)[0]))} bytes")
    drain(broker)
    print(f"        {(bench.memory() - empty) / million:,.0f} bytes a finished one")
    fill(broker, million)
    beside = [(bench.enqueue(broker, 1000), drain(broker, bench.count)) for _ in range(3)]
    show(f"enqueue of 1,000 beside {million:,} + {million:,}", max(rate for rate, _ in beside), enqueued)
    show(f"exchange beside {million:,} + {million:,}", max(rate for _, rate in beside), drained)
    for name, ask in (("counts", broker.counts), ("queues", broker.queues)):
        begin = time.perf_counter()
        ask()
        print(f"{name} of them: {(time.perf_counter() - begin) * 1000:.1f} ms")
    broker.clock_offset += 7200
    begin = time.perf_counter()
    pruned = broker.tend(None, rescue=False).pruned
    show("tend: prune", pruned / (time.perf_counter() - begin))
    broker.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer jobs, and 100,000 in place of a million")
    chosen = parser.parse_args()
    count, million = (10_000, 100_000) if chosen.quick else (40_000, 1_000_000)
    with tempfile.TemporaryDirectory() as directory, server(directory) as port:
        bench = Bench(port, count)
        many = bench.best(lambda _: bench.bare(1000))
        show("bare pipeline, 1,000 jobs", many)
        enqueued = bench.best(lambda broker: bench.enqueue(broker, 1000))
        show("enqueue of 1,000", enqueued, many)
        single = bench.best(lambda _: bench.bare(1))
        show("bare EVALSHA, the same write", single)
        show("enqueue of 1", bench.best(lambda broker: bench.enqueue(broker, 1)), single)
        round_trip = bench.best(bench.bare_exchange)
        show("bare round trip, bytes of 200 jobs", round_trip)
        drained = bench.best(bench.drained)
        show("exchange: settle 200, claim 200", drained, round_trip)
        show("extend 1,000 leases", bench.best(bench.extended))
        from_call, from_return = latency(bench, 50 if chosen.quick else 300)
        for name, times in (("call of enqueue", from_call), ("return of enqueue", from_return)):
            p99 = times[int(len(times) * 0.99)]
            print(f"{name} -> wait returns: p50 {statistics.median(times):.3f} ms, p99 {p99:.3f} ms")
        print(f"commands of an idle listener: {idle_commands(bench):.1f}/s")
        beside_crowd(bench, million, enqueued, drained)
        bench.client.close()


if __name__ == "__main__":
    main()
