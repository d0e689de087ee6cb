"""Django's tasks on DatabaseBackend: `python -m benchmarks.django [sqlite|postgresql] [--jobs N]`.

A project (`benchmarks.kiosk`) on a private server, with a real `manage.py outwork_worker`: the drain by one process and
by two, and the latency of one that has nothing to do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.endtoend import REPOSITORY, latency_of, shown, usage

TOGETHER = 1000
Settings = dict[str, Any]


@contextmanager
def sqlite(folder: Path) -> Iterator[Settings]:
    options = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"}
    yield {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "bench.sqlite3"), "OPTIONS": options}


@contextmanager
def postgresql(folder: Path) -> Iterator[Settings]:
    from support.postgres_server import PostgresServer

    server = PostgresServer()
    try:
        server.ask("CREATE DATABASE kiosk")
        yield {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "kiosk",
            "USER": "tester",
            "HOST": "127.0.0.1",
            "PORT": server.port,
        }
    finally:
        server.clean_up()


DATABASES: dict[str, Callable[[Path], AbstractContextManager[Settings]]] = {"sqlite": sqlite, "postgresql": postgresql}


def worker(*options: str) -> subprocess.Popen[bytes]:
    """A real worker, as an operator starts it."""
    command = [sys.executable, "-m", "django", "outwork_worker", "--skip-checks", *options]
    return subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def fill(count: int, together: int) -> float:
    """Enqueue, so many in a transaction; jobs a second."""
    from django.db import transaction

    from benchmarks.kiosk.tasks import noop

    began = time.perf_counter()
    for start in range(0, count, together):
        with transaction.atomic():
            for number in range(start, start + together):
                noop.enqueue(number, "hello")
    return count / (time.perf_counter() - began)


def drain(report: Path, *options: str) -> tuple[int, float]:
    """Work off what is there: how many jobs, and seconds from the first start to the last end."""
    report.unlink(missing_ok=True)
    worker("--batch", *options).wait(600)
    lines = [line.split() for line in report.read_text().splitlines()]
    seconds = max(float(last) for _, _, last in lines) - min(float(first) for _, first, _ in lines)
    return sum(int(count) for count, _, _ in lines), seconds


def measure_latency(stamps: Path) -> None:
    from benchmarks.kiosk.tasks import stamp

    os.mkfifo(stamps)
    handle = os.open(stamps, os.O_RDONLY | os.O_NONBLOCK)
    keep_open = os.open(stamps, os.O_WRONLY)
    process = worker()
    try:
        latency_of(stamp.enqueue, handle, 20)
        print(f"latency                   {shown(latency_of(stamp.enqueue, handle, 300))}", flush=True)
        before, began = usage(process.pid)[0], time.monotonic()
        time.sleep(10.0)
        after, memory = usage(process.pid)
        percent = 100 * (after - before) / (time.monotonic() - began)
        print(f"idle worker               {percent:>10.2f} % of a core, {memory:.0f} MB", flush=True)
    finally:
        process.terminate()
        process.wait(60)
        os.close(handle)
        os.close(keep_open)


def measure(settings: Settings, folder: Path, jobs: int) -> None:
    report, stamps = folder / "report", folder / "stamps"
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "benchmarks.kiosk.settings",
        "BENCH_DATABASE": json.dumps(settings),
        "BENCH_REPORT": str(report),
        "BENCH_STAMPS": str(stamps),
    }
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    print(f"enqueue, {TOGETHER:,} together    {fill(jobs, TOGETHER):>10,.0f} jobs/s", flush=True)
    ran, seconds = drain(report)
    print(f"drain, one process        {ran / seconds:>10,.0f} jobs/s   ({ran:,} jobs)", flush=True)
    fill(jobs, TOGETHER)
    ran, seconds = drain(report, "--processes", "2")
    print(f"drain, two processes      {ran / seconds:>10,.0f} jobs/s   ({ran:,} jobs)", flush=True)
    print(f"enqueue, one at a time    {fill(2000, 1):>10,.0f} jobs/s", flush=True)
    drain(report)
    measure_latency(stamps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", choices=DATABASES, nargs="?", default="postgresql")
    parser.add_argument("--jobs", type=int, default=50_000)
    arguments = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY / "tests"))
    with tempfile.TemporaryDirectory() as folder, DATABASES[arguments.database](Path(folder)) as settings:
        print(f"== Django on {arguments.database}", flush=True)
        measure(settings, Path(folder), arguments.jobs)


if __name__ == "__main__":
    main()
