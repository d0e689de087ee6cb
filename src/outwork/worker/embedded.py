"""The worker inside the process that enqueues: `thread:`, `process:`, and any broker with `?embedded=true`.

It is the worker of `outwork worker` on a thread, one for a process. It starts with the first request, at ASGI start-up
or with the first enqueue; it is drained for five seconds at exit, and what still runs then is given back.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - its own end is to come after ours: tasks may use executors until then
import logging
import os
import sys
import threading
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from time import monotonic
from types import FrameType
from typing import Final

from outwork.app import Outwork
from outwork.brokers.base import Store
from outwork.errors import OutworkError
from outwork.job import State
from outwork.worker.chores import Chores
from outwork.worker.options import WorkerOptions
from outwork.worker.plan import Plan, Summary, queue_limits
from outwork.worker.timetable import timetable_of
from outwork.worker.worker import Worker

logger = logging.getLogger("outwork.worker")

DRAIN_SECONDS: Final = 5.0
GOODBYE_SECONDS: Final = 4.0
"""How long it may take then to give the rest back; what is not by then is taken for crashed."""
RELOADED: Final = ("WERKZEUG_RUN_MAIN", "RUN_MAIN")
"""What Werkzeug's and Django's reloaders put into the environment of the process that serves."""


class EmbeddedWorker:
    """A worker on a daemon thread of this process."""

    def __init__(self, app: Outwork, loop: AbstractEventLoop | None = None) -> None:
        settings, embedding = app.settings.worker, app.broker.embedding
        plan = Plan(
            queues=queue_limits(settings.queues),
            weights=dict(settings.weights),
            concurrency=embedding.concurrency or settings.concurrency,
            threads=embedding.threads or settings.threads,
            children=embedding.children or settings.children,
            grace=DRAIN_SECONDS,
            embedded=True,
            isolated=embedding.isolated,
            options=child_options(app),
        )
        self.worker = Worker(app, plan, loop)
        self.summary: Summary | None = None
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="outwork-worker", daemon=True)
        self._thread.start()
        _started.add(self)
        logger.info("outwork: an embedded worker runs the jobs of %s in this process (%d)", app.broker.url, self._pid)

    def _run(self) -> None:
        with timetable_of(self.worker.app, self.worker.id, embedded=True), Chores(self.worker.app):
            self.summary = self.worker.run()

    @property
    def alive(self) -> bool:
        """Whether it runs in this process: threads do not survive a fork."""
        return self._pid == os.getpid() and self._thread.is_alive()

    def stop(self) -> None:
        """Let running jobs end for five seconds, give the rest back, and end.

        Jobs in memory cannot be given back, so those that wait are run in this time, too. Under a reloader it does not
        let durable ones end: its parent kills this process a quarter of a second after Ctrl-C.
        """
        _started.discard(self)
        if not self.alive:
            return
        broker = self.worker.broker
        until = monotonic() + DRAIN_SECONDS
        if not broker.capabilities.durable:
            while self._jobs_in_memory(State.READY, State.RUNNING) and monotonic() < until:
                self._thread.join(0.01)
        self.worker.stop(hurry=monotonic() >= until or (broker.capabilities.durable and is_reloaded()))
        self._thread.join(max(0.0, until - monotonic()) + GOODBYE_SECONDS)
        lost = 0 if broker.capabilities.durable else self._jobs_in_memory(State.READY, State.SCHEDULED, State.RUNNING)
        if lost:
            logger.warning("%d jobs of %s end with this process, which kept them in its memory", lost, broker.url)

    def _jobs_in_memory(self, *states: State) -> int:
        broker = self.worker.broker
        try:
            counts = broker.counts() if isinstance(broker, Store) else []
        except OutworkError:
            return 0
        return sum(count.jobs for count in counts if count.state in states)


_started: Final[set[EmbeddedWorker]] = set()


def _stop_all() -> None:
    for embedded in list(_started):
        embedded.stop()


try:
    # At exit, but before the interpreter's executors end, because a task that is drained may use them. Only `threading`
    # knows that moment; processes of `multiprocessing`, which end without `atexit`, come by it, too.
    threading._register_atexit(_stop_all)  # type: ignore[attr-defined]
except (AttributeError, RuntimeError):  # another interpreter; or it is ending already
    atexit.register(_stop_all)


def child_options(app: Outwork) -> WorkerOptions:
    """What the child processes of the embedded worker are told."""
    settings = app.settings
    told: dict[str, object] = {"worker.child_memory": settings.worker.child_memory, "modules": settings.modules or None}
    return WorkerOptions(
        targets=targets_of(app), command_line={key: value for key, value in told.items() if value is not None}
    )


def targets_of(app: Outwork) -> tuple[str, ...]:
    """What a child process must load to have the tasks of this application: their modules, and the application itself
    where it is not the default one."""
    if app.loaded_by:
        return app.loaded_by
    modules = dict.fromkeys(task.fn.__module__ for task in app.tasks.values() if task.fn.__module__ != "__main__")
    if app.is_default:
        return tuple(modules)
    for name in modules:
        for attribute, value in vars(sys.modules[name]).items():
            if value is app:
                return (f"{name}:{attribute}", *(other for other in modules if other != name))
    return tuple(modules)


# ---- where to start it -----------------------------------------------------------------------------------------------


def serves_here(*, durable: bool) -> bool:
    """Whether the worker may start in this process although no request has come yet: this is neither gunicorn's preload
    master, nor a reloader's parent, nor a management command or a worker of its own.

    None of them says so itself; each is known by what its main thread is doing. Jobs that are not `durable` run in a
    management command, too: nobody else would ever have them.
    """
    inside = {(_module(frame), frame.f_code.co_name): frame for frame in _main_frames()}
    modules = {module for module, _ in inside}
    if "gunicorn.arbiter" in modules:
        return ("gunicorn.arbiter", "spawn_worker") in inside
    if django := inside.get(("django.core.management", "execute_from_command_line")):
        words = (django.f_locals.get("argv") or sys.argv)[1:]
        if words[:1] and words[0].startswith("runserver"):
            return "--noreload" in words or is_reloaded()
        return not durable
    if flask := inside.get(("flask.cli", "run_command")):
        reload = flask.f_locals.get("reload")
        if reload is None:
            reload = os.environ.get("FLASK_DEBUG", "").lower() not in ("", "0", "false", "no")
        return not reload or is_reloaded()
    if ("flask.cli", "main") in inside or any(m.startswith(("outwork.cli", "outwork.worker.process")) for m in modules):
        return not durable
    return True


def is_reloaded() -> bool:
    """Whether this is the process that a reloader starts anew whenever the code changes."""
    return any(os.environ.get(name) == "true" for name in RELOADED)


def _main_frames() -> Iterator[FrameType]:
    """What the main thread is doing, from the innermost call to the outermost."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _module(frame: FrameType) -> str:
    """The name of the module of a frame, also where it was started with `python -m`."""
    spec = frame.f_globals.get("__spec__")
    return str(getattr(spec, "name", None) or frame.f_globals.get("__name__", ""))
