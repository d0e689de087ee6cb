"""Our channel layers beside the field's Redis layer, in the same run: `python -m benchmarks.channels [--quick]`.

Private servers are started. Sender, worker and members of groups are processes of their own. The field's layer is
served by Channels' own worker; ours by ours, and on Redis also by Channels' own. Each number is the median of its
rounds, in which the layers take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
FIELD = "channels_redis"
CHANNEL = "bench"


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


async def latency(subject: Subject, report: Path, count: int) -> dict[str, float]:
    """From the call of `send` to the handler, one message every 5 ms."""
    layer = subject.layer()
    with process("serve", subject.name, json.dumps(subject.config), _worker(subject), str(report)):
        await warm(layer, report)
        for _ in range(count):
            await asyncio.sleep(0.005)
            await layer.send(CHANNEL, {"type": "x", "at": time.perf_counter(), "text": "hello"})
        latencies, _, _ = await reported(layer, report)
    latencies.sort()
    return {
        "send -> handler p50, ms": statistics.median(latencies) * 1000,
        "send -> handler p99, ms": latencies[int(len(latencies) * 0.99)] * 1000,
    }


async def warm(layer: Any, report: Path) -> None:
    for _ in range(20):
        await layer.send(CHANNEL, {"type": "x", "at": time.perf_counter(), "text": "hello"})
    await reported(layer, report)


async def drain(subject: Subject, report: Path, count: int) -> dict[str, float]:
    """So many messages are there when the worker starts."""
    layer = subject.layer()
    await layer.flush()
    server = cpu_of(subject.pids())
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        await layer.send(CHANNEL, {"type": "x", "at": time.perf_counter(), "text": "hello"})
    sending, sender_cpu = time.perf_counter() - began, time.process_time() - cpu
    with process("serve", subject.name, json.dumps(subject.config), _worker(subject), str(report)):
        _, seconds, worker_cpu = await reported(layer, report)
    server = cpu_of(subject.pids()) - server
    return {
        "sent, messages/s": count / sending,
        "handled, messages/s": count / seconds,
        "CPU of sender, us a message": sender_cpu / count * 1e6,
        "CPU of worker, us a message": worker_cpu / count * 1e6,
        "CPU of server, us a message": server / count * 1e6,
        "CPU in all, us a message": (sender_cpu + worker_cpu + server) / count * 1e6,
    }


async def crowd(subject: Subject, report: Path, members: int, rounds: int) -> dict[str, float]:
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
    return {
        f"group_send to {members:,}, p50, ms": statistics.median(times) * 1000,
        f"group_send to {members:,}, CPU of the members, ms": cpu * 1000,
    }


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


def cpu_of(pids: list[int]) -> float:
    """Seconds of processor time that these processes have used, and their dead children."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


# ---- all of it -------------------------------------------------------------------------------------------------------


@contextmanager
def subjects() -> Iterator[list[Subject]]:
    from support.postgres_server import PostgresServer
    from support.redis_server import RedisServer
    from support.workers import descendants

    with tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(Path(folder) / "redis")
        postgres = PostgresServer()
        assert postgres._process is not None
        pid = postgres._process.pid
        try:
            yield [
                Subject(FIELD, {"hosts": [redis.url()], "prefix": "field"}, False, lambda: [redis.pid]),
                Subject("outwork, Redis", {"url": redis.url()}, True, lambda: [redis.pid]),
                Subject("the same, Channels' worker", {"url": redis.url()}, False, lambda: [redis.pid]),
                Subject("outwork, PostgreSQL", {"url": postgres.url()}, True, lambda: [pid, *descendants(pid)]),
                Subject("outwork, SQLite", {"url": f"sqlite:///{folder}/channels.db"}, True, list),
            ]
        finally:
            redis.kill()
            postgres.clean_up()


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        return serve(*sys.argv[2:6])
    if sys.argv[1:2] == ["gather"]:
        return gather(*sys.argv[2:6])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer messages and rounds")
    quick = parser.parse_args().quick
    rounds, paced, drained, sends = (1, 200, 2000, 10) if quick else (3, 600, 5000, 30)
    found: dict[str, dict[str, list[float]]] = {}
    with subjects() as all_of_them, tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        for _ in range(rounds):
            for subject in all_of_them:
                for measured in (
                    asyncio.run(latency(subject, report, paced)),
                    asyncio.run(drain(subject, report, drained)),
                    asyncio.run(crowd(subject, report, 100, sends)),
                    asyncio.run(crowd(subject, report, 1000, sends)),
                ):
                    for what, value in measured.items():
                        found.setdefault(what, {}).setdefault(subject.name, []).append(value)
    show(found, [subject.name for subject in all_of_them])
    return None


def show(found: dict[str, dict[str, list[float]]], names: list[str]) -> None:
    print(f"{'':<44}" + "".join(f"{name:>28}" for name in names))
    for what, values in found.items():
        medians = {name: statistics.median(values[name]) for name in names}
        base = medians[FIELD]
        cells = []
        for name in names:
            ratio = "" if name == FIELD or not medians[name] else f"x {_faster(what, medians[name], base):.2f}"
            cells.append(f"{medians[name]:>17,.2f}  {ratio:<9}")
        print(f"{what:<44}" + "".join(cells))


def _faster(what: str, ours: float, base: float) -> float:
    """How many times better: more a second, or less time."""
    return ours / base if what.endswith("/s") else base / ours


if __name__ == "__main__":
    main()
