"""A broker with a real worker process, from `enqueue` to the result: `python -m benchmarks.endtoend URL [--jobs N]`.

Each line is one measurement; `--repeat` takes the best. `--full` adds a million finished and a million waiting jobs
first. `--silence S` measures the latency once more after S seconds in which nothing happened.
"""

from __future__ import annotations

import argparse
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import workload
from outwork import default_app, enqueue_many

REPOSITORY = Path(__file__).resolve().parent.parent


def worker(url: str, report: Path, *options: str, stamps: Path | None = None) -> subprocess.Popen[bytes]:
    """A real worker, as an operator starts it."""
    env = {**os.environ, "OUTWORK_BROKER_URL": url, "BENCH_REPORT": str(report), "BENCH_STAMPS": str(stamps or "")}
    command = [sys.executable, "-m", "outwork", "worker", "benchmarks.workload", "--queues", "bench", *options]
    return subprocess.Popen(command, env=env, cwd=REPOSITORY, stderr=subprocess.DEVNULL)


def drained(url: str, report: Path, *options: str) -> tuple[int, float]:
    """Run a worker until nothing is left: how many jobs it ran, and seconds from the first start to the last end."""
    report.unlink(missing_ok=True)
    worker(url, report, "--drain", *options).wait(600)
    lines = [line.split() for line in report.read_text().splitlines()]
    seconds = max(float(last) for _, _, last in lines) - min(float(first) for _, first, _ in lines)
    return sum(int(count) for count, _, _ in lines), seconds


def fill(count: int) -> float:
    """Enqueue many; jobs a second."""
    began = time.perf_counter()
    for start in range(0, count, 50_000):
        enqueue_many(workload.noop.bind(number, "hello") for number in range(start, min(count, start + 50_000)))
    return count / (time.perf_counter() - began)


def one_by_one(count: int) -> float:
    """Enqueue one at a time; jobs a second."""
    began = time.perf_counter()
    for number in range(count):
        workload.noop.enqueue(number, "hello")
    return count / (time.perf_counter() - began)


@contextmanager
def idle_worker(url: str, folder: Path, stamps: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that has run one job and waits."""
    stamps.unlink(missing_ok=True)
    os.mkfifo(stamps)
    handle = os.open(stamps, os.O_RDONLY | os.O_NONBLOCK)
    keep_open = os.open(stamps, os.O_WRONLY)
    process = worker(url, folder / "report", stamps=stamps)
    try:
        latency(handle, 1)
        yield process
    finally:
        process.terminate()
        process.wait(60)
        os.close(handle)
        os.close(keep_open)


def latency(handle: int, count: int) -> list[tuple[float, float]]:
    """The latency of `count` jobs of this benchmark."""
    return latency_of(workload.stamp.enqueue, handle, count)


def latency_of(enqueue: Callable[[], object], handle: int, count: int) -> list[tuple[float, float]]:
    """(enqueue called -> task entered, enqueue returned -> task entered) in milliseconds, for each of `count` jobs."""
    times: list[tuple[float, float]] = []
    for _ in range(count):
        called = time.monotonic()
        enqueue()
        returned = time.monotonic()
        if not select.select([handle], [], [], 30.0)[0]:
            raise TimeoutError("the job did not start within 30 s")
        entered = float(os.read(handle, 100))
        times.append(((entered - called) * 1e3, (entered - returned) * 1e3))
        time.sleep(0.02)
    return times


def shown(times: list[tuple[float, float]]) -> str:
    called = sorted(one for one, _ in times)
    returned = sorted(one for _, one in times)
    p99 = int(len(times) * 0.99)
    half = len(times) // 2
    return (
        f"p50 {called[half]:.2f} ms, p99 {called[p99]:.2f} ms from the call; "
        f"p50 {returned[half]:.2f} ms, p99 {returned[p99]:.2f} ms from its return"
    )


def usage(pid: int) -> tuple[float, float]:
    """CPU seconds of the supervisor and its workers, by the scheduler's nanoseconds (`stat` counts in hundredths of a
    second, which is as much as an idle worker uses in ten), and resident megabytes of the largest of them."""
    cpu = memory = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            if pid not in (int(path.parent.name), int(fields[1])):
                continue
            threads = [thread.read_text() for thread in path.parent.glob("task/*/schedstat")]
        except OSError:
            continue
        cpu += sum(int(thread.split()[0]) for thread in threads) / 1e9
        memory = max(memory, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
    return cpu, memory


def measure(url: str, count: int, silence: float, folder: Path) -> None:
    report, stamps = folder / "report", folder / "stamps"
    print(f"enqueue_many              {fill(count):>10,.0f} jobs/s", flush=True)
    ran, seconds = drained(url, report)
    print(f"drain, one process        {ran / seconds:>10,.0f} jobs/s   ({ran:,} jobs)", flush=True)
    fill(count)
    ran, seconds = drained(url, report, "--processes", "2")
    print(f"drain, two processes      {ran / seconds:>10,.0f} jobs/s   ({ran:,} jobs)", flush=True)
    print(f"enqueue, one at a time    {one_by_one(2000):>10,.0f} jobs/s", flush=True)
    drained(url, report)
    enqueue_many(workload.nap.bind(0.05) for _ in range(2000))
    ran, seconds = drained(url, report, "--concurrency", "100")
    print(f"2,000 async naps of 50 ms {seconds:>10.3f} s        (100 slots; 1 s is the least)", flush=True)
    with idle_worker(url, folder, stamps) as process:
        handle = os.open(stamps, os.O_RDONLY | os.O_NONBLOCK)
        print(f"latency                   {shown(latency(handle, 300))}", flush=True)
        before, began = usage(process.pid)[0], time.monotonic()
        time.sleep(max(10.0, silence))
        after, memory = usage(process.pid)
        percent = 100 * (after - before) / (time.monotonic() - began)
        print(f"idle worker               {percent:>10.2f} % of a core, {memory:.0f} MB", flush=True)
        if silence:
            print(f"latency after {silence:.0f} s        {shown(latency(handle, 5))}", flush=True)
        os.close(handle)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--full", action="store_true", help="with a million finished and a million waiting jobs")
    parser.add_argument("--silence", type=float, default=0.0)
    arguments = parser.parse_args()
    default_app.override({"broker_url": arguments.url})
    with tempfile.TemporaryDirectory() as folder:
        if arguments.full:
            fill(1_000_000)
            drained(arguments.url, Path(folder) / "report")
            waiting = workload.noop.using(queue_name="waiting")
            for start in range(0, 1_000_000, 50_000):
                enqueue_many(waiting.bind(number, "hello") for number in range(start, start + 50_000))
        measure(arguments.url, arguments.jobs, arguments.silence, Path(folder))
    default_app.close()


if __name__ == "__main__":
    main()
