"""How long jobs are kept: by the keepers of every worker, and by `outwork prune`."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from outwork import Outwork, State
from outwork.brokers.base import Filter
from outwork.cli import main
from outwork.job import TOMBSTONE_SECONDS
from support.inside import working
from support.waiting import until

DAY = 86_400.0

Prune = Callable[..., str]


class Shop:
    """An application on a SQLite file, with a job of every kind that has ended, one that waits and one scheduled."""

    def __init__(self, file: Path, **settings: object) -> None:
        self.url = f"sqlite:///{file}"
        self.app = app = Outwork(self.url)
        app.override(settings)

        @app.task(name="shop.good")
        def good() -> str:
            return "kept"

        @app.task(name="shop.brief", keep_result=0)
        def brief() -> str:
            return "not kept"

        @app.task(name="shop.long", keep_result=timedelta(days=30), queue_name="reports")
        def long() -> str:
            return "kept for long"

        @app.task(name="shop.bad", retry=None)
        def bad() -> None:
            raise ValueError("bad")

        self.ended = {task.name: task.enqueue().id for task in (good, brief, long, bad)}
        cancelled = good.using(run_after=5).enqueue()
        cancelled.cancel()
        self.ended["cancelled"] = cancelled.id
        with working(app, drain=True) as worker:
            worker.join()
        self.scheduled = good.using(run_after=400 * DAY).enqueue().id
        self.waiting = good.enqueue().id

    def left(self) -> set[str]:
        """What is known of the jobs that have ended."""
        records = self.app.store.get(list(self.ended.values()))
        return {name for name, record in zip(self.ended, records, strict=True) if record is not None}

    def check_the_others(self) -> None:
        """The jobs that wait were not touched."""
        records = self.app.store.get([self.scheduled, self.waiting])
        assert [record.state for record in records if record] == [State.SCHEDULED, State.READY]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path / "tasks.db")
    yield shop
    shop.app.close()


@pytest.fixture
def prune(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prune:
    """Run `outwork prune` when some time has passed; what it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("outwork.brokers.sql.sqlite.SQLiteBroker.clock_offset", 0.0)

    def run(*words: str, after: float = 0.0, code: int = 0, answer: str | None = None) -> str:
        monkeypatch.setattr("outwork.brokers.sql.sqlite.SQLiteBroker.clock_offset", after)
        default = Outwork()
        monkeypatch.setattr("outwork.app.default_app", default)
        result: Result = CliRunner().invoke(main, ["--broker", shop.url, "prune", *words], input=answer)
        default.close()
        assert result.exit_code == code, result.output
        shop.check_the_others()
        return result.output.strip()

    return run


# ---- keepers --------------------------------------------------------------------------------------------------------


def test_each_job_is_kept_for_its_time(shop: Shop) -> None:
    kept = {
        name: record.prune_at - record.finished_at
        for name, record in zip(shop.ended, shop.app.store.get(list(shop.ended.values())), strict=True)
        if record is not None and record.prune_at is not None and record.finished_at is not None
    }
    assert kept == {
        "shop.good": pytest.approx(DAY),
        "shop.brief": pytest.approx(TOMBSTONE_SECONDS),
        "shop.long": pytest.approx(30 * DAY),
        "shop.bad": pytest.approx(14 * DAY),
        "cancelled": pytest.approx(14 * DAY),
    }
    assert shop.app.get_result(shop.ended["shop.good"]).return_value == "kept"
    assert shop.app.get_result(shop.ended["shop.brief"]).return_value is None


def test_settings_say_otherwise(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "tasks.db", **{"retention.results": "2h", "retention.failed": "3h"})
    [good, bad] = shop.app.store.get([shop.ended["shop.good"], shop.ended["shop.bad"]])
    assert good is not None
    assert bad is not None
    assert good.prune_at == pytest.approx((good.finished_at or 0) + 7200)
    assert bad.prune_at == pytest.approx((bad.finished_at or 0) + 10_800)
    shop.app.close()


