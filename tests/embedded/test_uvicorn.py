"""Under uvicorn: with and without lifespan."""

from __future__ import annotations

from collections.abc import Callable

from embedded.books import Books
from outwork.job import State
from support.ledger import Ledger
from support.sites import Site, Sites, threads_of
from support.waiting import until


def uvicorn(sites: Sites, application: str, *words: str, **environ: str) -> Site:
    return sites.start("-m", "uvicorn", "--port", "PORT", *words, f"embedded.shop:{application}", **environ)


def test_two_processes_with_lifespan(sites: Sites, books: Books, ledger: Ledger, starts: Callable[..., int]) -> None:
    """The worker is there at start-up, without any request; async tasks run on the application's event loop."""
    books.schedule_for_yesterday("yesterday", "embedded.shop.coroutine")
    site = uvicorn(sites, "asgi_app", "--workers", "2")
    starts("yesterday")
    until(lambda: len(books.workers()) == 2, "a worker in each process")
    assert site.pid not in books.workers()
    assert books.workers() <= set(site.below())
    assert threads_of(site.pid) == 1
    for number in range(10):
        site.get(f"/enqueue?task=coroutine&key=request-{number}")
    site.get("/enqueue?key=many&n=20")
    until(lambda: ledger.count("E") == 33, "the end of all jobs")
    assert set(ledger.keys("S").values()) == {1}
    asynchronous = [e for e in ledger.entries() if e.key.startswith(("yesterday", "startup", "request"))]
    assert {entry.note for entry in asynchronous} == {"application"}
    assert {entry.pid for entry in ledger.entries()} <= books.workers()
    site.get("/enqueue?task=coroutine&key=short&seconds=1")
    site.get("/enqueue?task=coroutine&key=long&seconds=60")
    site.get("/enqueue?task=gated&key=gated")
    for key in ("short", "long", "gated"):
        starts(key)
    assert site.stop() == 0
    assert ledger.count("E", "short") == 1  # on a loop that went on turning, before the application was shut down
    assert {entry.note for entry in ledger.entries() if entry.key == "short"} == {"application"}
    assert len(books.given_back()) == 2
    assert len(books.records(State.SUCCESSFUL)) == 34
    assert books.workers() == set()


def test_an_application_that_knows_no_lifespan(
    sites: Sites, books: Books, ledger: Ledger, starts: Callable[..., int]
) -> None:
    books.schedule_for_yesterday("yesterday")
    site = uvicorn(sites, "asgi_without_lifespan", "--lifespan", "on").listening()
    starts("yesterday")
    site.get("/enqueue?task=coroutine&key=asynchronous&seconds=0.5")
    starts("asynchronous")
    site.stop()
    assert [(e.event, e.note) for e in ledger.entries() if e.key == "asynchronous"] == [
        ("S", "application"),
        ("E", "application"),
    ]
    assert len(books.records(State.SUCCESSFUL)) == 2
    assert books.workers() == set()


def test_a_server_without_lifespan(sites: Sites, books: Books, ledger: Ledger, starts: Callable[..., int]) -> None:
    """It starts with the first request. uvicorn then ends by a signal, which leaves no time to drain: what ran is taken
    for crashed, and runs again."""
    books.schedule_for_yesterday("yesterday")
    site = uvicorn(sites, "asgi_app", "--lifespan", "off").listening()
    assert books.workers() == set()
    site.get()
    starts("yesterday")
    site.get("/enqueue?task=coroutine&key=long&seconds=3")
    starts("long")
    assert {entry.note for entry in ledger.entries() if entry.key == "long"} == {"application"}
    site.stop()
    assert ledger.count("E", "long") == 0
    uvicorn(sites, "asgi_app", "--lifespan", "off").get()
    starts("long", 2)
    until(lambda: ledger.count("E", "long") == 1, "its end after a restart")
