"""docs/benchmarks.md is what the kept results make of it, and says what they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.page import budgets, peers, plots, tables
from benchmarks.page.__main__ import PAGE, PLACE, TABLES, write, written
from benchmarks.page.cells import Book, number
from benchmarks.results import Recorder, recording

PLOTS = PAGE.parent / "plots"


@pytest.fixture
def book(tmp_path: Path) -> Book:
    """Nothing is measured until something is recorded there."""
    return Book(tmp_path)


@pytest.fixture
def race(tmp_path: Path) -> Iterator[Recorder]:
    with recording("peers", folder=tmp_path, command="python -m benchmarks.peers") as run:
        yield run


def contestant(run: Recorder, subject: str, peer: str, broker: str, **quantities: float | None) -> None:
    run.fact(subject, "peer", peer)
    run.fact(subject, "broker", broker)
    for name, value in quantities.items():
        run.add(subject, {"p50": peers.P50, "cpu": peers.CPU, "bulk": "bulk enqueue"}.get(name, name), "", value)


def test_the_page_is_made_of_what_was_kept() -> None:
    assert PAGE.read_text() == written(PAGE.read_text(), Book()), "run  make page"


def test_the_plots_are_drawn_from_what_was_kept() -> None:
    book = Book()
    for name, make in plots.PLOTS.items():
        plot = make(book)
        file = PLOTS / f"{name}.svg"
        drawn = plots.drawn_from(file.read_text()) if file.exists() else ""
        assert drawn == (plots.digest(plot) if plot else ""), f"{file.name}: run  make page"


def test_every_table_and_plot_is_on_the_page() -> None:
    shown = [(kind, name) for _, kind, name, _ in PLACE.findall(PAGE.read_text())]
    assert sorted(shown) == sorted([*(("measured", one) for one in TABLES), *(("plot", one) for one in plots.PLOTS)])


def test_what_is_not_measured_says_how_to_measure_it(book: Book) -> None:
    page = written(PAGE.read_text(), book)
    assert "run `python -m benchmarks.endtoend`" in page
    assert "run `python -m benchmarks.peers`" in page
    assert "0 met, 0 missed" in page
    assert "![" not in page


def test_a_cell_is_the_median_and_its_run_stands_below(book: Book, tmp_path: Path) -> None:
    with recording("endtoend", folder=tmp_path, command="python -m benchmarks.endtoend") as run:
        run.version("Redis", "7.0.15")
        run.version("PostgreSQL", "15.20")
        run.add("Redis", "drain, one process", "jobs/s", 40_000, 60_000, 50_000)
        run.add("Redis", "latency from the return, p50", "ms", -0.1)
        run.add("Redis", "latency from the return, p99", "ms", 1.234)
    shown = tables.TABLES["endtoend"](book)
    assert "| drain, one worker process, jobs/s | 50,000 |" in shown
    assert "| before it / 1.23 |" in shown
    assert "`python -m benchmarks.endtoend`" in shown
    assert "Redis 7.0.15, medians of 3 rounds, which lie up to 40 % apart." in shown
    assert "PostgreSQL" not in shown


def test_a_ratio_is_the_median_of_those_of_the_rounds(book: Book, tmp_path: Path) -> None:
    with recording("bound", folder=tmp_path) as run:
        run.add("SQLite", "one at a time, plain", "jobs/s", 100, 1000, 10)
        run.add("SQLite", "one at a time, unique", "jobs/s", 50, 900, 8)
    assert "| one at a time: unique | 80 % |" in tables.TABLES["bound"](book)


def test_a_budget_is_met_or_missed_by_what_was_measured(book: Book, tmp_path: Path) -> None:
    with recording("endtoend", folder=tmp_path) as run:
        run.add("Redis", "drain, one process", "jobs/s", 50_000)
        run.add("PostgreSQL", "drain, one process", "jobs/s", 39_999)
        run.add("Redis", "latency from the call, p50", "ms", 0.8)
        run.add("SQLite", "latency from the call, p50", "ms", 0.9)
    shown = budgets.budgets(book)
    assert shown.startswith("2 met, 2 missed, ")
    assert "✓ 50,000 (≥ 50,000)" in shown
    assert "✗ **39,999** (≥ 40,000)" in shown
    missed = budgets.missed(book)
    assert "- **drain, one worker process**: PostgreSQL 39,999 jobs/s (aim ≥ 40,000). The server" in missed
    assert "SQLite 0.90 ms (aim ≤ 0.80)" in missed
    assert "Redis" not in missed


def test_where_a_peer_is_better_is_computed(book: Book, race: Recorder, tmp_path: Path) -> None:
    contestant(race, "redis_outwork", "Outwork", "redis", drain=50_000, p50=0.7, cpu=0.05)
    contestant(race, "redis_huey", "Huey", "redis", drain=4_000, p50=0.4, cpu=0.2)
    contestant(race, "redis_saq", "SAQ", "redis", drain=6_000, p50=0.6, cpu=0.3)
    contestant(race, "rabbitmq_outwork_classic", "Outwork", "rabbitmq", drain=20_000)
    contestant(race, "rabbitmq_outwork_quorum", "Outwork", "rabbitmq", drain=10_000)
    contestant(race, "rabbitmq_dramatiq", "Dramatiq", "rabbitmq", drain=15_000)
    read = written_while(race, tmp_path)
    assert peers.better(read).splitlines() == [
        "- Redis, latency, p50, ms: Huey 0.40, SAQ 0.60 (Outwork 0.70)",
        "- RabbitMQ, drain, jobs/s: Dramatiq 15,000 (Outwork (classic) 20,000, Outwork (quorum) 10,000)",
    ]
    aims = peers.aims(read)
    assert "| Redis | drain, jobs/s | Outwork: 50,000 | SAQ: 6,000 | ✗ **8.33** | ≥ 10 |" in aims
    assert "| Redis | processor time of 1,000 jobs, s | Outwork: 0.05 | Huey: 0.20 | ✓ 4 | ≥ 1 |" in aims
    assert "| RabbitMQ | drain, jobs/s | Outwork (classic): 20,000 | Dramatiq: 15,000 | ✗ **1.33** | ≥ 2 |" in aims


def test_a_peer_that_did_not_get_there_is_not_ahead(race: Recorder, tmp_path: Path) -> None:
    until = "kill -9: until all were run"
    contestant(race, "sqlite_outwork", "Outwork", "sqlite", **{until: 14.0})
    contestant(race, "sqlite_huey", "Huey", "sqlite", **{until: None})
    race.fact("sqlite_huey", "failure", "it hung")
    read = written_while(race, tmp_path)
    assert peers.better(read) == "In none of the quantities that were measured.\n"
    assert "| not in time |" in peers.peers(read)
    assert "it hung" in peers.settings(read)


def written_while(race: Recorder, folder: Path) -> Book:
    """What would be read if the recording ended now."""
    from benchmarks.results import Result, merged, save

    save(merged(Result("peers"), race.run), folder)
    return Book(folder)


def test_a_plot_says_in_words_what_it_shows(book: Book, tmp_path: Path) -> None:
    with recording("endtoend", folder=tmp_path) as run:
        run.add("Redis", "drain, one process", "jobs/s", 50_000)
        run.add("Redis", "drain, two processes", "jobs/s", 70_000)
    assert plots.embedded("drain", book) == (
        "![Drain of jobs that do nothing, jobs/s. Redis: one worker process 50,000, two worker processes 70,000.]"
        "(plots/drain.svg)\n"
    )


def test_plots_are_drawn_alike_each_time(race: Recorder, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is in the dependency group bench")
    with recording("endtoend", folder=tmp_path) as run:
        run.add("Redis", "drain, one process", "jobs/s", 50_000)
        run.add("Redis", "latency from the call, p50", "ms", 0.6)
        run.add("Redis", "latency from the call, p99", "ms", 2)
    with recording("growth", folder=tmp_path) as run:
        for subject in ("PostgreSQL", "PostgreSQL, beside a pinned snapshot"):
            for quantity in ("jobs so far", "exchange", "dead rows", "hot tables"):
                run.add(subject, quantity, "", 1_000, 2_000)
    contestant(race, "redis_outwork", "Outwork", "redis", drain=50_000, cpu=0.05)
    contestant(race, "redis_huey", "Huey", "redis", drain=4_000, cpu=0.5)
    read = written_while(race, tmp_path)
    for folder in ("one", "other"):
        write(PAGE, tmp_path / folder, tmp_path)
    drawn = sorted((tmp_path / "one" / "plots").iterdir())
    assert [path.stem for path in drawn] == ["drain", "growth", "latency", "peers_cpu", "peers_drain"]
    for path in drawn:
        text = path.read_text()
        assert text == (tmp_path / "other" / "plots" / path.name).read_text()
        plot = plots.PLOTS[path.stem](read)
        assert plot is not None
        assert plots.drawn_from(text) == plots.digest(plot)
        assert ">Redis<" in text or path.stem == "growth"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(66_517.4, "66,517"), (105.2, "105"), (46.19, "46.2"), (20.0, "20"), (1.378, "1.38"), (0.0409, "0.041"), (0, "0")],
)
def test_a_number_has_the_digits_that_mean_something(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_reason_names_its_server_where_it_is_not_that_of_all(book: Book, tmp_path: Path) -> None:
    with recording("endtoend", folder=tmp_path) as run:
        for server in ("SQLite", "Redis", "PostgreSQL"):
            run.add(server, "drain, one process", "jobs/s", 10_000)
    missed = budgets.missed(book)
    assert ". Redis: the server's own process" in missed
    assert ". PostgreSQL: the server's own process" in missed
