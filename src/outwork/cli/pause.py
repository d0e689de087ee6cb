"""`outwork pause` and `outwork resume`: queues and tasks, for all workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from outwork.cli.common import Command, Target, target_options
from outwork.cli.output import say

R = TypeVar("R")


def _refuse_bare(ctx: click.Context, _: click.Parameter, names: tuple[str, ...]) -> None:
    if names:
        line = f"{ctx.command_path} --queue {names[0]}"
        raise click.UsageError(f"is {names[0]!r} a queue or a task? Write  {line}  or  --task {names[0]}")


def what_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add `--queue` and `--task`, and say so to those who give a bare name."""
    function = click.argument("names", nargs=-1, metavar="", callback=_refuse_bare, expose_value=False)(function)
    function = click.option("-t", "--task", "tasks", multiple=True, metavar="TASK", help="A task, by its name.")(
        function
    )
    return click.option("-q", "--queue", "queues", multiple=True, metavar="QUEUE", help="A queue.")(function)


@click.command("pause", cls=Command)
@what_options
@target_options
def pause_command(target: Target, queues: tuple[str, ...], tasks: tuple[str, ...]) -> None:
    """Start no more jobs of a queue or a task, on any worker; what runs, runs on.

    Workers obey within a second. Jobs can be enqueued meanwhile; they wait.
    """
    store = target.load_shared().store
    for what in _chosen(queues, tasks):
        store.pause(what)
        kind, _, name = what.partition(":")
        say(f"paused {kind} {name}; let it go on with:  outwork resume --{kind} {name}")


@click.command("resume", cls=Command)
@what_options
@target_options
def resume_command(target: Target, queues: tuple[str, ...], tasks: tuple[str, ...]) -> None:
    """Let a paused queue or task go on."""
    app = target.load_shared()
    paused = app.broker.orders("").paused
    for what in _chosen(queues, tasks):
        app.store.resume(what)
        say(f"{what.replace(':', ' ', 1)} goes on" if what in paused else f"{what.replace(':', ' ', 1)} was not paused")


def _chosen(queues: tuple[str, ...], tasks: tuple[str, ...]) -> list[str]:
    if not (queues or tasks):
        raise click.UsageError("what? Give --queue or --task")
    return [*(f"queue:{name}" for name in queues), *(f"task:{name}" for name in tasks)]
