"""When a periodic task is due: cron expressions in a time zone, and intervals. Pure: the time is an argument.

A slot is a moment at which a task is due, as Unix seconds. It is a function of the schedule alone, so that all workers
mean the same slots. Cron is read as Debian's cron does (cronsim): a job at a fixed hour runs once on the days on which
the clocks change, at the first minute after the gap if its own is left out. Intervals count from the epoch, whatever
the clocks on the walls show.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches
from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct

from outwork.durations import duration_text, seconds_of
from outwork.errors import InvalidSchedule

Misfire: TypeAlias = Literal["skip", "once", "all"]
"""What becomes of slots at which no worker ran: none is made up for, the newest one is, or all of them are."""

DEFAULT_ZONE: Final = "UTC"
SHORTEST: Final = 1.0
"""Seconds between two slots at least: each is a write in the broker."""
GRACE: Final = 60.0
"""Seconds by which a slot may be late before "skip" counts it as missed."""
MADE_UP: Final = 100
"""Slots that "all" makes up for at most: the newest ones."""
NEVER: Final = math.inf

ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS: Final = {
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L or LW",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 or SUN-SAT",
}
SOME_DAY: Final = 1_704_067_200.0
"""1 January 2024: from there on a schedule must have a slot."""
UNITS: Final = (("week", 604_800), ("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


class Schedule(Struct, frozen=True, kw_only=True):
    """`cron` in the time zone `zone`, or `every` so many seconds since the epoch; made by `make_schedule`."""

    cron: str = ""
    zone: str = DEFAULT_ZONE
    every: float | None = None

    def next(self, after: float) -> float:
        """The first slot after this moment; NEVER if there is none."""
        if self.every is not None:
            number = math.floor(after / self.every)
            while (slot := self._numbered(number)) <= after:
                number += 1
            return slot
        return next((slot for slot in self._cron_slots(after) if slot > after), NEVER)

    def previous(self, at: float) -> float:
        """The last slot up to this moment; -NEVER if there was none for a century.

        By halving, because cronsim cannot walk backwards over a gap in the local time.
        """
        if self.every is not None:
            number = math.ceil(at / self.every)
            while (slot := self._numbered(number)) > at:
                number -= 1
            return slot
        end, span = math.floor(at), 60
        while self.next(end - span) > end:
            span *= 2
            if span > 100 * 366 * 86_400:
                return -NEVER
        low, high = end - span, end  # next(low) <= end < next(high)
        while high - low > 1:
            middle = (low + high) // 2
            if self.next(middle) <= end:
                low = middle
            else:
                high = middle
        return self.next(low)

    def _numbered(self, number: int) -> float:
        assert self.every is not None
        return round(number * self.every, 3)

    def _cron_slots(self, after: float) -> Iterator[float]:
        """Slots from about this moment on. The first may be earlier: in an hour that comes twice, cron means the first
        one."""
        from cronsim import CronSim  # for those who use it

        for slot in CronSim(self.cron, datetime.fromtimestamp(math.floor(after), _zone(self.zone))):
            yield slot.timestamp()

    def at(self, slot: float) -> datetime:
        """A slot as a datetime of its time zone."""
        return datetime.fromtimestamp(slot, _zone(self.zone))

    def __str__(self) -> str:
        """In plain words: "every day at 07:00, Europe/Paris"."""
        if self.every is not None:
            return _interval_text(self.every)
        from cronsim import CronSim

        words = CronSim(self.cron, datetime(2024, 1, 1)).explain()
        when, space, days = words.partition(" every day")
        if not space:
            when, space, days = words.partition(" on ")
        if words.startswith("At ") and space:
            words = f"{space.strip()} {days.strip()}".rstrip() + f" at {when.removeprefix('At ')}"
        return f"{words[0].lower()}{words[1:]}, {self.zone}"


class Periodic(Struct, frozen=True, kw_only=True):
    """A schedule, and what becomes of the slots that it misses."""

    schedule: Schedule
    misfire: Misfire = "once"

    def due(self, last: float, now: float) -> tuple[float, tuple[float, ...]] | None:
        """The newest slot after `last` and up to `now`, and those to fire, oldest first; None if there is no new one.

        Of several slots that were missed, "once" fires the newest; "skip" fires it only if it is not late.
        """
        if self.schedule.next(last) > now:
            return None
        newest = self.schedule.previous(now)
        if self.misfire == "skip":
            return newest, ((newest,) if now - newest <= GRACE else ())
        slots = [newest]
        while self.misfire == "all" and len(slots) < MADE_UP:
            slot = self.schedule.previous(slots[-1] - 0.001)
            if slot <= last:
                break
            slots.append(slot)
        return newest, tuple(reversed(slots))


def make_periodic(
    cron: str | None, every: timedelta | float | str | None, timezone: str | None, misfire: Misfire | None
) -> Periodic | None:
    """What these options of a declaration mean; None for none of them. Raises InvalidSchedule."""
    if misfire is not None and misfire not in get_args(Misfire):
        raise InvalidSchedule(f"misfire={misfire!r}: write 'skip', 'once' or 'all'")
    if cron is None and every is None:
        if timezone is not None or misfire is not None:
            given = "timezone" if timezone is not None else "misfire"
            raise InvalidSchedule(f"{given}=... says nothing without cron=... or every=...")
        return None
    return Periodic(schedule=make_schedule(cron, every, timezone), misfire=misfire or "once")


def make_schedule(cron: str | None, every: timedelta | float | str | None, timezone: str | None) -> Schedule:
    """The schedule, checked. Raises InvalidSchedule."""
    if cron is not None and every is not None:
        raise InvalidSchedule("cron=... and every=... contradict each other: leave one of them out")
    if cron is None:
        if timezone is not None:
            raise InvalidSchedule(f"timezone={timezone!r} says nothing beside every=..., which counts from the epoch")
        return Schedule(every=_interval(every))
    zone = DEFAULT_ZONE if timezone is None else timezone
    _check_zone(zone)
    return Schedule(cron=_expression(cron), zone=zone)


def _interval(every: timedelta | float | str | None) -> float:
    try:
        seconds = seconds_of(every)  # type: ignore[arg-type]  # what is none of these is refused there
    except ValueError as error:
        raise InvalidSchedule(f"every: {error}") from None
    if seconds < SHORTEST:
        raise InvalidSchedule(f"every={every!r}: at least a second is needed")
    return seconds


def _expression(cron: str) -> str:
    """The expression with single spaces, its alias resolved."""
    from cronsim import CronSim, CronSimError

    if not isinstance(cron, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidSchedule(f"cron={cron!r}: a text is needed, as in '0 7 * * *'")
    fields = ALIASES.get(cron.strip().lower(), cron).split()
    if len(fields) != len(FIELDS):
        raise InvalidSchedule(
            f"cron={cron!r} has {len(fields)} fields, and five are needed: {' '.join(FIELDS)}, as in '0 7 * * *'; "
            f"or one of {', '.join(ALIASES)}. Write every=... for seconds"
        )
    expression = " ".join(fields)
    try:
        CronSim(expression, datetime(2024, 1, 1))
    except CronSimError as error:
        raise InvalidSchedule(f"cron={cron!r}{_complaint(fields, str(error).removeprefix('Bad '))}") from None
    if Schedule(cron=expression).next(SOME_DAY) == NEVER:
        raise InvalidSchedule(f"cron={cron!r} is never due: no day fits all of it")
    return expression


def _complaint(fields: list[str], name: str) -> str:
    """What is wrong with the field that cronsim names."""
    field = dict(zip(FIELDS, fields, strict=True)).get(name)
    if field is None:
        return f": {name}"
    if name == "day-of-month" and fields[3] != "*":
        from cronsim import CronSim, CronSimError

        try:
            CronSim(" ".join([*fields[:3], "*", *fields[4:]]), datetime(2024, 1, 1))
            return f" is never due: none of its months has a day {field}"
        except CronSimError:
            pass  # the day is wrong in any month
    return f": the {name} {field!r} is not {FIELDS[name]}"


def _zone(name: str) -> tzinfo:
    return UTC if name == DEFAULT_ZONE else _iana_zone(name)


def _iana_zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo  # for those who use it

    return ZoneInfo(name)


def _check_zone(name: str) -> None:
    try:
        _zone(name)
    except (KeyError, ValueError, OSError, TypeError, AttributeError):
        from zoneinfo import available_timezones

        known = available_timezones()
        close = get_close_matches(str(name), known, n=1, cutoff=0.5)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        if not known:
            hint = ": this machine has no time zones. Run:  pip install tzdata"
        raise InvalidSchedule(
            f"timezone={name!r} is not a time zone{hint}. Names are those of IANA, as 'Europe/Paris'"
        ) from None


def _interval_text(seconds: float) -> str:
    unit, size = next(((unit, size) for unit, size in UNITS if seconds % size == 0), ("", 0))
    if not unit:
        return f"every {duration_text(seconds)}"
    number = int(seconds // size)
    return f"every {unit}" if number == 1 else f"every {number} {unit}s"
