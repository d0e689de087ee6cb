"""A guestbook: a WSGI application whose worker lives in its own process. There is nothing else to run.

The jobs are in a SQLite file, so they outlive the process: what is left over when it stops runs when it is back.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import outwork
from outwork import task
from outwork.serving import wsgi

outwork.configure({"broker_url": "sqlite:///guestbook.db?embedded=true"})  # OUTWORK_BROKER_URL beats it


@task
def welcome(name: str) -> str:
    """What takes too long for a request."""
    time.sleep(0.5)
    return f"Welcome, {name}!"


def pages(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    query = parse_qs(environ["QUERY_STRING"])
    if environ["PATH_INFO"] == "/sign" and "name" in query:
        return respond(start_response, "202 Accepted", welcome.enqueue(query["name"][0]).id)
    if environ["PATH_INFO"] == "/job" and "id" in query:
        return respond(start_response, "200 OK", describe(query["id"][0]))
    tally: Counter[str] = Counter()
    for count in outwork.default_app.store.counts():
        tally[count.state] += count.jobs
    text = ", ".join(f"{jobs} {state.lower()}" for state, jobs in sorted(tally.items())) or "no jobs yet"
    return respond(start_response, "200 OK", text)


def describe(job_id: str) -> str:
    try:
        result = outwork.get_result(job_id)
    except outwork.OutworkError as error:
        return str(error)
    return str(result.return_value) if result.state is outwork.State.SUCCESSFUL else str(result.state.lower())


def respond(start_response: Callable[..., Any], status: str, text: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{text}\n".encode()]


application = wsgi(pages)
"""The worker starts with the first request."""
