"""A directory with an application in it: its programs, workers and web servers, as its operator starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlencode

from support.ledger import VARIABLE, Ledger
from support.programs import ended
from support.sites import Site, Sites, sites_in
from support.workers import Running

TESTS: Final = Path(__file__).parents[1]
PATIENCE: Final = 60.0
FOREIGN: Final = ("OUTWORK_", "FLASK_", "QUART_", "DJANGO_", "WERKZEUG_", "GUNICORN_", "RABBITMQ_", "REDIS_")


class Answer(NamedTuple):
    status: int
    text: str


class Place:
    """Starts programs in one directory; none outlives the test. `environ` is what they all see."""

    def __init__(self, folder: Path, environ: Mapping[str, str], sites: Sites) -> None:
        self.folder = folder
        self.ledger = Ledger(folder / "ledger")
        self._environ = dict(environ)
        self._sites = sites
        self._running: list[Running] = []

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(self, *words: str, **environ: str) -> str:
        """`python -m WORDS` to its good end; what it said, both ways."""
        return self.ends(0, *words, **environ)

    def ends(self, code: int, /, *words: str, **environ: str) -> str:
        """`python -m WORDS` to an end with this exit code; what it said, both ways."""
        found, said = ended([sys.executable, "-m", *words], self.folder, self._environ | environ)
        assert found == code, f"{' '.join(words)} ended with {found}:\n{said}"
        return said

    def worker(self, *words: str, **environ: str) -> Running:
        """`python -m WORDS`, a command that is a worker: it goes on."""
        log = self.folder / f"worker-{len(self._running) + 1}.log"
        with log.open("wb") as handle:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=self.folder,
                env=self._environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=handle,
                start_new_session=True,
            )
        self._running.append(Running(process, log))
        return self._running[-1]

    def site(self, *words: str, **environ: str) -> Site:
        """`python WORDS`, a web server that listens; the word PORT stands for the port."""
        return self._sites.start(*words, **environ).listening()

    def gunicorn(self, application: str, *words: str, **environ: str) -> Site:
        bind = ("--bind", "127.0.0.1:PORT", "--no-control-socket")
        return self.site("-m", "gunicorn", *bind, *words, application, **environ)

    def uvicorn(self, application: str, *words: str, **environ: str) -> Site:
        return self.site("-m", "uvicorn", application, "--port", "PORT", "--log-level", "warning", *words, **environ)

    def clean_up(self) -> None:
        for running in self._running:
            running.clean_up()


def post(site: Site, path: str = "/", *, seconds: float = 60.0, **form: str | int) -> Answer:
    """One POST with a form."""
    return _ask(site, "POST", path, urlencode(form), seconds)


def get(site: Site, path: str = "/", *, seconds: float = 60.0) -> Answer:
    """One GET, whatever its status."""
    return _ask(site, "GET", path, None, seconds)


def _ask(site: Site, method: str, path: str, body: str | None, seconds: float) -> Answer:
    connection = HTTPConnection("127.0.0.1", site.port, timeout=seconds)
    try:
        headers = {} if body is None else {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, response.read().decode())
    finally:
        connection.close()


@contextmanager
def place_in(folder: Path, **environ: str) -> Iterator[Place]:
    """A place whose programs do not outlive the block. The tests are importable there."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    everywhere = clean | {
        "PYTHONPATH": f"{TESTS}:{folder}",
        "PYTHONUNBUFFERED": "1",
        VARIABLE: str(folder / "ledger"),
        **environ,
    }
    with sites_in(folder, everywhere) as sites:
        place = Place(folder, everywhere, sites)
        try:
            yield place
        finally:
            place.clean_up()
