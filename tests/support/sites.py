"""Web servers as processes, with what they started: asked over HTTP, signalled and killed."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from signal import SIGABRT, SIGKILL, SIGTERM, Signals
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from support.ports import free_port
from support.waiting import until
from support.workers import descendants, send

PATIENCE = 60.0
_open = build_opener(ProxyHandler({})).open  # never by way of a proxy that the environment names


class Site:
    """A web server on a port of its own, in a session of its own."""

    def __init__(self, command: list[str], folder: Path, environ: Mapping[str, str]) -> None:
        self.port = free_port()
        self.log = folder / f"site-{self.port}.log"
        self._seen: set[int] = set()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *(word.replace("PORT", str(self.port)) for word in command)],
                cwd=folder,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        """What it has logged."""
        return self.log.read_text(errors="replace")

    def listening(self) -> Site:
        """Wait until it takes connections; no request is made."""
        until(self._listens, "a server that listens", seconds=PATIENCE)
        return self

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def get(self, path: str = "/") -> str:
        """The body of an answer; tries again while the server starts or restarts."""
        answer = until(lambda: self._get(path), f"an answer to {path}", seconds=PATIENCE)
        assert answer is not None
        return answer

    def _get(self, path: str) -> str | None:
        assert self.process.poll() is None, self.text()
        try:
            with _open(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as response:
                text: str = response.read().decode()
                return text
        except (ConnectionError, http.client.HTTPException):
            return None
        except URLError as error:
            if isinstance(error.reason, ConnectionError):
                return None
            raise AssertionError(f"{error}\n{self.text()}") from error

    def below(self) -> list[int]:
        """The processes that it has started, now."""
        pids = descendants(self.pid)
        self._seen.update(pids)
        return pids

    def wait(self, seconds: float = 90.0) -> int:
        """The exit code, once the server and everything below it have ended. gunicorn gives a process that it had only
        just forked, and that missed its signal, half a minute."""
        below = self.below()
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            for pid in [*below, self.pid]:
                send(pid, SIGABRT)  # it says what it is doing
            self.process.wait(PATIENCE)
            raise AssertionError(f"the server did not end within {seconds:g} s:\n{self.text()}") from None
        until(lambda: not any(map(exists, below)), "the end of all processes", seconds=seconds)
        return code

    def stop(self, number: Signals = SIGTERM, *, group: bool = False) -> int:
        """Signal the server (or, as Ctrl-C does, everything in its terminal) and wait for its end; the exit code."""
        self.below()
        if group:
            os.killpg(self.pid, number)
        else:
            self.process.send_signal(number)
        return self.wait()

    def clean_up(self) -> None:
        """Kill whatever still lives."""
        for pid in {*self._seen, *self.below(), self.pid}:
            send(pid, SIGKILL)
        self.process.wait(PATIENCE)


@contextmanager
def sites_in(folder: Path, environ: Mapping[str, str]) -> Iterator[Sites]:
    """Servers that do not outlive the block."""
    sites = Sites(folder, environ)
    try:
        yield sites
    finally:
        for site in sites.all:
            site.clean_up()


class Sites:
    """Starts servers in one directory."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._environ = dict(environ)
        self.all: list[Site] = []

    def start(self, *command: str, **environ: str) -> Site:
        """`python COMMAND`; the word PORT stands for the port."""
        self.all.append(Site(list(command), self._folder, self._environ | environ))
        return self.all[-1]


def exists(pid: int) -> bool:
    """Whether the process runs, or has not been collected by its parent."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def threads_of(pid: int) -> int:
    """How many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))
