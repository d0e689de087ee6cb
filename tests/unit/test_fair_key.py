"""`fair_key` as it is declared and enqueued; that brokers keep the turns is in the conformance suite."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from outwork import Outwork, chain
from outwork.brokers.ledger import Cell, enqueue
from outwork.brokers.memory import MemoryBroker
from outwork.brokers.turns import Line, fair_cell
from outwork.codec import decode_job
from outwork.errors import DeclarationError, InvalidOption, Unsupported
from outwork.ids import new_claim_id
from outwork.job import Job, Moment
from outwork.testing.conformance.rig import new_job, shares
from outwork.ties import TURN, Ties, fair_place


def claimed(app: Outwork) -> list[Job]:
    found = app.broker.exchange(new_claim_id(), [], shares("default"), 100, 100, "worker-1").claimed
    return [decode_job(one.body) for one in found]


def fair_app(url: str = "memory:") -> Outwork:
    app = Outwork(url)

    @app.task(name="export", fair_key=lambda tenant, **_: tenant)
    def export(tenant: int | str | None, what: str = "all") -> str:
        return what

    @app.task(name="note", fair_key="notes")
    def note() -> None: ...

    return app


def test_the_key_is_a_text_or_a_function_of_the_arguments() -> None:
    app = fair_app()
    export, note = app.tasks["export"], app.tasks["note"]
    export.enqueue(7)
    export.enqueue(7)
    note.enqueue()
    export.using(fair_key="mine").enqueue(7)
    app.enqueue_many([export.using(fair_key=lambda what, **_: what).bind(7, "x")])
    assert [job.ties and job.ties.fair for job in claimed(app)] == ["7", "notes", "mine", "x", "7"]


def test_tasks_of_a_queue_share_the_keys() -> None:
    app = fair_app()
    app.tasks["export"].enqueue("notes")
    app.tasks["export"].enqueue("notes")
    app.tasks["note"].enqueue()
    assert [job.task for job in claimed(app)] == ["export", "export", "note"]


def test_steps_of_a_chain_have_their_turns() -> None:
    app = fair_app()
    for _ in range(3):
        app.tasks["export"].enqueue("flood")
    chain(app.tasks["export"].bind("other"), app.tasks["note"].bind()).enqueue()
    assert [job.ties and job.ties.fair for job in claimed(app)] == ["flood", "other", "flood", "flood"]


@pytest.mark.parametrize("wrong", [5, True, ("a", "b")])
def test_what_gives_no_key_is_refused(wrong: object) -> None:
    app = fair_app()
    with pytest.raises(DeclarationError, match=r"fair_key=.*write a text, or a function"):
        app.task(fair_key=wrong)  # type: ignore[call-overload]  # pyright: ignore
    with pytest.raises(InvalidOption, match="fair_key="):
        app.tasks["note"].using(fair_key=wrong)  # type: ignore[arg-type]  # pyright: ignore


def test_a_function_that_gives_no_key_is_refused_at_the_call() -> None:
    app = fair_app()
    with pytest.raises(InvalidOption, match="export: fair_key gave None; a text, a whole number or a UUID is needed"):
        app.tasks["export"].enqueue(None)
    with pytest.raises(InvalidOption, match=r"fair_key raised TypeError.*write lambda tenant, what"):
        app.tasks["export"].using(fair_key=lambda shop: shop).enqueue(1)
    assert claimed(app) == []


@pytest.mark.parametrize("store", [None, "sqlite:///jobs.db"])
def test_a_broker_without_a_line_of_ours_refuses_it(store: str | None) -> None:
    app = Outwork("amqp://localhost", store_url=store)

    @app.task(name="note", fair_key="notes")
    def note() -> None: ...

    with pytest.raises(Unsupported, match=r"note: fair_key cannot be kept by amqp://.* Use sqlite://.* alone"):
        note.enqueue()


def test_a_connection_of_the_callers_refuses_it(tmp_path: Path) -> None:
    app = fair_app(f"sqlite:///{tmp_path}/jobs.db")
    app.broker.queues()
    refused = pytest.raises(Unsupported, match=r"a fair_key.*Enqueue it after the commit")
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection, refused:
        app.tasks["note"].using(connection=connection).enqueue()
    app.close()


# ---- the arithmetic -------------------------------------------------------------------------------------------------

NOW = 1_790_000_000.0


def test_places() -> None:
    assert fair_place(None, None, NOW) == NOW
    assert fair_place(None, NOW - 5, NOW) == NOW
    assert fair_place(NOW - 60, None, NOW) == NOW - 60
    assert fair_place(NOW - 60, NOW - 70, NOW) == NOW - 60
    assert fair_place(NOW - 60, NOW - 50, NOW) == NOW - 50 + TURN > NOW - 50
    assert fair_place(None, NOW, NOW) == NOW + TURN > NOW


def test_a_clock_that_was_set_back_holds_nobody_back() -> None:
    assert fair_place(None, NOW + 3600, NOW) == NOW
    assert fair_place(NOW + 3600, NOW + 3600, NOW) > NOW + 3600  # behind its own jobs, which still wait


def test_a_place_is_forgotten_after_a_day() -> None:
    broker = MemoryBroker()
    broker.enqueue([Job(v=1, id=new_job().id, task="t", args=new_job().args, ties=Ties(fair="a"))])
    [cell] = broker._shelf.cells([fair_cell(Line("default", 0), "a")]).values()
    assert cell.until == pytest.approx(cell.first + 86_400)
    broker.clock_offset += 86_401
    broker.tend(None, rescue=False)
    assert broker._shelf.cells([fair_cell(Line("default", 0), "a")]) == {}


def test_a_place_whose_time_is_over_counts_no_more() -> None:
    broker = MemoryBroker()
    shelf = broker._shelf
    shelf.now = Moment(NOW, 0.0)
    name = fair_cell(Line("default", 0), "a")
    shelf.write_cells({name: Cell(first=NOW + 0.5, until=NOW)})
    enqueue(shelf, [(job := new_job(), b"{}")])
    enqueue(shelf, [(fair := Job(v=1, id=new_job().id, task="t", args=job.args, ties=Ties(fair="a")), b"{}")])
    assert shelf.records[fair.id].due == NOW