@pytest.mark.parametrize(
    ("days", "left"),
    [
        (0.5, {"shop.good", "shop.long", "shop.bad", "cancelled"}),
        (1.5, {"shop.long", "shop.bad", "cancelled"}),
        (15.0, {"shop.long"}),
        (31.0, set()),
    ],
)
def test_a_keeper_forgets_what_was_kept_for_long_enough(shop: Shop, days: float, left: set[str]) -> None:
    shop.app.store.delete([shop.waiting])  # else the worker would run it
    shop.app.broker.clock_offset = days * DAY
    with working(shop.app):
        until(lambda: shop.left() == left, f"only {left or 'nothing'} is left after {days} days")
    [scheduled] = shop.app.store.get([shop.scheduled])
    assert scheduled is not None
    assert scheduled.state is State.SCHEDULED


# ---- outwork prune --------------------------------------------------------------------------------------------------


def test_without_an_age_it_does_what_a_keeper_does(shop: Shop, prune: Prune) -> None:
    assert prune() == "0 jobs pruned"
    assert prune("--dry-run", after=1.5 * DAY) == "2 jobs would be pruned"
    assert len(shop.left()) == 5
    assert prune("--task", "shop.brief", after=1.5 * DAY) == "1 job pruned"
    assert prune("--queue", "reports", after=15 * DAY) == "0 jobs pruned"
    assert prune(after=15 * DAY) == "3 jobs pruned"
    assert shop.left() == {"shop.long"}, "it was to be kept for 30 days"
    assert prune(after=31 * DAY) == "1 job pruned"


def test_with_an_age_it_forgets_what_was_to_be_kept(shop: Shop, prune: Prune) -> None:
    assert prune("--older-than", "1h", "--yes", after=1800) == "0 jobs pruned"
    assert prune("--older-than", "1h", "--dry-run", after=4000) == "3 jobs would be pruned"
    assert len(shop.left()) == 5
    assert prune("--older-than", "1h", "--queue", "reports", "--yes", after=4000) == "1 job pruned"
    assert prune("--older-than", "1h", "--task", "shop.brief", "--yes", after=4000) == "1 job pruned"
    assert prune("--older-than", "1h", "--yes", after=4000) == "1 job pruned"
    assert shop.left() == {"shop.bad", "cancelled"}, "the others have an age of their own"
    assert prune("--failed-older-than", "1h", "--yes", after=4000) == "2 jobs pruned"


def test_it_asks(shop: Shop, prune: Prune, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = prune("--older-than", "1h", after=4000, code=2)
    question = "Forget 3 jobs that succeeded 1h ago or earlier?"
    assert refused == f"outwork: {question} There is no terminal to answer on: repeat the command with --yes"
    monkeypatch.setattr("outwork.cli.common.has_terminal", lambda: True)
    assert "nothing was changed" in prune("--older-than", "1h", after=4000, code=1, answer="n\n")
    assert len(shop.left()) == 5
    both = prune("--older-than", "1h", "--failed-older-than", "2d", after=3 * DAY, answer="y\n")
    assert "succeeded 1h ago or earlier, or failed or were cancelled 2d ago or earlier?" in both
    assert both.endswith("5 jobs pruned")


def test_a_wrong_age_says_what_to_write(prune: Prune) -> None:
    assert "is not a length of time" in prune("--older-than", "old", code=2)


def test_it_works_in_batches_and_shows_a_bar_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        "from outwork import Outwork\n"
        "app = Outwork('sqlite:///tasks.db')\n"
        "@app.task\n"
        "def work() -> None: ...\n"
        "def fill() -> None:\n"
        "    results = app.enqueue_many(work.bind() for _ in range(2600))\n"
        "    app.store.cancel([result.id for result in results])\n"
    )
    subprocess.run([sys.executable, "-c", "import tasks; tasks.fill()"], cwd=tmp_path, check=True, timeout=60)
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "outwork", "-A", "tasks", "prune", "--failed-older-than", "0", "--yes"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=child, text=True) as process:
        os.close(child)
        said, _ = process.communicate(timeout=60)
    shown = b""
    while part := _read(parent):
        shown += part
    os.close(parent)
    assert said == "2,600 jobs pruned\n"
    assert re.search(r"pruning +\[#+\] +2600/2600", shown.decode()), shown
    app = Outwork(f"sqlite:///{tmp_path}/tasks.db")
    assert app.store.find(Filter()).records == []
    app.close()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # its other end is closed
        return b""
