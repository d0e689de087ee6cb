"""`outwork jobs`: look at jobs, and steer them by id or by filter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from outwork.cli.common import FAILED, Group, Target, confirm, json_option, target_options, yes_option
from outwork.cli.job_progress import say_progress, watch_job
from outwork.cli.output import moment, plural, say, say_json, say_pairs, say_table
from outwork.job import State

if TYPE_CHECKING:
    from outwork.app import Outwork
    from outwork.brokers.base import Filter
    from outwork.brokers.letters import Desk
    from outwork.job import Record

R = TypeVar("R")

BATCH: Final = 500
DEFAULT_LIMIT: Final = 50


class Selection(NamedTuple):
    """Which jobs a command is about: these ids, or all that fit."""

    ids: tuple[str, ...]
    states: tuple[State, ...]
    queue: str | None
    task: str | None
    limit: int | None
    everything: bool = False

    @property
    def narrowed(self) -> bool:
        return bool(self.states or self.queue or self.task)


def filter_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add `--state`, `--queue`, `--task` and `--limit`."""
    options = (
        click.option(
            "-s",
            "--state",
            "states",
            multiple=True,
            type=click.Choice([state.lower() for state in State], case_sensitive=False),
            help="Only jobs in this state (may be repeated).",
        ),
        click.option("-q", "--queue", metavar="QUEUE", help="Only jobs of this queue."),
        click.option("-t", "--task", metavar="TASK", help="Only jobs of this task."),
        click.option("-n", "--limit", type=click.IntRange(1), metavar="N", help="At most so many jobs."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def steering_options(function: Callable[..., R]) -> Callable[..., R]:
    """What retry, cancel and delete have in common."""
    function = target_options(filter_options(yes_option(function)))
    function = click.option("--all", "everything", is_flag=True, help="Every job, whatever its state.")(function)
    return click.argument("ids", nargs=-1, metavar="[ID]...")(function)


@click.group("jobs", cls=Group)
def jobs_group() -> None:
    """Look at jobs, retry, cancel or delete them."""


@jobs_group.command("ls")
@filter_options
@click.option("--cursor", metavar="ID", help="Go on behind this job: the next page.")
@json_option
@target_options
def list_command(
    target: Target,
    states: tuple[str, ...],
    queue: str | None,
    task: str | None,
    limit: int | None,
    cursor: str | None,
    as_json: bool,
) -> None:
    """List jobs, the newest first."""
    app = target.load_shared()
    store, dead = desk_of(app)
    which = _filter(_states(states), queue, task)
    page = store.find(which, limit or DEFAULT_LIMIT, cursor)
    if as_json:
        shown = [summary(record) | (_why(record) if dead else {}) for record in page.records]
        say_json({"jobs": shown, "cursor": page.cursor})
        return
    if not page.records:
        say("no dead letters; other jobs cannot be listed without a store" if dead else "no jobs")
        return
    head = ("ID", "TASK", "QUEUE", "STATE", "ATTEMPTS", "ENQUEUED")
    rows = [(r.id, r.task, r.queue, r.state.lower(), str(r.attempts), moment(r.enqueued_at)) for r in page.records]
    if dead:
        reasons = [_why(record)["reason"] for record in page.records]
        say_table((*head, "REASON"), [(*row, _short(why)) for row, why in zip(rows, reasons, strict=True)])
    else:
        say_table(head, rows)
    if page.cursor:
        click.echo(f"there are more: --cursor {page.cursor}, or a larger --limit", err=True)


@jobs_group.command("show")
@click.argument("job_id", metavar="ID")
@click.option("-w", "--watch", is_flag=True, help="Show its progress until it has ended.")
@click.option("--payload", is_flag=True, help="Show its arguments and its result, too: they may be confidential.")
@json_option
@target_options
def show_command(target: Target, job_id: str, watch: bool, payload: bool, as_json: bool) -> None:
    """Show all that is known of a job, with the tracebacks of its failed attempts."""
    from outwork.errors import JobNotFound

    app = target.load_shared()
    if watch:
        watch_job(app, job_id)
    desk, dead = desk_of(app)
    [record] = desk.get([job_id])
    if record is None and dead:
        raise JobNotFound(
            f"no job {job_id} among the dead letters of {app.broker.url}, and of other jobs it keeps no records. Set "
            "OUTWORK_STORE_URL to a database for them"
        )
    if record is None:
        raise JobNotFound(f"no job {job_id} in {app.broker.url}: it was pruned, or never enqueued")
    said = app.progress_of(job_id) if app.broker.capabilities.progress else None
    if as_json:
        say_json(details(record, payload=payload) | {"progress": said})
    else:
        _show(record, payload=payload)
        say_progress(said)


@jobs_group.command("retry")
@steering_options
def retry_command(
    target: Target,
    ids: tuple[str, ...],
    states: tuple[str, ...],
    queue: str | None,
    task: str | None,
    limit: int | None,
    everything: bool,
    yes: bool,
) -> None:
    """Run failed or cancelled jobs again from the start."""
    chosen = Selection(ids, _states(states), queue, task, limit, everything)
    _steer(target, chosen, "Retry", (State.FAILED, State.CANCELLED), yes=yes or bool(ids))


@jobs_group.command("cancel")
@steering_options
def cancel_command(
    target: Target,
    ids: tuple[str, ...],
    states: tuple[str, ...],
    queue: str | None,
    task: str | None,
    limit: int | None,
    everything: bool,
    yes: bool,
) -> None:
    """Withdraw jobs that wait, ask running ones to stop."""
    chosen = Selection(ids, _states(states), queue, task, limit, everything)
    _steer(target, chosen, "Cancel", (State.SCHEDULED, State.READY, State.RUNNING), yes=yes)


@jobs_group.command("delete")
@steering_options
def delete_command(
    target: Target,
    ids: tuple[str, ...],
    states: tuple[str, ...],
    queue: str | None,
    task: str | None,
    limit: int | None,
    everything: bool,
    yes: bool,
) -> None:
    """Forget jobs for good, waiting or finished. Running ones stay."""
    chosen = Selection(ids, _states(states), queue, task, limit, everything)
    possible = tuple(state for state in State if state is not State.RUNNING)
    _steer(target, chosen, "Delete", possible, yes=yes)


def desk_of(app: Outwork) -> tuple[Desk, bool]:
    """Who is asked about jobs, and whether that is the dead letters only. Raises Unsupported."""
    from outwork.brokers.base import Store
    from outwork.brokers.letters import DeadLetters, KeepsDeadLetters

    broker = app.broker
    if not isinstance(broker, Store) and isinstance(broker, KeepsDeadLetters):
        return DeadLetters(broker, broker.url), True
    return app.store, False


# ---- steering -------------------------------------------------------------------------------------------------------


def _steer(target: Target, chosen: Selection, verb: str, possible: tuple[State, ...], *, yes: bool) -> None:
    """Do `verb` to the chosen jobs that are in a possible state, and say what became of them."""
    if chosen.ids and (chosen.narrowed or chosen.everything):
        raise click.UsageError("give ids or filters, not both")
    if not (chosen.ids or chosen.narrowed or chosen.everything):
        raise click.UsageError(
            f"which jobs? Give ids, --state, --queue or --task; or --all to {verb.lower()} every one"
        )
    store, dead = desk_of(target.load_shared())
    if dead and verb == "Cancel":
        store.cancel(())  # refuses, with what to do
    act = {"Retry": store.retry, "Cancel": store.cancel, "Delete": store.delete}[verb]
    records, unknown = _chosen_records(store, chosen, possible)
    for job_id in unknown:
        why = "it is not among the dead letters" if dead else "it was pruned, or never enqueued"
        click.echo(f"outwork: OW141 no job {job_id}: {why}", err=True)
    fitting = [record.id for record in records if record.state in possible]
    left = len(records) - len(fitting)
    changed = 0
    if fitting:
        confirm(f"{verb} {plural(len(fitting), 'job')}?", yes=yes)
        for batch in _batches(fitting):
            changed += sum(state is not None for state in act(batch))
    done = {"Retry": "to be run again", "Cancel": "cancelled", "Delete": "deleted"}[verb]
    say(f"{plural(changed, 'job')} {done}" + (f", {left:,} left: not {_words(possible)}" if left else ""))
    if unknown or (chosen.ids and left):
        click.get_current_context().exit(FAILED)


def _chosen_records(store: Desk, chosen: Selection, possible: tuple[State, ...]) -> tuple[list[Record], list[str]]:
    """The records that are meant, and the ids that nobody knows."""
    if chosen.ids:
        found = list(zip(chosen.ids, store.get(chosen.ids), strict=True))
        return [record for _, record in found if record], [job_id for job_id, record in found if record is None]
    states = chosen.states or possible
    records: list[Record] = []
    for record in _all_fitting(store, _filter(states, chosen.queue, chosen.task)):
        records.append(record)
        if len(records) == chosen.limit:
            break
    return records, []


def _all_fitting(store: Desk, which: Filter) -> Iterator[Record]:
    cursor: str | None = None
    while True:
        page = store.find(which, BATCH, cursor)
        yield from page.records
        cursor = page.cursor
        if cursor is None:
            return


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]


def _words(states: Sequence[State]) -> str:
    names = [state.lower() for state in states]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _states(names: Sequence[str]) -> tuple[State, ...]:
    return tuple(State(name.upper()) for name in names)


def _filter(states: tuple[State, ...], queue: str | None, task: str | None) -> Filter:
    from outwork.brokers.base import Filter

    return Filter(states=states or None, queue=queue, task=task)


# ---- showing --------------------------------------------------------------------------------------------------------


def summary(record: Record) -> dict[str, Any]:
    """A record as `jobs ls --json` shows it; times are Unix seconds."""
    return {
        "id": record.id,
        "task": record.task,
        "queue": record.queue,
        "priority": record.priority,
        "state": record.state,
        "attempts": record.attempts,
        "enqueued_at": record.enqueued_at,
        "due": record.due,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
    }


def _why(record: Record) -> dict[str, str]:
    return {"reason": record.errors[-1].message if record.errors else ""}


def _short(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= 60 else f"{line[:59]}…"


def details(record: Record, *, payload: bool) -> dict[str, Any]:
    """A record as `jobs show --json` shows it."""
    more: dict[str, Any] = {
        "failures": record.failures,
        "crashes": record.crashes,
        "misses": record.misses,
        "worker": record.worker,
        "expires_at": record.expires_at,
        "cancel_requested": record.cancel_requested,
        "prune_at": record.prune_at,
        "errors": record.errors,
    }
    if payload:
        more |= {"arguments": _json_or_text(_arguments(record)), "result": _json_or_text(record.result)}
    return summary(record) | more


def _arguments(record: Record) -> bytes:
    from outwork.codec import decode_job
    from outwork.errors import Undecodable

    try:
        return bytes(decode_job(record.body).args)
    except Undecodable:
        return record.body  # what nobody can read is what the operator wants to see


def _json_or_text(body: bytes | None) -> Any:
    import msgspec

    if body is None:
        return None
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode(errors="backslashreplace")


def _show(record: Record, *, payload: bool) -> None:
    pairs = [
        ("id", record.id),
        ("task", record.task),
        ("queue", record.queue),
        ("priority", str(record.priority)),
        ("state", record.state.lower() + (" (cancel requested)" if record.cancel_requested else "")),
        ("attempts", f"{record.attempts} ({record.failures} failed, {record.crashes} crashed)"),
        ("enqueued", moment(record.enqueued_at)),
        ("due", moment(record.due)),
        ("started", moment(record.started_at)),
        ("finished", moment(record.finished_at)),
        ("worker", record.worker or "-"),
    ]
    if record.misses:
        times = "once" if record.misses == 1 else f"{record.misses} times"
        pairs.append(("given back", f"{times}, by a worker that does not know the task"))
    if record.expires_at is not None:
        pairs.append(("expires", moment(record.expires_at)))
    if record.prune_at is not None:
        pairs.append(("kept until", moment(record.prune_at)))
    if payload:
        pairs.append(("arguments", _arguments(record).decode(errors="backslashreplace")))
        pairs.append(("result", "-" if record.result is None else record.result.decode(errors="backslashreplace")))
    say_pairs(pairs)
    for failure in record.errors:
        say()
        say(f"attempt {failure.attempt}, {moment(failure.at)}, on {failure.worker or 'no worker'}", bold=True)
        say(failure.traceback.rstrip() or f"{failure.exception}: {failure.message}")
