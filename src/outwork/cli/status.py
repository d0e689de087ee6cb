"""`outwork status`: queues, workers and what is wrong, on one screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from outwork.cli.channels import layers_in_sight, say_channels, survey
from outwork.cli.common import Command, Target, json_option, target_options, worker_line
from outwork.cli.output import plural, say, say_json, say_table
from outwork.durations import duration_text
from outwork.errors import NoBroker
from outwork.job import State, foreign

if TYPE_CHECKING:
    from outwork.app import Outwork
    from outwork.brokers.base import Count, Presence


@click.command("status", cls=Command)
@json_option
@click.option("--channels", envvar="OUTWORK_CHANNELS_URL", metavar="URL", help="Show these channels, too.")
@target_options
def status_command(target: Target, as_json: bool, channels: str | None) -> None:
    """Show the queues, how many jobs are in which state, the workers, and the channels.

    Channels are those of --channels, or in a Django project those of CHANNEL_LAYERS.
    """
    app = _shared_app(target, channels)
    layers = layers_in_sight(channels)
    surveys = survey(layers)
    shown_channels = {name: [one._asdict() for one in seen] for name, seen in surveys.items()}
    if app is None:
        if as_json:
            say_json({"broker": None, "channels": shown_channels})
        else:
            say_channels(layers, surveys)
        return
    counts = app.store.counts()
    workers = app.broker.workers()
    now = app.broker.now()
    queues = _by_queue(counts, app.broker.queues())
    paused = sorted(app.broker.orders("").paused)
    if as_json:
        say_json(
            {
                "broker": app.broker.url,
                "queues": {queue: {state.lower(): tally[state] for state in State} for queue, tally in queues.items()},
                "tasks": [count._asdict() for count in counts],
                "workers": workers,
                "paused": paused,
                "now": now,
                "channels": shown_channels,
            }
        )
        return
    say(f"broker  {app.broker.url}")
    say()
    if queues:
        held = any(tally[State.HELD] for tally in queues.values())
        shown = [state for state in State if held or state is not State.HELD]
        rows = [(queue, *(f"{tally[state]:,}" for state in shown)) for queue, tally in queues.items()]
        say_table(("QUEUE", *shown), rows)
    else:
        say("no jobs")
    for what in paused:
        kind, _, name = what.partition(":")
        say(f"{kind} {name} is paused", colour="yellow")
    say()
    if app.broker.runs_in == "embedded" and not workers:
        say("no worker is running: it is inside the application's web process, and starts with the first request")
    else:
        _say_workers(workers, now, only_foreign=bool(queues) and all(foreign(queue) for queue in queues))
    _say_unserved(queues, workers)
    say_channels(layers, surveys)


def _shared_app(target: Target, channels: str | None) -> Outwork | None:
    """The application, for its jobs; None where there is none, but channels. Raises NoBroker."""
    try:
        return target.load_shared()
    except NoBroker:
        if not layers_in_sight(channels):
            raise
        return None


def _by_queue(counts: Sequence[Count], known: Sequence[str]) -> dict[str, Counter[State]]:
    queues: dict[str, Counter[State]] = {queue: Counter() for queue in known}
    for count in counts:
        queues.setdefault(count.queue, Counter())[count.state] += count.jobs
    return dict(sorted(queues.items()))


def _say_workers(workers: Sequence[Presence], now: float, *, only_foreign: bool) -> None:
    if not workers and only_foreign:
        say("no worker is running; these queues are served by another library's worker")
        return
    if not workers:
        say(f"no worker is running; start one with:  {worker_line()}")
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
        if workers and ready and queue not in served and not foreign(queue):
            click.echo(
                f"outwork: OW101 queue {queue!r} has {plural(ready, 'ready job')}, and no worker is listening on it. "
                f"Start one:  {worker_line()} --queues {queue}",
                err=True,
            )
