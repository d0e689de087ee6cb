"""Django's tasks on DatabaseBackend: python -m benchmarks.django [sqlite] [postgresql]

A project (`benchmarks.kiosk`) on a private server, with a real `manage.py outwork_worker`: enqueues, the drain by one
process and by two, and the latency of one that has nothing to do. Each database has a process of its own.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psycopg

from benchmarks import latency
from benchmarks.endtoend import reported
from benchmarks.measuring import rate, usage
from benchmarks.options import options
from benchmarks.results import ROOT, Recorder, recording
from benchmarks.servers import private

TOGETHER = 1000
Settings = dict[str, Any]


@contextmanager
def sqlite(folder: Path, run: Recorder) -> Iterator[Settings]:
    options = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"}
    run.version("SQLite", sqlite3.sqlite_version)
    yield {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "bench.sqlite3"), "OPTIONS": options}


@contextmanager
def postgresql(folder: Path, run: Recorder) -> Iterator[Settings]:
    with private("postgresql", run) as [place]:
        with psycopg.connect(place.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE kiosk")
        parts = urlsplit(place.url)
        yield {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "kiosk",
            "USER": parts.username,
            "HOST": parts.hostname,
            "PORT": parts.port,
        }


class Database(NamedTuple):
    subject: str
    settings: Callable[[Path, Recorder], AbstractContextManager[Settings]]


DATABASES = {"sqlite": Database("SQLite", sqlite), "postgresql": Database("PostgreSQL", postgresql)}


def worker(*words: str) -> subprocess.Popen[bytes]:
    """A real worker, as an operator starts it."""
    command = [sys.executable, "-m", "django", "outwork_worker", "--skip-checks", *words]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def fill(count: int, together: int) -> float:
    """Enqueue, so many in a transaction; jobs a second."""
    from django.db import transaction

    from benchmarks.kiosk.tasks import noop

    def run() -> None:
        for start in range(0, count, together):
            with transaction.atomic():
                for number in range(start, start + together):
                    noop.enqueue(number, "hello")

    return rate(count, run)


def drain(report: Path, *words: str) -> float:
    """Work off what is there; jobs a second."""
    report.unlink(missing_ok=True)
    worker("--batch", *words).wait(600)
    ran, seconds = reported(report)
    return ran / seconds


def measure(run: Recorder, subject: str, folder: Path, jobs: int, latencies: int) -> None:
    from benchmarks.kiosk.tasks import stamp

    report = folder / "report"
    add = partial(run.add, subject)
    add("enqueue, 1,000 in a transaction", "jobs/s", fill(jobs, TOGETHER))
    add("drain, one process", "jobs/s", drain(report))
    fill(jobs, TOGETHER)
    add("drain, two processes", "jobs/s", drain(report, "--processes", "2"))
    add("enqueue, one at a time", "jobs/s", fill(jobs // 10, 1))
    drain(report)
    with latency.idle(lambda _: worker(), folder, stamp.enqueue) as (process, stamps):
        latency.record(run, subject, stamps.latencies(stamp.enqueue, latencies))
        add("idle worker, memory", "MB", usage(process.pid)[1])


def prepare(settings: Settings, folder: Path) -> None:
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "benchmarks.kiosk.settings",
        "BENCH_DATABASE": json.dumps(settings),
        "BENCH_REPORT": str(folder / "report"),
        "BENCH_STAMPS": str(folder / "stamps"),
    }
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def main() -> None:
    given = options(__doc__, DATABASES, jobs=(10_000, 1_000), latencies=(300, 30))
    if len(given.brokers) > 1:
        for name in given.brokers:
            words = [*(word for word in sys.argv[1:] if word not in DATABASES), name]
            subprocess.run([sys.executable, "-m", "benchmarks.django", *words], cwd=ROOT, check=True)
        return
    database = DATABASES[given.brokers[0]]
    with recording("django", quick=given.quick) as run, TemporaryDirectory() as below:
        folder = Path(below)
        with database.settings(folder, run) as settings:
            prepare(settings, folder)
            run.version("Django", version("django"))
            run.fact(database.subject, "jobs", f"{given.jobs:,}")
            measure(run, database.subject, folder, given.jobs, given.latencies)


if __name__ == "__main__":
    main()
