"""`outwork`: the group of all commands."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from outwork.cli.common import STARTER, TARGET, Group, Target
from outwork.cli.config import config_command
from outwork.cli.init import init_command
from outwork.cli.jobs import jobs_group
from outwork.cli.migrate import migrate_command
from outwork.cli.pause import pause_command, resume_command
from outwork.cli.periodic import periodic_group
from outwork.cli.prune import prune_command
from outwork.cli.runworker import runworker_command
from outwork.cli.status import status_command
from outwork.cli.tasks import enqueue_command, tasks_command
from outwork.cli.worker import worker_command


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"outwork {version('outwork')} (Python {sys.version.split()[0]})")
        ctx.exit()


@click.group("outwork", cls=Group)
@click.option("-A", "--app", metavar="MODULE[:OBJECT]", help="Where the application or its tasks are.")
@click.option(
    "-C", "--config", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="The configuration file."
)
@click.option("--broker", metavar="URL", help="Where the jobs are.")
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show the version."
)
@click.pass_context
def main(ctx: click.Context, app: str | None, config: Path | None, broker: str | None) -> None:
    """Background tasks for Python web applications.

    Begin with  outwork init,  then  outwork worker  in one terminal and  outwork enqueue tasks.greet Ada  in another.
    """
    ctx.meta[TARGET] = Target(app, config, broker)
    if isinstance(ctx.obj, str):  # of the command line around this one
        ctx.meta[STARTER] = ctx.obj


for command in (
    init_command,
    worker_command,
    runworker_command,
    enqueue_command,
    tasks_command,
    jobs_group,
    periodic_group,
    status_command,
    pause_command,
    resume_command,
    prune_command,
    migrate_command,
    config_command,
):
    main.add_command(command)
