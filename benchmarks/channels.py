"""Our channel layers beside the field's Redis layer, turn and turn about: python -m benchmarks.channels

Sender, worker and members of groups are processes of their own. The field's layer is
served by Channels' own worker; ours by ours, and on Redis also by Channels' own.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from benchmarks.measuring import processor_time, quantile
from benchmarks.options import options
from benchmarks.results import ROOT, Recorder, recording
from benchmarks.servers import BROKERS

FIELD = "channels_redis"
CHANNEL = "bench"
Found: TypeAlias = AsyncIterator[tuple[str, str, float]]
"""Quantities with their units and values."""


class Subject(NamedTuple):
    """A layer, and whose worker serves it; `pids`: the processes of its server."""

    name: str
    config: dict[str, Any]
    own_worker: bool
    pids: Callable[[], list[int]]

    def layer(self) -> Any:
        return layer_of(self.name, self.config)


def layer_of(name: str, config: dict[str, Any]) -> Any:
    if name == FIELD:
        from channels_redis.core import RedisChannelLayer

        return RedisChannelLayer(capacity=1_000_000, **config)
    from outwork.contrib.channels import OutworkChannelLayer

    return OutworkChannelLayer(capacity=1_000_000, **config)


# ---- the other processes ---------------------------------------------------------------------------------------------


def serve(name: str, config: str, own: str, report: str) -> None:
    """A worker. The message `report` makes it write down what it measured since the last one."""
    latencies: list[float] = []
    first = [0.0, 0.0, 0.0]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            now = time.perf_counter()
            if message["type"] == "report":
                elapsed = first[2] - first[0], time.process_time() - first[1]
                Path(report + ".new").write_text(json.dumps([latencies, *elapsed]))
                os.rename(report + ".new", report)
                latencies.clear()
                continue
            if not latencies:
                first[0], first[1] = now, time.process_time()
            first[2] = now
            latencies.append(now - message["at"])

    layer = layer_of(name, json.loads(config))
    if own == "own":
        from outwork.contrib.channels.worker import ChannelWorker

        async def work() -> None:
            await ChannelWorker(application, layer, {CHANNEL: 1}).run()

        asyncio.run(work())
    else:
        from channels.worker import Worker

        Worker(application, [CHANNEL], layer).run()


def gather(name: str, config: str, members: str, report: str) -> None:
    """A process with so many members of a group, which writes down when the last of them had each message."""

    async def run() -> None:
        layer = layer_of(name, json.loads(config))
        count = int(members)
        left: dict[int, int] = {}
        names = [await layer.new_channel() for _ in range(count)]
        for channel in names:
            await layer.group_add("crowd", channel)

        async def member(channel: str) -> None:
            while True:
                number = (await layer.receive(channel))["number"]
                left[number] = left.get(number, count) - 1
                if left[number] == 0:
                    note(report, [number, time.perf_counter(), time.process_time()])

        tasks = [asyncio.create_task(member(channel)) for channel in names]
        await asyncio.sleep(0.5)
        note(report, ["ready"])
        await asyncio.gather(*tasks)

    asyncio.run(run())


def note(report: str, what: list[Any]) -> None:
    with open(report, "a") as file:
        file.write(json.dumps(what) + "\n")


@contextmanager
def process(role: str, *words: str) -> Iterator[None]:
    started = subprocess.Popen([sys.executable, "-m", "benchmarks.channels", role, *words], cwd=ROOT)
    try:
        yield
    finally:
        started.kill()
        started.wait()


# ---- the measurements ------------------------------------------------------------------------------------------------


async def reported(layer: Any, report: Path) -> tuple[list[float], float, float]:
    await layer.send(CHANNEL, {"type": "report"})
    deadline = time.monotonic() + 120
    while not report.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the worker does not report")
        await asyncio.sleep(0.02)
    latencies, seconds, cpu = json.loads(report.read_text())
    report.unlink()
    return latencies, seconds, cpu


async def latency(subject: Subject, report: Path, count: int) -> Found:
    """From the call of `send` to the handler, one message every 5 ms."""
    layer = subject.layer()
    with process("serve", subject.name, json.dumps(subject.config), _worker(subject), str(report)):
        await warm(layer, report)
        for _ in range(count):
            await asyncio.sleep(0.005)
            await layer.send(CHANNEL, {"type": "x", "at": time.perf_counter(), "text": "hello"})
        latencies, _, _ = await reported(layer, report)
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        yield f"send to handler, {name}", "ms", quantile(latencies, part) * 1000


async def warm(layer: Any, report: Path) -> None:
    for _ in range(20):
        await layer.send(CHANNEL, {"type": "x", "at": time.perf_counter(), "text": "hello"})
    await reported(layer, report)


async def drain(subject: Subject, report: Path, count: int) -> Found:
    """So many messages are there when the worker starts."""
    layer = subject.layer()
    await layer.flush()
    server = processor_time(subject.pids())
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        await layer.send(CHANNEL, {"type": "x", "at": time.perf_counter(), "text": "hello"})
    sending, sender_cpu = time.perf_counter() - began, time.process_time() - cpu
    with process("serve", subject.name, json.dumps(subject.config), _worker(subject), str(report)):
        _, seconds, worker_cpu = await reported(layer, report)
    server = processor_time(subject.pids()) - server
    yield "send, one after the other", "messages/s", count / sending
    yield "handled by one worker", "messages/s", count / seconds
    yield "CPU of sender, worker and server", "µs a message", (sender_cpu + worker_cpu + server) / count * 1e6


async def crowd(subject: Subject, report: Path, members: int, rounds: int) -> Found:
    """From the call of `group_send` until the last member has the message."""
    layer = subject.layer()
    await layer.flush()
    report.write_text("")
    with process("gather", subject.name, json.dumps(subject.config), str(members), str(report)):
        await lines(report, 1)
        times: list[float] = []
        for number in range(rounds):
            began = time.perf_counter()
            await layer.group_send("crowd", {"type": "x", "number": number, "text": "hello"})
            found = await lines(report, number + 2)
            times.append(found[-1][1] - began)
        cpu = (found[-1][2] - found[1][2]) / (rounds - 1)
    report.unlink()
    yield f"group_send until the last of {members:,} members has it, p50", "ms", quantile(times, 0.5) * 1000
    yield f"group_send to {members:,} members, CPU of the members", "ms", cpu * 1000


async def lines(report: Path, count: int) -> list[list[Any]]:
    deadline = time.monotonic() + 60
    while True:
        found = report.read_text().splitlines()
        if len(found) >= count:
            return [json.loads(line) for line in found]
        if time.monotonic() > deadline:
            raise TimeoutError("not all members have the message")
        await asyncio.sleep(0.002)


def _worker(subject: Subject) -> str:
    return "own" if subject.own_worker else "field"


# ---- all of it -------------------------------------------------------------------------------------------------------


@contextmanager
def subjects(folder: Path, run: Recorder) -> Iterator[list[Subject]]:
    with BROKERS["redis"](folder) as redis, BROKERS["postgresql"](folder) as postgres:
        for server in (redis, postgres):
            run.version(server.product, server.version)
        [here], [there] = redis.places, postgres.places
        yield [
            Subject(FIELD, {"hosts": [here.url], "prefix": "field"}, False, redis.pids),
            Subject("Redis", {"url": here.url}, True, redis.pids),
            Subject("Redis, Channels' worker", {"url": here.url}, False, redis.pids),
            Subject("PostgreSQL", {"url": there.url}, True, postgres.pids),
            Subject("SQLite", {"url": f"sqlite:///{folder}/channels.db"}, True, list),
        ]


async def record(run: Recorder, subject: Subject, found: Found) -> None:
    async for quantity, unit, value in found:
        run.add(subject.name, quantity, unit, value)


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        return serve(*sys.argv[2:6])
    if sys.argv[1:2] == ["gather"]:
        return gather(*sys.argv[2:6])
    given = options(__doc__, rounds=(3, 1), paced=(300, 50), drained=(5000, 500), sends=(15, 4))
    with recording("channels", quick=given.quick) as run, tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        run.version(FIELD, version("channels-redis"))
        with subjects(Path(folder), run) as all_of_them:
            for _ in range(given.rounds):
                for subject in all_of_them:
                    asyncio.run(record(run, subject, latency(subject, report, given.paced)))
                    asyncio.run(record(run, subject, drain(subject, report, given.drained)))
                    for members in (100, 1000):
                        asyncio.run(record(run, subject, crowd(subject, report, members, given.sends)))
    return None


if __name__ == "__main__":
    main()
