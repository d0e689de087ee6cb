"""Under Flask's development server, with and without its reloader."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from signal import SIGINT

import pytest

from embedded.books import Books
from outwork.job import State
from support.ledger import Ledger
from support.sites import Site, Sites, exists, threads_of
from support.waiting import until

SOURCE = """
import os
from flask import Flask, request
from embedded import shop
from outwork.serving import wsgi

app = Flask(__name__)
app.wsgi_app = wsgi(app.wsgi_app)

@app.get("/")
@app.get("/enqueue")
def serve():
    return shop.answer(request.path, request.query_string.decode())

@app.cli.command()
def nightly():
    shop.step.enqueue("nightly")
    print("enqueued")
"""
IN_SHELL = 'from embedded import shop; shop.step.enqueue("shell")'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "frontend.py"
    path.write_text(SOURCE)
    return path


def flask(sites: Sites, *words: str, **environ: str) -> Site:
    return sites.start("-m", "flask", "--app", "frontend", *words, **environ)


def debugged(sites: Sites, **environ: str) -> Site:
    words = ("run", "--debug", "--port", "PORT")
    return flask(sites, *words, **environ)


def test_the_reloader(
    sites: Sites, books: Books, ledger: Ledger, source: Path, gate: Path, starts: Callable[..., int]
) -> None:
    books.schedule_for_yesterday("yesterday")
    site = debugged(sites, AT_IMPORT="import").listening()
    site.get()
    starts("yesterday")
    until(lambda: ledger.count("E", "import") == 2, "what parent and child enqueued at their imports")
    site.get("/enqueue?key=request&n=20")
    until(lambda: ledger.count("E") == 23, "the end of all jobs")
    assert set((ledger.keys("S") - Counter(["import"])).values()) == {1}
    [serving] = site.below()
    assert books.workers() == {serving}
    assert {entry.pid for entry in ledger.entries()} == {serving}
    assert threads_of(site.pid) == 1
    site.get("/enqueue?task=gated&key=long")
    starts("long")
    source.write_text(SOURCE + "# changed\n")
    until(lambda: not exists(serving), "another process, with the code as it is now")
    books.given_back()
    site.get()
    starts("long", 2)
    gate.touch()
    until(lambda: ledger.count("E", "long") == 1, "its end")


def test_control_c_under_the_reloader(sites: Sites, books: Books, source: Path, starts: Callable[..., int]) -> None:
    """The reloader's parent kills its child a quarter of a second later, so the rest is given back at once."""
    site = debugged(sites)
    site.get("/enqueue?task=gated&key=long")
    starts("long")
    site.stop(SIGINT, group=True)
    assert len(books.given_back()) == 1
    assert books.workers() == set()


def test_control_c_without_reloader(
    sites: Sites, books: Books, ledger: Ledger, source: Path, starts: Callable[..., int]
) -> None:
    site = flask(sites, "run", "--port", "PORT")
    site.get("/enqueue?key=short&seconds=1")
    starts("short")
    site.stop(SIGINT, group=True)
    assert ledger.count("E", "short") == 1
    assert len(books.records(State.SUCCESSFUL)) == 1
    assert books.workers() == set()


@pytest.mark.parametrize("form", ["command", "shell"])
def test_a_management_command_starts_nothing(
    form: str, sites: Sites, books: Books, ledger: Ledger, source: Path
) -> None:
    words = ("nightly",) if form == "command" else ("shell",)
    site = flask(sites, *words, PYTHONSTARTUP=startup(source.parent))
    assert site.wait() == 0, site.text()
    assert len(books.records(State.READY)) == 1
    assert books.workers() == set()
    assert ledger.entries() == []


def startup(folder: Path) -> str:
    path = folder / "startup.py"
    path.write_text(IN_SHELL)
    return str(path)


def test_a_management_command_runs_what_is_in_its_memory(sites: Sites, ledger: Ledger, source: Path) -> None:
    site = flask(sites, "nightly", OUTWORK_BROKER_URL="thread:")
    assert site.wait() == 0, site.text()
    [start, _] = ledger.entries()
    assert (start.event, start.key, start.pid) == ("S", "nightly", site.pid)
    assert os.path.exists(source)
