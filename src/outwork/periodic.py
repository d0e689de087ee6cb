"""The schedules of an application: those of its tasks, as its configuration changes them and adds to them."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from outwork.app import Outwork
from outwork.brokers.base import Broker, Store
from outwork.client.admission import check
from outwork.configuration.periodic_tables import ABOVE, PeriodicSettings
from outwork.errors import EnqueueError, InvalidSchedule, SettingsError, Unsupported
from outwork.job import Job
from outwork.schedule import Periodic, make_periodic
from outwork.task import Call, Task

LONGEST_NAME = 100


class Entry:
    """One schedule. `origin` is where it is declared: `tasks.py:12`, or the place of its table."""

    def __init__(self, name: str, call: Call[Any], rule: Periodic, enabled: bool, origin: str) -> None:
        self.name = name
        self.call = call
        self.rule = rule
        self.enabled = enabled
        self.origin = origin
        self.pause_name = f"schedule:{name}"
        """What `Store.pause` calls it."""
        self._prefix = f"{name if len(name) <= LONGEST_NAME else sha256(name.encode()).hexdigest()[:40]}@"
        meaning = f"{rule.schedule.cron}|{rule.schedule.zone}|{rule.schedule.every}"
        self.record = self._prefix + sha256(meaning.encode()).hexdigest()[:8]
        """What the store calls it. Its times are part of that: when they change it begins anew, so that slots which
        the new ones would have had do not count as missed. There is one small record for each time it was changed."""

    @property
    def task(self) -> Task[..., Any]:
        return self.call.task

    def last(self, known: Mapping[str, float]) -> float | None:
        """Up to when slots have passed, by `Store.schedules`: also those of the times that it had before."""
        return max((at for record, at in known.items() if record.startswith(self._prefix)), default=None)

    def job(self, slot: float) -> Job:
        """A job for this slot."""
        return replace(self.call.job(), slot=slot)

    def __repr__(self) -> str:
        return f"<Entry {self.name}: {self.rule.schedule}>"


def entries(app: Outwork) -> list[Entry]:
    """All schedules of an application, by name. Raises SettingsError for a table that does not fit the tasks."""
    tables = dict(app.settings.periodic)
    found: dict[str, Entry] = {}
    for name, task in app.tasks.items():
        table = tables.pop(name) if name in tables and tables[name].task in (None, name) else None
        if table is not None:
            found[name] = _configured(name, task, table)
        elif task.options.periodic is not None:
            found[name] = Entry(name, task.call_of((), {}), task.options.periodic, True, task.source)
    for name, table in tables.items():
        if name in found:
            raise SettingsError(
                f"{table.place}: the task {name} has a schedule of this name already. Give this one another name, or "
                "leave out `task` to change that one"
            )
        found[name] = _configured(name, _task(app, name, table), table)
    return [found[name] for name in sorted(found)]


def check_periodic(app: Outwork, schedules: list[Entry]) -> None:
    """Whether the broker can keep these schedules. Raises Unsupported and what `enqueue` would raise."""
    enabled = [entry for entry in schedules if entry.enabled]
    broker = app.broker
    if enabled and not (broker.capabilities.periodic and isinstance(broker, Store)):
        raise Unsupported(
            f"{broker.url} cannot keep schedules, and {_listed(enabled)} periodic. {_way_out(broker)}, or start the "
            "worker with --no-periodic"
        )
    for entry in enabled:
        check(entry.task, broker, app.settings.queues, in_child=False)


def prepared(app: Outwork, entry: Entry, slot: float) -> Job:
    """The job for a slot, with what hooks put into it. Raises HookRefused."""
    job = entry.job(slot)
    return app.hooks.prepare(job) if app.hooks.touches_jobs else job


def _configured(name: str, task: Task[..., Any], table: PeriodicSettings) -> Entry:
    """The schedule that a table describes. One that is named like its task changes what that says itself."""
    rule = _rule(task.options.periodic if name == task.name else None, table)
    try:
        call = task.using(queue_name=table.queue).call_of((), table.args or {})
    except EnqueueError as error:
        raise SettingsError(f"{table.place}: {error}") from error
    return Entry(name, call, rule, table.enabled is not False, table.place)


def _rule(own: Periodic | None, table: PeriodicSettings) -> Periodic:
    cron, every, zone, misfire = table.cron, table.every, table.timezone, table.misfire
    if own is not None:
        if cron is None and every is None:
            cron, every = own.schedule.cron or None, own.schedule.every
        if cron is not None and own.schedule.cron:
            zone = zone or own.schedule.zone
        misfire = misfire or own.misfire
    try:
        rule = make_periodic(cron, every, zone, misfire)
    except InvalidSchedule as error:
        raise SettingsError(f"{table.place}: {error.args[0]}") from error
    if rule is None:
        raise SettingsError(f'{table.place}: when? Write cron = "0 7 * * *", or every = "5m"')
    return rule


def _task(app: Outwork, name: str, table: PeriodicSettings) -> Task[..., Any]:
    wanted = table.task or name
    task = app.tasks.get(wanted)
    if task is not None:
        return task
    known = sorted(app.tasks)
    last = {one.rpartition(".")[2]: one for one in known}
    close = get_close_matches(wanted, known, n=1) or [last[one] for one in get_close_matches(wanted, last, n=1)]
    hint = f' (did you mean "{close[0]}"?)' if close else f". Known here: {', '.join(known) or 'none'}"
    need = "there is no task" if table.task else f'task = "..." is missing, and [{ABOVE}{name}] is not named like one:'
    raise SettingsError(f"{table.place}: {need} {wanted!r}{hint}")


def _listed(schedules: list[Entry]) -> str:
    names = ", ".join(entry.name for entry in schedules[:3])
    more = len(schedules) - 3
    return f"{names} and {more} more are" if more > 0 else f"{names} {'is' if len(schedules) == 1 else 'are'}"


def _way_out(broker: Broker) -> str:
    if not broker.capabilities.results:
        return "Set OUTWORK_STORE_URL to a database (sqlite://, postgresql://, mysql:// or redis://) beside it"
    return "Use sqlite://, postgresql://, mysql:// or redis://"
