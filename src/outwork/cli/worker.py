"""`outwork worker`."""

from __future__ import annotations

import os

import click

from outwork.cli.common import (
    Command,
    Target,
    duration_value,
    is_verbose,
    size_value,
    target_options,
    worker_id_value,
)


@click.command("worker", cls=Command)
@click.argument("modules", nargs=-1, metavar="[MODULE | MODULE:OBJECT]...")
@target_options
@click.option(
    "-q",
    "--queues",
    multiple=True,
    metavar="A,B:4",
    help="Serve only these queues; b:4 runs at most 4 jobs of b at once. Default: all that are known.",
)
@click.option(
    "-c", "--concurrency", type=click.IntRange(1), metavar="N", help="Jobs in hand at once in a process.  [20]"
)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads at most.  [as many as jobs]")
@click.option("--children", type=click.IntRange(1), metavar="N", help="Child processes at most.  [one a core]")
@click.option("--child-memory", callback=size_value, metavar="SIZE", help="Most memory of a child process (512M).")
@click.option("-p", "--processes", type=click.IntRange(1), metavar="N", help="Worker processes.  [1]")
@click.option("--drain", is_flag=True, help="Work until nothing is left to do, then end: 0, or 1 where a job failed.")
@click.option("--grace", callback=duration_value, metavar="S", help="How long running jobs may take to end.  [25s]")
@click.option("--max-tasks", type=click.IntRange(1), metavar="N", help="Replace a process that has ended about N jobs.")
@click.option("--max-memory", callback=size_value, metavar="SIZE", help="Replace a process that holds more (512M).")
@click.option("--worker-id", callback=worker_id_value, metavar="NAME", help="How its id begins.  [this machine's name]")
@click.option("--reload", is_flag=True, help="Restart when the code changes (development; needs watchfiles).")
@click.option("--no-periodic", is_flag=True, help="Enqueue no periodic tasks: other workers do.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="How log lines look.  [text]")
def worker_command(
    modules: tuple[str, ...],
    target: Target,
    queues: tuple[str, ...],
    concurrency: int | None,
    threads: int | None,
    children: int | None,
    child_memory: int | None,
    processes: int | None,
    drain: bool,
    grace: float | None,
    max_tasks: int | None,
    max_memory: int | None,
    worker_id: str | None,
    reload: bool,
    no_periodic: bool,
    log_format: str | None,
) -> None:
    """Run the jobs of an application until SIGTERM or Ctrl-C.

    MODULE is imported for its tasks; OBJECT is an Outwork, or a function that returns one. Without any: OUTWORK_APP,
    the configured modules, or tasks.py in the current directory.

    The first signal lets running jobs end (--grace) and gives the others back; a second one ends at once. SIGHUP
    restarts the processes one by one, with the code as it is then.
    """
    listed = [name.strip() for text in queues for name in text.split(",") if name.strip()]
    chosen: dict[str, object] = {
        "worker.queues": listed or None,
        "worker.concurrency": concurrency,
        "worker.threads": threads,
        "worker.children": children,
        "worker.child_memory": child_memory,
        "worker.processes": processes,
        "worker.grace": grace,
        "worker.periodic": False if no_periodic else None,
        "worker.log_format": log_format,
    }
    command_line = target.command_line() | {key: value for key, value in chosen.items() if value is not None}
    targets = modules if target.app is None else (target.app, *modules)
    _refuse_without_broker(targets, target, command_line)

    from outwork.worker.options import WorkerOptions
    from outwork.worker.supervisor import supervise

    options = WorkerOptions(
        targets=targets,
        config=None if target.config is None else str(target.config),
        command_line=command_line,
        drain=drain,
        reload=reload,
        max_tasks=max_tasks,
        max_memory=max_memory,
        worker_id=worker_id,
        verbose=is_verbose(),
    )
    click.get_current_context().exit(supervise(options))


def _refuse_without_broker(targets: tuple[str, ...], target: Target, command_line: dict[str, object]) -> None:
    """End before any process is started if a worker would have nothing to take jobs from.

    Only if no URL is configured must the application be imported here to know; otherwise its worker process says so.
    Raises NoBroker, CannotLoad, SettingsError.
    """
    from outwork.settings import load

    configured = load(environ=os.environ, config_file=target.config, command_line=command_line).settings
    if configured.broker_url or configured.broker:
        return

    from outwork.loading import check_for_worker, load_app

    check_for_worker(load_app(targets, config=target.config, command_line=command_line))
