"""`outwork tasks` and `outwork enqueue`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click
import msgspec

from outwork.cli.common import FAILED, Command, Target, duration_value, json_option, target_options, worker_line
from outwork.cli.output import moment, say, say_json, say_table, symbol
from outwork.durations import duration_text

if TYPE_CHECKING:
    from outwork.app import Outwork
    from outwork.result import TaskResult
    from outwork.task import Task


# ---- tasks ----------------------------------------------------------------------------------------------------------


@click.command("tasks", cls=Command)
@json_option
@target_options
def tasks_command(target: Target, as_json: bool) -> None:
    """List the tasks that a worker would know here."""
    tasks = sorted(target.load(need_tasks=True).tasks.items())
    if as_json:
        say_json([_described(task) for _, task in tasks])
    elif not tasks:
        say("no tasks: decorate a function with @task")
    else:
        rows = [
            (f"{name}{_signature(task)}", task.options.queue_name, _options(task), task.source) for name, task in tasks
        ]
        say_table(("TASK", "QUEUE", "OPTIONS", "SOURCE"), rows)


def _signature(task: Task[Any, Any]) -> str:
    return str(task.signature)


def _described(task: Task[Any, Any]) -> dict[str, Any]:
    options = task.options
    return {
        "name": task.name,
        "signature": _signature(task),
        "queue": options.queue_name,
        "priority": options.priority,
        "max_attempts": options.retry.max_attempts,
        "timeout": options.timeout,
        "keep_result": options.keep_result,
        "expires": options.expires,
        "max_crashes": options.max_crashes,
        "delivery": options.delivery,
        "executor": options.executor,
        "takes_context": options.takes_context,
        "source": task.source,
    }


def _options(task: Task[Any, Any]) -> str:
    """What is not as by default."""
    options = task.options
    words: list[str] = []
    if options.priority:
        words.append(f"priority {options.priority}")
    if options.delivery == "at_most_once":
        words.append("at most once")
    elif options.retry.max_attempts == 1:
        words.append("no retries")
    if options.timeout is not None:
        words.append(f"timeout {duration_text(options.timeout)}")
    if options.expires is not None:
        words.append(f"expires {duration_text(options.expires)}")
    if options.executor is not None:
        words.append(f"in a {options.executor}")
    return ", ".join(words) or "-"


# ---- enqueue --------------------------------------------------------------------------------------------------------


def _time_value(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """The callback of `--at`: ISO 8601, or a time of day that comes next; without an offset, of this machine."""
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        at = None
    if at is not None:
        return at if at.tzinfo else at.astimezone()
    try:
        clock = time.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not a time: write 2030-05-17T09:00, 2030-05-17T09:00+02:00, or 17:30"
        ) from None
    now = datetime.now().astimezone()
    today = datetime.combine(now.date(), clock)
    at = today if clock.tzinfo else today.astimezone()
    return at if at > now else at + timedelta(days=1)


@click.command("enqueue", cls=Command)
@click.argument("task_name", metavar="TASK")
@click.argument("words", nargs=-1, metavar="[VALUE]... [NAME=VALUE]...")
@click.option("--in", "delay", callback=duration_value, metavar="10m", help="Not before so long from now.")
@click.option(
    "--at", callback=_time_value, metavar="TIME", help="Not before this time, as in 17:30 or 2030-05-17T09:00."
)
@click.option("-q", "--queue", metavar="QUEUE", help="Another queue than the task's own.")
@click.option("--priority", type=click.IntRange(-100, 100), metavar="N", help="-100 to 100, larger first.")
@click.option("-w", "--wait", is_flag=True, help="Wait for the end and print the result; 1 if the job failed.")
@json_option
@target_options
def enqueue_command(
    target: Target,
    task_name: str,
    words: tuple[str, ...],
    delay: float | None,
    at: datetime | None,
    queue: str | None,
    priority: int | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Enqueue a job of TASK with these arguments, read by the task's type hints: 5 is a number for an int.

    Lists and objects are written as JSON. Write -- before values that begin with a dash.
    """
    from outwork.cli.values import read_arguments

    if delay is not None and at is not None:
        raise click.UsageError("--in and --at contradict each other: give one of them")
    app = target.load(need_tasks=True)
    task = find_task(app.tasks, task_name)
    positional, named = read_arguments(words, task.signature, task.hints)
    after = at if at is not None else delay
    result = task.using(queue_name=queue, priority=priority, run_after=after).enqueue(*positional, **named)
    if not as_json:
        _say_enqueued(app, task, result, positional, named)
    if wait or app.broker.runs_in == "caller":
        _wait(task, result, as_json=as_json)
    elif as_json:
        say_json(_shown(result))


def find_task(tasks: Mapping[str, Task[Any, Any]], name: str) -> Task[Any, Any]:
    """The task of this name, or the only one whose name ends with it. Raises UnknownTask."""
    from outwork.errors import UnknownTask

    if name in tasks:
        return tasks[name]
    same_end = [known for known in tasks if known.endswith(f".{name}")]
    if len(same_end) == 1:
        return tasks[same_end[0]]
    if same_end:
        raise UnknownTask(f"{name!r} may be any of {', '.join(sorted(same_end))}: write the whole name")
    last = {known.rpartition(".")[2]: known for known in tasks}
    close = get_close_matches(name, tasks, n=1) or [last[key] for key in get_close_matches(name, last, n=1)]
    hint = f" (did you mean {close[0]}?)" if close else ""
    known = f"Known here: {', '.join(sorted(tasks))}" if tasks else "No task is known here"
    raise UnknownTask(f"unknown task {name!r}{hint}. {known}; -A names another module. Nothing was enqueued")


def _say_enqueued(
    app: Outwork, task: Task[Any, Any], result: TaskResult[Any], positional: list[Any], named: dict[str, Any]
) -> None:
    values = [repr(value) for value in positional] + [f"{name}={value!r}" for name, value in named.items()]
    arrow = symbol("→", "->")
    due = f" at {moment(result.run_after.timestamp())}" if result.run_after else ""
    say(f"{symbol('✓', 'ok')} {result.id} {task.name}({', '.join(values)}) {arrow} queue {result.queue_name}{due}")
    if app.broker.runs_in == "nowhere":
        say("  the broker is dummy: so it was checked, and will never run")
    elif app.broker.runs_in == "elsewhere" and app.broker.capabilities.presence and not app.broker.workers():
        say(f"  no worker is running yet; start one with:  {worker_line()}")


def _wait(task: Task[Any, Any], result: TaskResult[Any], *, as_json: bool) -> None:
    """Wait for the end and print the value; end with 1 if the job failed."""
    from outwork.errors import TaskFailed

    try:
        value = result.get()
    except TaskFailed as error:
        if not as_json:
            raise
        say_json(_shown(result) | {"errors": [failure._asdict() for failure in result.errors]})
        raise click.exceptions.Exit(FAILED) from error
    if as_json:
        say_json(_shown(result) | {"result": msgspec.Raw(task.payload.encode_result(value))})
    else:
        say(repr(value))


def _shown(result: TaskResult[Any]) -> dict[str, Any]:
    return {
        "id": result.id,
        "task": result.task_name,
        "queue": result.queue_name,
        "priority": result.priority,
        "state": result.state,
        "run_after": result.run_after.timestamp() if result.run_after else None,
    }
