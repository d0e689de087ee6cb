"""`outwork status`: queues, workers and what is wrong, on one screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from outwork.cli.common import Command, Target, json_option, target_options
from outwork.cli.output import plural, say, say_json, say_table
from outwork.durations import duration_text
from outwork.job import State

if TYPE_CHECKING:
    from outwork.brokers.base import Count, Presence


@click.command("status", cls=Command)
@json_option
@target_options
def status_command(target: Target, as_json: bool) -> None:
    """Show the queues, how many jobs are in which state, and the workers."""
    app = target.load_shared()
    counts = app.store.counts()
    workers = app.broker.workers()
    now = app.broker.now()
    queues = _by_queue(counts, app.broker.queues())
    if as_json:
        say_json(
            {
                "broker": app.broker.url,
                "queues": {queue: {state.lower(): tally[state] for state in State} for queue, tally in queues.items()},
                "tasks": [count._asdict() for count in counts],
                "workers": workers,
                "now": now,
            }
        )
        return
    say(f"broker  {app.broker.url}")
    say()
    if queues:
        rows = [(queue, *(f"{tally[state]:,}" for state in State)) for queue, tally in queues.items()]
        say_table(("QUEUE", *State), rows)
    else:
        say("no jobs")
    say()
    _say_workers(workers, now)
    _say_unserved(queues, workers)


def _by_queue(counts: Sequence[Count], known: Sequence[str]) -> dict[str, Counter[State]]:
    queues: dict[str, Counter[State]] = {queue: Counter() for queue in known}
    for count in counts:
        queues.setdefault(count.queue, Counter())[count.state] += count.jobs
    return dict(sorted(queues.items()))


def _say_workers(workers: Sequence[Presence], now: float) -> None:
    if not workers:
        say("no worker is running; start one with:  outwork worker")
        return
    rows = [
        (
            worker.worker,
            str(worker.pid),
            ", ".join(worker.queues),
            f"{worker.running} of {worker.concurrency}",
            f"{worker.done:,}",
            f"{worker.failed:,}",
            duration_text(max(0.0, now - worker.started_at)),
            f"{duration_text(round(max(0.0, now - worker.seen_at)))} ago",
        )
        for worker in workers
    ]
    say_table(("WORKER", "PID", "QUEUES", "RUNNING", "DONE", "FAILED", "UP", "SEEN"), rows)


def _say_unserved(queues: dict[str, Counter[State]], workers: Sequence[Presence]) -> None:
    """Say which jobs nobody will take: the first question of everybody."""
    served = {queue for worker in workers for queue in worker.queues}
    for queue, tally in queues.items():
        ready = tally[State.READY]
        if workers and ready and queue not in served:
            click.echo(
                f"outwork: OW101 queue {queue!r} has {plural(ready, 'ready job')}, and no worker is listening on it. "
                f"Start one:  outwork worker --queues {queue}",
                err=True,
            )
