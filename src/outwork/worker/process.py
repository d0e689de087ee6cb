"""One worker process: `python -m outwork.worker.process FD`, started by the supervisor.

Its standard input comes from the supervisor: the first line says what to run, later ones `stop` or `hurry`, and the end
of it means that the supervisor is gone, which is a request to stop. FD is where it reports: `ready` after the first
successful exchange, `alive RUNNING/SLOTS` while its loop turns, `replace WHY` when another process should take over.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

import msgspec

from outwork import __version__
from outwork.app import Outwork
from outwork.errors import BrokerRefused, BrokerUnavailable, EnqueueError, OutworkError, SchemaError, SettingsError
from outwork.loading import check_for_worker, load_app
from outwork.settings import WorkerSettings
from outwork.worker import logs
from outwork.worker.chores import Chores
from outwork.worker.exits import BROKER_AWAY, CLEAN, FAILED, RECYCLE, USAGE
from outwork.worker.options import WorkerOptions
from outwork.worker.plan import Plan, Summary, queue_limits
from outwork.worker.reporter import Reporter
from outwork.worker.timetable import timetable_of
from outwork.worker.worker import Worker

logger = logging.getLogger("outwork.worker")

NO_TASKS: Final = "Decorate functions with @task, and name their module:  outwork worker shop.tasks"


def main(report: int) -> int:
    """Run a worker as the supervisor says; the exit code."""
    lines = _lines(sys.stdin.fileno())
    first = next(lines, b"")
    if not first:
        return CLEAN
    options = msgspec.json.decode(first, type=WorkerOptions)
    logs.set_up(str(options.command_line.get("worker.log_format", "text")), verbose=options.verbose)
    try:
        worker = _make_worker(options)
        timetable = timetable_of(worker.app, worker.id, drain=options.drain)
    except (SettingsError, BrokerRefused, SchemaError, EnqueueError) as error:
        return _refuse(error, USAGE)
    except OutworkError as error:
        return _refuse(error, BROKER_AWAY if isinstance(error, BrokerUnavailable) else FAILED)

    signal.signal(signal.SIGTERM, lambda number, frame: worker.stop(hurry=False))
    signal.signal(signal.SIGINT, lambda number, frame: worker.stop(hurry=False))
    threading.Thread(target=_heed, args=(lines, worker), name="outwork-supervisor", daemon=True).start()
    reporter = Reporter(report, worker, options)
    _say_hello(worker)
    alone = options.drain and worker.app.settings.worker.processes == 1 and sys.stderr.isatty()
    with _progress_bar(worker) if alone else nullcontext(), timetable, Chores(worker.app, drain=options.drain):
        summary = worker.run()
    reporter.close()
    _say_goodbye(summary, drain=options.drain)
    code = RECYCLE if summary.recycle else FAILED if options.drain and summary.failed else CLEAN
    if summary.stuck:
        logging.shutdown()
        os._exit(code)  # its jobs are given back, so its threads must not go on a moment longer
    worker.app.close()
    return code


def _progress_bar(worker: Worker) -> AbstractContextManager[None]:
    from outwork.worker.progress import progress_bar  # click, with all that it imports, is a megabyte

    return progress_bar(worker)


def _make_worker(options: WorkerOptions) -> Worker:
    """Load the application and ask its broker once. Raises what either says, but for a plain worker whose broker is
    away: that one waits."""
    config = Path(options.config) if options.config else None
    app = load_app(options.targets, config=config, command_line=options.command_line)
    check_for_worker(app)
    worker = Worker(app, _plan(app, options))
    logs.set_up(app.settings.worker.log_format, verbose=options.verbose)
    try:
        app.broker.queues()
    except BrokerUnavailable:
        if options.drain:
            raise
    return worker


def _refuse(error: OutworkError, code: int) -> int:
    print(f"outwork: {error}", file=sys.stderr)
    return code


def _plan(app: Outwork, options: WorkerOptions) -> Plan:
    """What the settings say of this worker."""
    settings: WorkerSettings = app.settings.worker
    return Plan(
        queues=queue_limits(settings.queues),
        weights=dict(settings.weights),
        concurrency=settings.concurrency,
        threads=settings.threads,
        children=settings.children,
        grace=settings.grace,
        drain=options.drain,
        log_format=settings.log_format,
        options=options,
    )


def _lines(handle: int) -> Iterator[bytes]:
    """Read unbuffered: a thread that sits in a buffered read would hold the buffer's lock when the process ends."""
    rest = b""
    while part := os.read(handle, 65_536):
        *lines, rest = (rest + part).split(b"\n")
        yield from lines


def _heed(lines: Iterator[bytes], worker: Worker) -> None:
    for line in lines:
        worker.stop(hurry=line == b"hurry")
    worker.stop(hurry=False)


def _say_hello(worker: Worker) -> None:
    app = worker.app
    queues = ", ".join(f"{name}:{most}" if most else name for name, most in worker.plan.queues.items())
    logger.info(
        "outwork %s · %s · %d task%s · %s · %d slots · worker %s",
        __version__,
        app.broker.url,
        len(app.tasks),
        "" if len(app.tasks) == 1 else "s",
        f"queues {queues}" if queues else "all queues",
        worker.plan.concurrency,
        worker.id,
    )
    for name in sorted(app.tasks):
        logger.info("  %s%s", name, app.tasks[name].signature)
    if not app.tasks:
        logger.warning(
            "no task is declared in what was imported, and jobs of unknown tasks are given back. %s", NO_TASKS
        )


def _say_goodbye(summary: Summary, *, drain: bool) -> None:
    parts = [f"{summary.done:,} done", f"{summary.failed:,} failed"]
    if summary.given_back:
        parts.append(f"{summary.given_back:,} given back")
    if drain and summary.left is not None:
        parts.append(f"{summary.left:,} scheduled for later" if summary.left else "nothing left")
    logger.info("stopped cleanly (%s)", ", ".join(parts))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
