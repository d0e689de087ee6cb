"""One draft that is saved again and again, each time within the window of the one before, until everybody is killed:
`python -m support.drafts URL STORE_URL` saves for ever."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from outwork import Outwork
from outwork.brokers.base import Filter
from outwork.job import State
from support import ledger as book
from support.chores import app, save
from support.ledger import Ledger
from support.waiting import until
from support.workers import Running

WINDOW: Final = 2.0


def kill_within_the_window(
    application: Outwork, ledger: Ledger, start: Callable[[], Running], environ: Mapping[str, str], folder: Path
) -> None:
    """Kill whoever saves and all workers in the middle of the window: the last draft is saved, and saved once."""
    urls = application.settings.broker_url, application.settings.store_url or ""
    worker = start().known(application.broker)
    with subprocess.Popen([sys.executable, "-m", "support.drafts", *urls], env=environ, cwd=folder) as producer:
        try:
            until(lambda: ledger.count("K") >= 20, "some drafts")
        finally:
            producer.kill()
    worker.kill_all()
    start()

    def last_is_saved() -> bool:
        entries = ledger.entries()
        acknowledged = [entry.key for entry in entries if entry.event == "K"]
        attempted = [entry.key for entry in entries if entry.event == "A"]
        saved = [entry.key for entry in entries if entry.event == "E"]
        return bool(saved) and saved[-1] in (acknowledged[-1], attempted[-1])

    until(last_is_saved, "the last draft", seconds=60)
    store = application.store
    until(lambda: {one.state for one in store.find(Filter(), 1000).records} == {State.SUCCESSFUL}, "the end of all")
    attempts = {entry.key: entry.at for entry in ledger.entries() if entry.event == "A"}
    arrivals = {entry.key: entry.at for entry in ledger.entries() if entry.event == "K"}
    gaps = [arrivals[later] - attempts[key] for key, later in itertools.pairwise(arrivals)]
    windows = 1 + sum(gap >= WINDOW for gap in gaps)  # a machine so slow that a window ended by itself
    assert len(store.find(Filter(), 1000).records) == sum(ledger.keys("S").values()) <= windows


def main(url: str, store_url: str) -> None:
    app.override({"broker_url": url, "store_url": store_url})
    for number in itertools.count():
        key = f"draft-{number}"
        book.write("A", key)
        save.using(debounce=WINDOW, max_wait=600).enqueue(key)
        book.write("K", key)


if __name__ == "__main__":
    main(*sys.argv[1:])
