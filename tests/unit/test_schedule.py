"""When a schedule is due, in words and in numbers, on the days on which the clocks change, too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outwork.errors import DeclarationError, InvalidSchedule
from outwork.schedule import GRACE, MADE_UP, NEVER, Misfire, Periodic, Schedule, make_periodic, make_schedule

PARIS = ZoneInfo("Europe/Paris")


def moment(*numbers: int, zone: ZoneInfo = PARIS, fold: int = 0) -> float:
    return datetime(*numbers, tzinfo=zone, fold=fold).timestamp()  # type: ignore[arg-type, misc]


def slots(schedule: Schedule, after: float, until: float) -> list[float]:
    found: list[float] = []
    while (after := schedule.next(after)) <= until:
        found.append(after)
    return found


def shown(schedule: Schedule, after: float, until: float) -> list[str]:
    return [schedule.at(slot).strftime("%d %H:%M %z") for slot in slots(schedule, after, until)]


# ---- cron ------------------------------------------------------------------------------------------------------------


def test_every_day_at_seven() -> None:
    schedule = make_schedule("0 7 * * *", None, "Europe/Paris")
    assert shown(schedule, moment(2026, 7, 1, 7), moment(2026, 7, 3, 12)) == ["02 07:00 +0200", "03 07:00 +0200"]
    assert schedule.previous(moment(2026, 7, 3, 6, 59)) == moment(2026, 7, 2, 7)


def test_utc_unless_it_says_otherwise() -> None:
    assert make_schedule("0 7 * * *", None, None).next(0.0) == 7 * 3600


@pytest.mark.parametrize(
    ("cron", "zone", "around", "expected"),
    [
        ("30 2 * * *", "Europe/Paris", (2026, 3, 29), ["28 02:30 +0100", "29 03:00 +0200", "30 02:30 +0200"]),
        ("30 2 * * *", "Europe/Paris", (2026, 10, 25), ["24 02:30 +0200", "25 02:30 +0200", "26 02:30 +0100"]),
        ("0 7 * * *", "Europe/Paris", (2026, 3, 29), ["28 07:00 +0100", "29 07:00 +0200", "30 07:00 +0200"]),
        ("0 0 * * *", "America/Santiago", (2026, 9, 6), ["05 00:00 -0400", "06 01:00 -0300", "07 00:00 -0300"]),
        ("15 1 * * *", "America/New_York", (2026, 11, 1), ["31 01:15 -0400", "01 01:15 -0400", "02 01:15 -0500"]),
        ("45 1 * * *", "Australia/Lord_Howe", (2026, 4, 5), ["04 01:45 +1100", "05 01:45 +1100", "06 01:45 +1030"]),
        ("5 2 * * *", "Australia/Lord_Howe", (2026, 10, 4), ["03 02:05 +1030", "04 02:30 +1100", "05 02:05 +1100"]),
    ],
)
def test_a_daily_job_runs_once_when_the_clocks_change(
    cron: str, zone: str, around: tuple[int, int, int], expected: list[str]
) -> None:
    schedule = make_schedule(cron, None, zone)
    noon = datetime(*around, 12, tzinfo=ZoneInfo(zone))
    since = (noon.replace(tzinfo=None) - timedelta(days=1, hours=12)).replace(tzinfo=ZoneInfo(zone)).timestamp()
    until = noon.timestamp() + 36 * 3600
    assert shown(schedule, since - 1, until)[:3] == expected
    for slot in slots(schedule, since, until):
        assert schedule.previous(slot) == slot
        assert schedule.previous(slot + 60) == slot


def test_from_within_the_hour_that_comes_twice() -> None:
    schedule = make_schedule("30 2 * * *", None, "Europe/Paris")
    assert schedule.next(moment(2026, 10, 25, 2, 15, fold=1)) == moment(2026, 10, 26, 2, 30)


def test_every_quarter_of_an_hour_goes_on_over_a_change() -> None:
    schedule = make_schedule("*/15 * * * *", None, "Europe/Paris")
    found = slots(schedule, moment(2026, 10, 25, 1), moment(2026, 10, 25, 4))
    assert {after - before for before, after in pairwise(found)} == {900.0}


def test_a_rare_one() -> None:
    schedule = make_schedule("0 0 29 2 *", None, None)
    assert schedule.at(schedule.next(moment(2024, 3, 1))) == datetime(2028, 2, 29, tzinfo=UTC)
    assert schedule.at(schedule.previous(moment(2028, 2, 28))) == datetime(2024, 2, 29, tzinfo=UTC)


@settings(deadline=None)  # the first look at a zone reads its file
@given(
    cron=st.sampled_from(
        ["0 7 * * *", "30 2 * * *", "*/7 * * * *", "0 2,3 * * *", "0 0 1 * *", "59 23 * * 5", "0 */2 * * *"]
    ),
    zone=st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    at=st.integers(1_600_000_000, 1_900_000_000),
)
def test_next_and_previous_agree(cron: str, zone: str, at: int) -> None:
    schedule = make_schedule(cron, None, zone)
    following, before = schedule.next(at), schedule.previous(at)
    assert before <= at < following
    assert schedule.next(before) == following
    assert schedule.previous(following - 1) == before
    assert schedule.previous(following) == following


# ---- intervals -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(every=st.integers(1000, 10_000_000).map(lambda ms: ms / 1000), at=st.floats(1e9, 4e9))
def test_intervals_count_from_the_epoch(every: float, at: float) -> None:
    schedule = make_schedule(None, every, None)
    following, before = schedule.next(at), schedule.previous(at)
    assert before <= at < following
    assert following - before == pytest.approx(every, abs=0.002)
    assert schedule.next(before) == following
    assert following / every == pytest.approx(round(following / every), abs=1e-5)


def test_an_interval_is_a_timedelta_seconds_or_a_text() -> None:
    assert make_schedule(None, timedelta(minutes=5), None) == make_schedule(None, 300, None)
    assert make_schedule(None, "5m", None) == make_schedule(None, 300.0, None)


# ---- in words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "zone", "words"),
    [
        ("0 7 * * *", "Europe/Paris", "every day at 07:00, Europe/Paris"),
        ("@daily", None, "every day at 00:00, UTC"),
        ("0 9 * * MON-FRI", "America/New_York", "on Monday through Friday at 09:00, America/New_York"),
        ("0 0 1 * *", None, "on the first day of every month at 00:00, UTC"),
        ("0 * * * *", None, "at the start of every hour, UTC"),
        ("5 4 * 2 *", None, "every day in February at 04:05, UTC"),
    ],
)
def test_cron_in_plain_words(cron: str, zone: str | None, words: str) -> None:
    assert str(make_schedule(cron, None, zone)) == words


@pytest.mark.parametrize(
    ("every", "words"),
    [
        (1, "every second"),
        (300, "every 5 minutes"),
        (3600, "every hour"),
        (604_800, "every week"),
        (90, "every 90 seconds"),
        (2.5, "every 2.5s"),
    ],
)
def test_an_interval_in_plain_words(every: float, words: str) -> None:
    assert str(make_schedule(None, every, None)) == words


# ---- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "every", "timezone", "part"),
    [
        ("61 * * * *", None, None, "the minute '61' is not 0-59"),
        ("0 0 * * FOO", None, None, "the day-of-week 'FOO' is not 0-7 or SUN-SAT"),
        ("0 0 30 2 *", None, None, "never due: none of its months has a day 30"),
        ("0 0 30,31 2 *", None, None, "never due: none of its months has a day 30,31"),
        ("0 0 32 2 *", None, None, "the day-of-month '32' is not 1-31"),
        ("* * *", None, None, "has 3 fields, and five are needed"),
        ("* * * * * *", None, None, "Write every=... for seconds"),
        (7, None, None, "a text is needed"),
        ("0 0 * * *", 5, None, "contradict each other"),
        (None, 5, "UTC", "counts from the epoch"),
        (None, None, "UTC", "says nothing without cron"),
        ("0 0 * * *", None, "Europe/Pari", "did you mean 'Europe/Paris'?"),
        ("0 0 * * *", None, "", "is not a time zone"),
        ("0 0 * * *", None, "../etc/passwd", "is not a time zone"),
        (None, 0, None, "at least a second"),
        (None, timedelta(seconds=-1), None, "cannot be negative"),
        (None, 0.5, None, "at least a second"),
        (None, "often", None, "is not a length of time"),
        (None, float("inf"), None, "is not a length of time"),
    ],
)
def test_what_says_no_moment_is_an_error_that_explains(cron: str, every: float, timezone: str, part: str) -> None:
    with pytest.raises(InvalidSchedule, match="OW117") as caught:
        make_periodic(cron, every, timezone, None)
    assert part in str(caught.value)
    assert isinstance(caught.value, ValueError | DeclarationError)


def test_misfire_is_one_of_three() -> None:
    with pytest.raises(InvalidSchedule, match="write 'skip', 'once' or 'all'"):
        make_periodic("0 0 * * *", None, None, "twice")  # type: ignore[arg-type]
    with pytest.raises(InvalidSchedule, match="says nothing without cron"):
        make_periodic(None, None, None, "once")


# ---- what is due -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("misfire", "now", "expected"),
    [
        ("once", 60.0, None),
        ("once", 119.9, None),
        ("once", 120.0, (120.0, (120.0,))),
        ("once", 1000.0, (960.0, (960.0,))),
        ("skip", 120.5, (120.0, (120.0,))),
        ("skip", 1000.0, (960.0, (960.0,))),
        ("all", 250.0, (240.0, (120.0, 180.0, 240.0))),
    ],
)
def test_what_is_due(misfire: Misfire, now: float, expected: object) -> None:
    assert Periodic(schedule=make_schedule(None, 60, None), misfire=misfire).due(60.0, now) == expected


def test_skip_passes_by_what_is_late() -> None:
    rule = Periodic(schedule=make_schedule("0 * * * *", None, None), misfire="skip")
    assert rule.due(0.0, 7200.0 + GRACE) == (7200.0, (7200.0,))
    assert rule.due(0.0, 7200.0 + GRACE + 1) == (7200.0, ())


def test_all_makes_up_for_so_many() -> None:
    rule = Periodic(schedule=make_schedule("* * * * *", None, None), misfire="all")
    due = rule.due(0.0, 86_400.0)
    assert due is not None
    newest, fired = due
    assert (newest, len(fired), fired[-1], fired[0]) == (86_400.0, MADE_UP, newest, newest - 60.0 * (MADE_UP - 1))


def test_a_clock_put_back_brings_nothing_back() -> None:
    rule = Periodic(schedule=make_schedule(None, 60, None))
    assert rule.due(6000.0, 1000.0) is None
    assert rule.schedule.next(6000.0) != NEVER
