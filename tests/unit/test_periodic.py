"""Schedules of an application, and the thread that enqueues their jobs. The clock is the broker's, moved by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from outwork import Outwork, TaskContext, codec, current_context
from outwork.brokers import open_broker
from outwork.brokers.base import Broker, Filter, Store
from outwork.errors import DeclarationError, HookRefused, InvalidSchedule, SettingsError, Unsupported
from outwork.hooks import Enqueuing
from outwork.periodic import check_periodic, entries
from outwork.worker.timetable import Timetable
from support.inside import FaultyBroker, memory_app, working
from support.waiting import until

START = 1_800_000_000.0
"""A whole number of hours since the epoch."""
MINUTE = timedelta(minutes=1)


class Clocked:
    """An application whose broker's clock stands where it is put, as nearly as a test needs."""

    def __init__(self, app: Outwork) -> None:
        self.app = app
        self.set(START)

    def set(self, at: float) -> None:
        self.app.broker.clock_offset += at - self.app.broker.now()

    def slots(self) -> list[float]:
        """The slots of the jobs that were enqueued, relative to START, in their order."""
        store = self.app.broker
        assert isinstance(store, Store)
        found = [codec.decode_job(record.body).slot for record in store.find(Filter(), limit=1000).records]
        return sorted(slot - START for slot in found if slot is not None)


def open_one(scheme: str, folder: Path) -> Broker:
    broker = FaultyBroker() if scheme == "memory" else open_broker(f"sqlite:///{folder}/tasks.db")
    if not broker.capabilities.periodic:
        pytest.skip(f"{scheme} keeps no schedules")
    return broker


@pytest.fixture(params=["memory", "sqlite"])
def clocked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Clocked]:
    app = Outwork(broker=open_one(request.param, tmp_path))
    yield Clocked(app)
    app.close()


def nothing() -> None: ...


def declare(app: Outwork, **options: Any) -> None:
    app.task(name="tick", **options)(nothing)


# ---- declaring -------------------------------------------------------------------------------------------------------


def test_a_wrong_schedule_is_an_error_where_it_is_declared() -> None:
    app = Outwork()
    with pytest.raises(InvalidSchedule, match="the minute '61'"):
        app.task(cron="61 * * * *")
    with pytest.raises(ValueError, match="contradict each other"):
        app.task(cron="* * * * *", every=5)
    with pytest.raises(ValueError, match="at least a second"):
        app.task(every=timedelta(0))


def test_a_task_that_needs_arguments_cannot_be_periodic_by_itself() -> None:
    app = Outwork()

    @app.task(every=60)
    def well(days: int = 7, *rest: int, **more: int) -> None: ...

    @app.task(every=60, takes_context=True)
    def well_too(context: TaskContext) -> None: ...

    with pytest.raises(DeclarationError, match="nobody gives it days, to"):

        @app.task(every=60)
        def badly(days: int, to: str) -> None: ...


def test_what_is_provided_is_given() -> None:
    app = Outwork()
    app.provide("session", lambda: 1)

    @app.task(every=60)
    def well(session: Any) -> None: ...

    assert [entry.name for entry in entries(app)] == [well.name]


# ---- the configuration -----------------------------------------------------------------------------------------------


def configured(text: str, tmp_path: Path) -> Outwork:
    path = tmp_path / "outwork.toml"
    path.write_text(text)
    app = Outwork(broker=FaultyBroker(), config=path)

    @app.task(name="shop.report", cron="0 7 * * *", timezone="Europe/Paris", misfire="skip")
    def report() -> None: ...

    @app.task(name="shop.greet")
    def greet(name: str, times: int = 1) -> None: ...

    return app


def test_a_table_adds_a_schedule(tmp_path: Path) -> None:
    app = configured(
        '[periodic.hello]\ntask = "shop.greet"\nevery = "5m"\nqueue = "slow"\nargs = { name = "Ada" }\n', tmp_path
    )
    hello, report = entries(app)
    job = hello.job(300.0)
    assert (job.task, job.queue, bytes(job.args), job.slot) == ("shop.greet", "slow", b'{"name":"Ada"}', 300.0)
    assert str(hello.rule.schedule) == "every 5 minutes"
    assert (report.name, str(report.rule.schedule)) == ("shop.report", "every day at 07:00, Europe/Paris")


