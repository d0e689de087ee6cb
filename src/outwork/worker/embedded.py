"""The worker inside the process that enqueues: `thread:`, `process:`, and any broker with `?embedded=true`.

It is the worker of `outwork worker` on a thread, one for a process. It starts with the first request, at ASGI start-up
or with the first enqueue; it is drained for five seconds at exit, and what still runs then is given back.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from asyncio import AbstractEventLoop
from pathlib import Path
from typing import Final

from outwork.app import Outwork
from outwork.worker.options import WorkerOptions
from outwork.worker.plan import Plan, Summary, queue_limits
from outwork.worker.worker import Worker

logger = logging.getLogger("outwork.worker")

DRAIN_SECONDS: Final = 5.0


class EmbeddedWorker:
    """A worker on a daemon thread of this process."""

    def __init__(self, app: Outwork, loop: AbstractEventLoop | None = None) -> None:
        settings, embedding = app.settings.worker, app.broker.embedding
        plan = Plan(
            queues=queue_limits(settings.queues),
            concurrency=embedding.concurrency or settings.concurrency,
            threads=embedding.threads or settings.threads,
            children=embedding.children or settings.children,
            grace=DRAIN_SECONDS,
            embedded=True,
            isolated=embedding.isolated,
            options=WorkerOptions(targets=targets_of(app)),
        )
        self.worker = Worker(app, plan, loop)
        self.summary: Summary | None = None
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="outwork-worker", daemon=True)
        self._thread.start()
        atexit.register(self.stop)
        logger.info("outwork: an embedded worker runs the jobs of %s in this process (%d)", app.broker.url, self._pid)

    def _run(self) -> None:
        self.summary = self.worker.run()

    @property
    def alive(self) -> bool:
        """Whether it runs in this process: threads do not survive a fork."""
        return self._pid == os.getpid() and self._thread.is_alive()

    def stop(self) -> None:
        """Let running jobs end for five seconds, give the rest back, and end."""
        atexit.unregister(self.stop)
        if self.alive:
            self.worker.stop()
            self._thread.join(3 * DRAIN_SECONDS)


def targets_of(app: Outwork) -> tuple[str, ...]:
    """What a child process must load to have the tasks of this application: their modules, and the application itself
    where it is not the default one."""
    modules = dict.fromkeys(task.fn.__module__ for task in app.tasks.values() if task.fn.__module__ != "__main__")
    if app.is_default:
        return tuple(modules)
    for name in modules:
        for attribute, value in vars(sys.modules[name]).items():
            if value is app:
                return (f"{name}:{attribute}", *(other for other in modules if other != name))
    return tuple(modules)


def serves_here() -> bool:
    """Whether this process serves: not gunicorn's preload master, not a reloader's parent, not a management command.

    None of them says so itself; each is told by how it was started.
    """
    program = Path(sys.argv[0]).name if sys.argv else ""
    words = sys.argv[1:]
    if "gunicorn.arbiter" in sys.modules:
        return _inside("spawn_worker")
    if program in ("manage.py", "django-admin") or (
        program == "__main__.py" and "django.core.management" in sys.modules
    ):
        if words[:1] != ["runserver"]:
            return False
        return "--noreload" in words or os.environ.get("RUN_MAIN") == "true"
    if program == "flask" and "run" in words:
        debug = "--debug" in words or os.environ.get("FLASK_DEBUG", "0").lower() not in ("", "0", "false", "no")
        reload = "--reload" in words or (debug and "--no-reload" not in words)
        return not reload or os.environ.get("WERKZEUG_RUN_MAIN") == "true"
    return True


def _inside(function: str) -> bool:
    """Whether the main thread is inside a function of this name."""
    main = threading.main_thread().ident
    frame = sys._current_frames().get(main or 0)
    while frame is not None:
        if frame.f_code.co_name == function:
            return True
        frame = frame.f_back
    return False
