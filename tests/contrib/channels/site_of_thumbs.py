"""Starts workers of the project `thumbs`, reads what they handled, and leaves none behind."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import Any, Final, Self

from outwork.contrib.channels import ChannelFull, OutworkChannelLayer
from support.ports import free_port
from support.waiting import until

HERE: Final = Path(__file__).parent
PATIENCE: Final = 60.0


class Running:
    """One worker process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, part: str, *, times: int = 1) -> Self:
        def look() -> bool:
            if self.process.poll() is not None and self.text().count(part) < times:
                raise AssertionError(f"it ended with {self.process.returncode} before {part!r}:\n{self.text()}")
            return self.text().count(part) >= times

        until(look, f"{part!r} in the log of the worker", seconds=PATIENCE)
        return self

    def signal(self, number: Signals = SIGTERM) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        self.signal()
        return self.wait()

    def wait(self) -> int:
        return self.process.wait(PATIENCE)


class Site:
    """The project on one layer, in a directory of its own."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.config = {"capacity": 20_000, **config}
        self.layer = OutworkChannelLayer(**self.config)
        self.ledger = folder / "ledger"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OUTWORK_", "DJANGO_"))}
        self.environ = kept | {
            "PYTHONPATH": str(HERE),
            "PYTHONWARNINGS": "error",
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": "thumbs.settings",
            "THUMBS_LAYER": json.dumps(self.config),
            "THUMBS_LEDGER": str(self.ledger),
        }
        self._all: list[Running] = []

    def manage(self, *words: str) -> Running:
        """`manage.py WORDS`, which goes on."""
        return self.start(sys.executable, "-m", "django", *words)

    def start(self, *command: str) -> Running:
        log = self.folder / f"worker-{len(self._all)}.log"
        with log.open("wb") as handle:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=handle,
                start_new_session=True,
            )
        self._all.append(Running(process, log))
        return self._all[-1]

    def worker(self, *words: str) -> Running:
        """Ours, ready."""
        return self.manage("outwork_runworker", *words).wait_for("channels thumbnails")

    def serve(self, *words: str) -> int:
        """A web server, `python -m WORDS`: the word PORT stands for the port, which is returned once it listens."""
        port = free_port()
        server = self.start(sys.executable, "-m", *(word.replace("PORT", str(port)) for word in words))

        def listens() -> bool:
            assert server.process.poll() is None, server.text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(listens, "a server that listens", seconds=PATIENCE)
        return port

    def run(self, *command: str) -> str:
        """A command to its end; what it says."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        return done.stdout + done.stderr

    def send(self, channel: str, *messages: dict[str, Any], at_once: int = 1) -> None:
        """Send them, one after the other or some of them at once."""

        async def send(message: dict[str, Any]) -> None:
            while True:
                try:
                    return await self.layer.send(channel, message)
                except ChannelFull:
                    await asyncio.sleep(0.01)

        async def send_all() -> None:
            for begin in range(0, len(messages), at_once):
                await asyncio.gather(*map(send, messages[begin : begin + at_once]))

        asyncio.run(send_all())

    def send_prints(self, numbers: range) -> None:
        self.send("thumbnails-generate", *({"type": "test.print", "number": number} for number in numbers))

    def handled(self, kind: str = "print") -> Counter[int]:
        """How often each number was handled."""
        return Counter(int(line[1]) for line in self.lines() if line[0] == kind)

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.ledger.read_text().splitlines()] if self.ledger.exists() else []

    def until_handled(self, count: int, kind: str = "print", *, seconds: float = PATIENCE) -> None:
        pause = 0.5 if count > 1000 else 0.02
        until(lambda: len(self.handled(kind)) >= count, f"{count} messages are handled", seconds=seconds, pause=pause)

    def unread(self, channel: str = "thumbnails-generate") -> int:
        async def survey() -> int:
            return sum(seen.unread for seen in await self.layer.survey() if seen.channel == channel)

        return asyncio.run(survey())

    def clean_up(self) -> None:
        for running in self._all:
            with suppress(ProcessLookupError):
                os.killpg(running.process.pid, SIGKILL)  # gunicorn has children
            running.process.wait(PATIENCE)
        self.layer._store.close()


@contextmanager
def site_on(folder: Path, **config: Any) -> Iterator[Site]:
    """A site whose workers do not outlive the block."""
    site = Site(folder, **config)
    try:
        yield site
    finally:
        site.clean_up()