@pytest.mark.parametrize(
    ("line", "words", "misfire"),
    [
        ('cron = "0 8 * * *"', "every day at 08:00, Europe/Paris", "skip"),
        ('timezone = "Asia/Tokyo"', "every day at 07:00, Asia/Tokyo", "skip"),
        ("every = 3600", "every hour", "skip"),
        ('misfire = "all"', "every day at 07:00, Europe/Paris", "all"),
    ],
)
def test_a_table_changes_the_schedule_of_a_task(tmp_path: Path, line: str, words: str, misfire: str) -> None:
    [entry] = entries(configured(f'[periodic."shop.report"]\n{line}\n', tmp_path))
    assert (str(entry.rule.schedule), entry.rule.misfire, entry.enabled) == (words, misfire, True)
    assert entry.origin.endswith("outwork.toml:1 [periodic.shop.report]")


def test_a_table_disables_a_schedule(tmp_path: Path) -> None:
    [entry] = entries(configured('[periodic."shop.report"]\nenabled = false\n', tmp_path))
    assert not entry.enabled


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (
            '[periodic.x]\ntask = "shop.greet"\ncrom = "0 7 * * *"\n',
            ':3 [periodic.x] crom: unknown key (did you mean "cron"?)',
        ),
        (
            '[periodic.x]\ntask = "shop.greet"\ncron = "61 * * * *"\n',
            ":1 [periodic.x]: cron='61 * * * *': the minute '61'",
        ),
        ('[periodic.x]\ntask = "shop.greet"\ncron = "@daily"\nevery = 5\n', "contradict each other"),
        ('[periodic.x]\ntask = "shop.greet"\ntimezone = "Mars"\n', "timezone='Mars' is not a time zone"),
        ('[periodic.x]\ntask = "shop.greet"\nargs = { name = "Ada" }\n', ":1 [periodic.x]: when?"),
        ('[periodic.x]\ntask = "shop.greet"\nevery = 5\n', "missing a required argument: 'name'"),
        ('[periodic.x]\ntask = "shop.greet"\nevery = 5\nargs = { name = 7 }\n', "name"),
        (
            '[periodic.x]\ntask = "shop.great"\nevery = 5\n',
            "there is no task 'shop.great' (did you mean \"shop.greet\"?)",
        ),
        ("[periodic.greet]\nevery = 5\n", 'task = "..." is missing'),
        ('[periodic."shop.report"]\ntask = "shop.greet"\nevery = 5\nargs = { name = "Ada" }\n', "already"),
        ('[periodic.x]\nenabled = "no"\n', "enabled = 'no': write true or false"),
        ('[periodic.x]\nmisfire = "twice"\n', 'write "skip", "once" or "all"'),
        ("[periodic.x]\nargs = [1]\n", "a table is needed"),
        ("periodic = 3\n", ":1 [periodic]: tables are needed"),
        ("[periodic]\nnightly = 3\n", ":2 [periodic.nightly]: a table is needed"),
    ],
)
def test_a_table_that_cannot_be_is_an_error_with_its_place(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(SettingsError) as caught:
        entries(configured(text, tmp_path))
    assert part in str(caught.value)


def test_schedules_by_a_framework_s_configuration() -> None:
    app = Outwork()
    app.configure({"periodic": {"hello": {"task": "hello", "every": 60}}, "framework": "Flask"})

    @app.task(name="hello")
    def hello() -> None: ...

    [entry] = entries(app)
    assert entry.origin == "framework (Flask): periodic.hello"


def test_the_environment_has_no_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTWORK_PERIODIC__NIGHTLY__CRON", "0 0 * * *")
    app = Outwork()
    app.read_surroundings()
    with pytest.raises(SettingsError, match="tables of the configuration file"):
        _ = app.settings


# ---- what a broker can keep ------------------------------------------------------------------------------------------


def test_a_broker_without_a_store_is_refused() -> None:
    app = Outwork("amqp://localhost")
    declare(app, every=60)
    with pytest.raises(Unsupported, match="Set OUTWORK_STORE_URL to a database"):
        Timetable(app, "w")


def test_schedules_that_are_disabled_need_nothing(tmp_path: Path) -> None:
    path = tmp_path / "outwork.toml"
    path.write_text("[periodic.tick]\nenabled = false\n")
    app = Outwork("amqp://localhost", config=path)
    declare(app, every=60)
    check_periodic(app, entries(app))


# ---- firing ----------------------------------------------------------------------------------------------------------


def test_a_new_schedule_begins_now(clocked: Clocked) -> None:
    declare(clocked.app, every=MINUTE)
    clocked.set(START + 90)
    table = Timetable(clocked.app, "w")
    assert 0 < table.look() <= 10
    assert clocked.slots() == []
    clocked.set(START + 118)
    assert 0 < table.look() < 2.1
    assert clocked.slots() == []
    clocked.set(START + 120)
    table.look()
    table.look()
    assert clocked.slots() == [120]


def test_a_slot_is_fired_once_by_many(clocked: Clocked) -> None:
    declare(clocked.app, every=MINUTE, keep_result=0)
    tables = [Timetable(clocked.app, f"w{number}") for number in range(8)]
    for table in tables:
        table.look()
    with ThreadPoolExecutor(8) as pool:
        for slot in range(1, 11):
            clocked.set(START + 60 * slot)
            for _ in range(2):
                list(pool.map(Timetable.look, tables))
    assert clocked.slots() == [60.0 * slot for slot in range(1, 11)]


def test_a_clock_that_jumps_brings_no_storm_and_nothing_twice(clocked: Clocked) -> None:
    declare(clocked.app, every=MINUTE)
    tables = [Timetable(clocked.app, f"w{number}") for number in range(3)]
    for jump in (0, 60, 3600, 60, 120, 3600, 3660, -7200, 3660, 3720):
        clocked.set(START + jump)
        for table in tables:
            table.look()
    assert clocked.slots() == [60, 3600, 3660, 3720]


@pytest.mark.parametrize(
    ("misfire", "expected"), [("once", [36_000]), ("skip", []), ("all", [3600 * n for n in range(2, 11)])]
)
def test_after_a_downtime(clocked: Clocked, misfire: str, expected: list[float]) -> None:
    declare(clocked.app, every=timedelta(hours=1), misfire=misfire)
    clocked.set(START + 3700)
    Timetable(clocked.app, "before").look()
    clocked.set(START + 36_000 + 1800)
    Timetable(clocked.app, "after").look()
    assert clocked.slots() == expected


def test_slots_of_a_pause_pass_by(clocked: Clocked) -> None:
    declare(clocked.app, every=MINUTE, misfire="all")
    table = Timetable(clocked.app, "w")
    table.look()
    clocked.app.store.pause("schedule:tick")
    for at in (60, 120, 180):
        clocked.set(START + at)
        table.look()
    clocked.app.store.resume("schedule:tick")
    clocked.set(START + 200)
    table.look()
    assert clocked.slots() == []
    clocked.set(START + 240)
    table.look()
    assert clocked.slots() == [240]


def test_other_times_begin_anew(clocked: Clocked) -> None:
    """Moved from seven to nine, at noon: it does not run at noon; moved back, nor the next day at noon."""
    day, hour = 86_400, 3600
    midnight = START - START % day

    def look(cron: str, at: float) -> None:
        app = Outwork(broker=clocked.app.broker)
        declare(app, cron=cron)
        clocked.set(midnight + at)
        table = Timetable(app, "w")
        table.look()
        table.look()

    look("0 7 * * *", 6 * hour)
    look("0 7 * * *", 7 * hour)
    look("0 9 * * *", 12 * hour)
    look("0 9 * * *", day + 9 * hour)
    look("0 7 * * *", day + 12 * hour)
    look("0 7 * * *", 2 * day + 7 * hour)
    assert [slot + START - midnight for slot in clocked.slots()] == [7 * hour, day + 9 * hour, 2 * day + 7 * hour]


def test_hooks_see_the_jobs_and_may_refuse_one(clocked: Clocked, caplog: pytest.LogCaptureFixture) -> None:
    app = clocked.app
    declare(app, every=MINUTE)
    table = Timetable(app, "w")
    table.look()
    told: list[str] = []
    wrong = True

    @app.hooks.before_enqueue
    def judge(job: Enqueuing) -> None:
        if wrong:
            raise RuntimeError("not this one")

    @app.hooks.on_event
    def hear(event: object) -> None:
        told.append(type(event).__name__)

    clocked.set(START + 60)
    table.look()
    assert clocked.slots() == []
    assert HookRefused.code in caplog.text
    wrong = False
    clocked.set(START + 120)
    table.look()
    assert clocked.slots() == [120]
    assert told == ["JobEnqueued"]


def test_one_that_still_waits_is_enough(clocked: Clocked) -> None:
    if not clocked.app.broker.capabilities.unique:
        pytest.skip("it knows no unique jobs")
    declare(clocked.app, every=MINUTE, unique=True)
    table = Timetable(clocked.app, "w")
    for at in (0, 60, 120, 180):
        clocked.set(START + at)
        table.look()
    assert clocked.slots() == [60]


# ---- the thread ------------------------------------------------------------------------------------------------------


def test_the_task_knows_its_slot() -> None:
    app, broker = memory_app()
    seen: list[datetime | None] = []

    @app.task(every=3600, takes_context=True)
    def tick(context: TaskContext) -> None:
        seen.append(context.slot)
        assert current_context().slot == context.slot

    timetable = Timetable(app, "w")
    broker.clock_offset = START - time.time() - 60
    timetable.look()  # it begins, and has missed nothing: however late it wakes, the slot is ahead of it
    broker.clock_offset += 60
    with working(app), timetable:
        until(lambda: seen, "the slot")
        tick.enqueue().get(timeout=60)
    assert seen == [datetime.fromtimestamp(START, UTC), None]
    direct: list[object] = []

    @app.task(takes_context=True)
    def asked(context: TaskContext) -> None:
        direct.append(context.slot)

    asked()
    assert direct == [None]


def test_the_thread_outlives_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    from outwork.errors import BrokerUnavailable

    app, broker = memory_app()
    ran = threading.Event()

    @app.task(every=1)
    def tick() -> None:
        ran.set()

    failures = 0
    known = broker.schedules

    def schedules() -> dict[str, float]:
        nonlocal failures
        failures += 1
        if failures < 3:
            raise BrokerUnavailable("away") if failures == 1 else RuntimeError("odd")
        return known()

    monkeypatch.setattr(broker, "schedules", schedules)
    with working(app), Timetable(app, "w"):
        assert ran.wait(60)


def test_an_embedded_worker_fires_and_learns_of_later_tasks() -> None:
    app = Outwork("thread:")
    ran = threading.Event()

    @app.task
    def first() -> None: ...

    first.enqueue().get(timeout=60)
    try:
        app.stop_worker()

        @app.task(every=1)
        def tick() -> None:
            ran.set()

        first.enqueue().get(timeout=60)
        assert ran.wait(60)
    finally:
        app.close()


def test_a_worker_may_be_told_to_leave_them_alone() -> None:
    from outwork.worker.timetable import timetable_of

    app = Outwork("amqp://localhost")
    declare(app, every=60)
    app.override({"worker.periodic": False})
    with timetable_of(app, "w"):
        pass
    app.override({"worker.periodic": True})
    with timetable_of(app, "w", drain=True):
        pass
    with pytest.raises(Unsupported):
        timetable_of(app, "w")
