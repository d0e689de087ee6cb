"""`outwork periodic`: the schedules, and when they are due."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from outwork.cli.common import Group, Target, json_option, target_options
from outwork.cli.output import say, say_json, say_table, symbol

if TYPE_CHECKING:
    from outwork.app import Outwork
    from outwork.periodic import Entry


@click.group("periodic", cls=Group)
def periodic_group() -> None:
    """Look at periodic tasks; run, pause or resume them.

    Times are those of each schedule's time zone, which is UTC unless it says otherwise.
    """


@periodic_group.command("ls")
@json_option
@target_options
def list_command(target: Target, as_json: bool) -> None:
    """List the schedules, with their last and next slots."""
    app, schedules = _load(target)
    store = app.store
    now, known, paused = app.broker.now(), store.schedules(), app.broker.orders("").paused
    rows = [_row(entry, known, paused, now) for entry in schedules]
    if as_json:
        say_json(rows)
    elif not rows:
        say('no schedules: declare one with @task(cron="0 7 * * *") or @task(every=timedelta(minutes=5))')
    else:
        say_table(
            ("NAME", "WHEN", "TASK", "STATE", "LAST", "NEXT"),
            [
                (row["name"], row["description"], row["task"], row["state"], row["last"] or "-", row["next"] or "-")
                for row in rows
            ],
        )


def _row(entry: Entry, known: Mapping[str, float], paused: frozenset[str], now: float) -> dict[str, Any]:
    from outwork.schedule import NEVER

    schedule, options = entry.rule.schedule, entry.task.options
    last = entry.last(known)
    following = schedule.next(now if last is None else max(last, now))
    is_slot = last is not None and schedule.previous(last) == last  # otherwise it is when the schedule began
    state = "disabled" if not entry.enabled else "paused" if entry.pause_name in paused else "active"
    return {
        "name": entry.name,
        "description": str(schedule),
        "task": entry.task.name,
        "queue": entry.call.task.options.queue_name or options.queue_name,
        "cron": schedule.cron or None,
        "timezone": schedule.zone if schedule.cron else None,
        "every": schedule.every,
        "misfire": entry.rule.misfire,
        "state": state,
        "last": _shown(entry, last) if last is not None and is_slot else None,
        "next": _shown(entry, following) if state == "active" and following != NEVER else None,
        "origin": entry.origin,
    }


@periodic_group.command("next")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("-n", "--count", type=click.IntRange(1, 1000), default=5, metavar="N", help="So many slots.  [5]")
@json_option
@target_options
def next_command(target: Target, names: tuple[str, ...], count: int, as_json: bool) -> None:
    """Show the slots to come, of all schedules or of these."""
    app, schedules = _load(target)
    now = app.broker.now()
    chosen = [_named(schedules, name) for name in names] or [entry for entry in schedules if entry.enabled]
    slots = sorted(((at, entry) for entry in chosen for at in islice(_slots(entry, now), count)), key=_by_time)[:count]
    if as_json:
        say_json([{"slot": _shown(entry, at), "name": entry.name, "task": entry.task.name} for at, entry in slots])
    elif not slots:
        say("no slots to come")
    else:
        say_table(("SLOT", "NAME"), [(_shown(entry, at), entry.name) for at, entry in slots])


def _slots(entry: Entry, now: float) -> Iterator[float]:
    from outwork.schedule import NEVER

    at = now
    while (at := entry.rule.schedule.next(at)) != NEVER:
        yield at


def _by_time(slot: tuple[float, Entry]) -> tuple[float, str]:
    return slot[0], slot[1].name


def _slot_value(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """The callback of `--slot`."""
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise click.BadParameter(f"{value!r} is not a time with an offset: write 2030-05-17T07:00+02:00")
    return at


@periodic_group.command("run")
@click.argument("name", metavar="NAME")
@click.option("--slot", callback=_slot_value, metavar="TIME", help="The slot that the task is told.  [the last one]")
@json_option
@target_options
def run_command(target: Target, name: str, slot: datetime | None, as_json: bool) -> None:
    """Enqueue a job of this schedule now, whether it is paused or not. Its own slots stay as they are."""
    from outwork.errors import EnqueueError
    from outwork.periodic import prepared

    app, schedules = _load(target)
    entry = _named(schedules, name)
    at = entry.rule.schedule.previous(app.broker.now()) if slot is None else slot.timestamp()
    job = prepared(app, entry, at)
    [answer] = app.broker.enqueue([job])
    if isinstance(answer, EnqueueError):
        raise answer
    job_id = job.id if answer is None else answer.job_id
    if answer is None and app.hooks.listens:
        app.hooks.tell_enqueued([job])
    if as_json:
        say_json({"id": job_id, "name": entry.name, "slot": _shown(entry, at), "enqueued": answer is None})
        return
    done = "" if answer is None else "  it stands for this call already: the task is unique"
    arrow = symbol("→", "->")
    say(f"{symbol('✓', 'ok')} {job_id} {entry.task.name} for {_shown(entry, at)} {arrow} queue {job.queue}{done}")


@periodic_group.command("pause")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@target_options
def pause_command(target: Target, names: tuple[str, ...]) -> None:
    """Let the slots of these schedules pass by without a job, until they are resumed."""
    app, schedules = _load(target)
    for entry in [_named(schedules, name) for name in names]:
        app.store.pause(entry.pause_name)
        say(f"{entry.name} is paused; its slots pass by until:  outwork periodic resume {entry.name}")


@periodic_group.command("resume")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@target_options
def resume_command(target: Target, names: tuple[str, ...]) -> None:
    """Go on with these schedules at their next slots."""
    app, schedules = _load(target)
    now = app.broker.now()
    for entry in [_named(schedules, name) for name in names]:
        app.store.resume(entry.pause_name)
        say(f"{entry.name} goes on: {_shown(entry, entry.rule.schedule.next(now))}")


def _load(target: Target) -> tuple[Outwork, list[Entry]]:
    """The application and its schedules. Raises Unsupported where the broker cannot keep them."""
    from outwork.periodic import check_periodic, entries

    app = target.load_shared(need_tasks=True)
    schedules = entries(app)
    check_periodic(app, schedules)
    return app, schedules


def _named(schedules: list[Entry], name: str) -> Entry:
    """The schedule of this name, or the only one whose name ends with it."""
    found = [entry for entry in schedules if entry.name == name]
    found = found or [entry for entry in schedules if entry.name.endswith(f".{name}")]
    if len(found) == 1:
        return found[0]
    known = [entry.name for entry in schedules]
    if found:
        raise click.UsageError(f"{name!r} may be any of {', '.join(entry.name for entry in found)}: write more of it")
    close = get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else f". There are: {', '.join(known) or 'none'}"
    raise click.UsageError(f"no schedule is named {name!r}{hint}")


def _shown(entry: Entry, slot: float) -> str:
    return entry.rule.schedule.at(slot).isoformat(sep=" ", timespec="seconds")
