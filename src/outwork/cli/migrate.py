"""`outwork migrate`: bring a broker's tables to the version of this release."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import click

from outwork.cli.common import FAILED, Command, Target, target_options
from outwork.cli.output import plural, say


@runtime_checkable
class Migrated(Protocol):
    """A broker that keeps its jobs in tables of a version. Each step is named by its text."""

    def pending(self) -> list[str]: ...
    def migrate(self) -> list[str]: ...
    def sql(self) -> str: ...


@click.command("migrate", cls=Command)
@click.option("--check", is_flag=True, help="Change nothing; end with 1 if something is to be done.")
@click.option("--sql", "as_sql", is_flag=True, help="Change nothing; print the SQL.")
@target_options
def migrate_command(target: Target, check: bool, as_sql: bool) -> None:
    """Create or upgrade the broker's tables. Doing it again changes nothing."""
    if check and as_sql:
        raise click.UsageError("--check and --sql contradict each other: give one of them")
    broker = target.load_shared().broker
    if not isinstance(broker, Migrated):
        say(f"nothing to do: {broker.url} has no tables")
        return
    if as_sql:
        say(broker.sql().rstrip() or f"-- {broker.url} is up to date")
        return
    steps = broker.pending() if check else broker.migrate()
    for step in steps:
        say(f"{step}  {'to be applied' if check else 'applied'}")
    if not steps:
        say(f"{broker.url} is up to date")
    elif check:
        say(f"{plural(len(steps), 'step')} to do; run:  outwork migrate")
        click.get_current_context().exit(FAILED)
