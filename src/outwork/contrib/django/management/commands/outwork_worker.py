"""`manage.py outwork_worker`: run the tasks of a backend."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connections

from outwork.contrib.django.load import hand_down, loaded, target_of
from outwork.contrib.django.management.support import (
    CheckedCommand,
    add_backend_option,
    backend_named,
    check_tables,
    complaining,
    end,
    names,
    settings_module,
)
from outwork.durations import bytes_of, seconds_of
from outwork.errors import BrokerUnavailable
from outwork.worker.options import worker_id_of

if TYPE_CHECKING:
    from outwork.contrib.django.backends import OutworkBackend


def _read(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """The type of an option. If it is wrong, argparse says why."""

    def read(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise ArgumentTypeError(f"invalid: {error}") from error

    return read


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(f"{number} is less than 1")
    return number


_COUNT: Final = _read(_at_least_one)


class Command(CheckedCommand):
    help = "Run the tasks of a backend until SIGTERM or Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add_backend_option(parser)
        add("-q", "--queue-name", "--queues", action="append", metavar="A,B", help="Serve only these queues.  [all]")
        add("--exclude-queues", action="append", metavar="A,B", help="Serve all queues but these.")
        add(
            "--batch", action="store_true", help="Work until nothing is left to do, then end: 0, or 1 if a task failed."
        )
        add("--interval", type=float, metavar="S", help="Accepted for its neighbours' sake: this worker does not poll.")
        add("--no-startup-delay", action="store_true", help="Accepted likewise: it starts at once.")
        add("--max-tasks", type=_COUNT, metavar="N", help="Replace a process that has ended about N tasks.")
        add("--max-memory", type=_read(bytes_of), metavar="SIZE", help="Replace a process that holds more (512M).")
        add("--worker-id", type=_read(worker_id_of), metavar="NAME", help="How its id begins.  [this machine's name]")
        add("-c", "--concurrency", type=_COUNT, metavar="N", help="Tasks in hand at once in a process.  [20]")
        add("--threads", type=_COUNT, metavar="N", help="Threads at most.  [as many as tasks]")
        add("-p", "--processes", type=_COUNT, metavar="N", help="Worker processes.  [1]")
        add("--children", type=_COUNT, metavar="N", help='Child processes for executor="process".  [one a core]')
        add("--grace", type=_read(seconds_of), metavar="S", help="How long running tasks may take to end.  [25s]")
        add("--no-periodic", action="store_true", help="Enqueue no periodic tasks: other workers do.")
        add("--log-format", choices=["text", "json"], help="How log lines look.  [text]")
        add("--reload", action="store_true", default=None, help="Restart when the code changes.  [where DEBUG is on]")
        add("--no-reload", action="store_false", dest="reload", help="Do not.")

    def handle(self, *args: Any, **options: Any) -> None:
        backend = backend_named(options["backend"])
        settings_module()
        with complaining():
            self._refuse_without_worker(backend)
            self._check_tables(backend, waits=not options["batch"])
            chosen = self._settings(backend, options)
            target = _target(backend.alias)
            reload = not options["batch"] and self._reload(options["reload"])
            backend.close()
            connections.close_all()  # the worker's processes have their own

            from outwork.worker.options import WorkerOptions
            from outwork.worker.supervisor import supervise

            hand_down()
            code = supervise(
                WorkerOptions(
                    targets=(target,),
                    command_line=chosen,
                    drain=options["batch"],
                    reload=reload,
                    max_tasks=options["max_tasks"],
                    max_memory=options["max_memory"],
                    worker_id=options["worker_id"],
                    verbose=options["verbosity"] > 1,
                )
            )
        end(code)

    def _check_tables(self, backend: OutworkBackend, *, waits: bool) -> None:
        """Raises CommandError; BrokerUnavailable if the database is away, unless the worker waits for it."""
        try:
            check_tables(backend)
        except BrokerUnavailable as error:
            if not waits:
                raise
            self.stderr.write(f"the worker waits for its database: {error}")

    def _refuse_without_worker(self, backend: OutworkBackend) -> None:
        """Raises CommandError, SettingsError."""
        broker = backend.probe()
        try:
            if broker.capabilities.shared:
                return
        finally:
            broker.close()
        where = {
            "caller": "tasks run in their callers",
            "nowhere": "tasks are recorded and never run",
            "embedded": "tasks run inside the web process",
        }.get(broker.runs_in, "tasks stay in the memory of the process that enqueues them")
        kind = type(backend).__name__
        raise CommandError(
            f"TASKS[{backend.alias!r}] is {kind} ({broker.url}): {where}, so a worker has nothing to do. Use "
            "outwork.contrib.django.DatabaseBackend, or OutworkBackend with a broker_url that processes can share",
            returncode=2,
        )

    def _settings(self, backend: OutworkBackend, options: dict[str, Any]) -> dict[str, Any]:
        """The worker's settings by their dotted keys."""
        chosen = {
            "worker.queues": self._queues(backend, options) or None,
            "worker.concurrency": options["concurrency"],
            "worker.threads": options["threads"],
            "worker.children": options["children"],
            "worker.processes": options["processes"],
            "worker.grace": options["grace"],
            "worker.log_format": options["log_format"],
            "worker.periodic": False if options["no_periodic"] else None,
        }
        return {key: value for key, value in chosen.items() if value is not None}

    def _queues(self, backend: OutworkBackend, options: dict[str, Any]) -> list[str]:
        """The queues to serve; none: all that are known."""
        wanted, excluded = names(options["queue_name"]), names(options["exclude_queues"])
        declared = sorted(backend.queues)
        unknown = [name for name in (*wanted, *excluded) if declared and name not in declared]
        if unknown:
            raise CommandError(
                f"TASKS[{backend.alias!r}] has no queue {', '.join(unknown)}. It has: {', '.join(declared)}",
                returncode=2,
            )
        if excluded and not (wanted or declared):
            tasks = loaded(backend.alias).tasks.values()
            declared = sorted({"default", *(task.options.queue_name for task in tasks), *backend.app.broker.queues()})
        left = [name for name in wanted or declared if name not in excluded]
        if excluded and not left:
            raise CommandError("no queue is left to serve: all of them are excluded", returncode=2)
        return left

    def _reload(self, asked: bool | None) -> bool:
        if asked is False or (asked is None and not settings.DEBUG):
            return False
        if find_spec("watchfiles") is not None:
            return True
        if asked:
            raise CommandError("--reload needs watchfiles:  pip install 'outwork[watch]'", returncode=2)
        self.stderr.write("changes of the code are not seen:  pip install 'outwork[watch]'  (or --no-reload)")
        return False


def _target(alias: str) -> str:
    try:
        return target_of(alias)
    except ValueError as error:
        raise CommandError(str(error), returncode=2) from error
