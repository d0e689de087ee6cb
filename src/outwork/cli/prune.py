"""`outwork prune`: forget jobs that have ended. Workers do so by themselves; this is for what they would keep longer,
and for brokers that no worker serves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from outwork.cli.common import Command, Target, confirm, duration_value, target_options, yes_option
from outwork.cli.output import plural, say
from outwork.durations import duration_text
from outwork.job import FINISHED

if TYPE_CHECKING:
    from outwork.brokers.base import Filter, Store

BATCH: Final = 1000
NEVER: Final = 1e9
"""Seconds: an age that no job has."""


@click.command("prune", cls=Command)
@click.option(
    "--older-than", callback=duration_value, metavar="AGE", help="Forget jobs that succeeded so long ago (12h, 7d)."
)
@click.option(
    "--failed-older-than",
    callback=duration_value,
    metavar="AGE",
    help="Forget jobs that failed or were cancelled so long ago.",
)
@click.option("-q", "--queue", metavar="QUEUE", help="Only jobs of this queue.")
@click.option("-t", "--task", metavar="TASK", help="Only jobs of this task.")
@click.option("--dry-run", is_flag=True, help="Say how many jobs there are, and forget none.")
@yes_option
@target_options
def prune_command(
    target: Target,
    older_than: float | None,
    failed_older_than: float | None,
    queue: str | None,
    task: str | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Forget jobs that have ended.

    Without an age: those that were kept for as long as their task and the settings say, as every worker does now and
    then. With an age: whatever was to be kept; the kind whose age is not given is left alone. Jobs that wait or run are
    never touched.
    """
    from outwork.brokers.base import Filter

    app = target.load_shared()
    which = Filter(states=tuple(FINISHED), queue=queue, task=task)
    if older_than is None and failed_older_than is None:
        _by_their_time(app.store, which, app.broker.now(), dry_run=dry_run)
        return
    ages = (NEVER if older_than is None else older_than, NEVER if failed_older_than is None else failed_older_than)
    total = app.store.prune(which, older_than=ages[0], failed_older_than=ages[1], dry_run=True)
    if dry_run or not total:
        _report(total, dry_run=dry_run)
        return
    confirm(f"Forget {plural(total, 'job')} that {_meaning(older_than, failed_older_than)}?", yes=yes)
    pruned = 0
    with _progress(total) as advance:
        while pruned < total:
            batch = app.store.prune(which, older_than=ages[0], failed_older_than=ages[1], limit=BATCH)
            if not batch:
                break  # a worker was faster
            pruned += batch
            advance(batch)
    _report(pruned, dry_run=False)


def _by_their_time(store: Store, which: Filter, now: float, *, dry_run: bool) -> None:
    """Forget what was kept for long enough. No question: any worker would do the same."""
    from outwork.brokers.base import Filter

    ended = sum(
        count.jobs
        for count in store.counts()
        if count.state in FINISHED and which.queue in (None, count.queue) and which.task in (None, count.task)
    )
    pruned = 0
    cursor: str | None = None
    with _progress(ended) as advance:
        while True:
            page = store.find(which, BATCH, cursor)
            ids = tuple(record.id for record in page.records if record.prune_at is not None and record.prune_at <= now)
            if ids and not dry_run:  # by their ids, among what has ended: one that is retried meanwhile stays
                pruned += store.prune(Filter(ids=ids), older_than=0.0, failed_older_than=0.0, limit=len(ids))
            elif ids:
                pruned += len(ids)
            advance(len(page.records))
            cursor = page.cursor
            if cursor is None:
                break
    _report(pruned, dry_run=dry_run)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty() or not total:
        yield lambda _: None
        return
    with click.progressbar(length=total, label="pruning", file=sys.stderr, show_pos=True) as bar:
        yield lambda done: bar.update(min(done, total - bar.pos))


def _report(jobs: int, *, dry_run: bool) -> None:
    say(f"{plural(jobs, 'job')} {'would be ' if dry_run else ''}pruned")


def _meaning(older_than: float | None, failed_older_than: float | None) -> str:
    parts: list[str] = []
    if older_than is not None:
        parts.append(f"succeeded {duration_text(older_than)} ago or earlier")
    if failed_older_than is not None:
        parts.append(f"failed or were cancelled {duration_text(failed_older_than)} ago or earlier")
    return ", or ".join(parts)
