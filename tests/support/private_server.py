"""What the private servers of tests have in common: they are needed, and those of SQL have a directory of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from signal import Signals
from types import TracebackType
from typing import Any, ClassVar, Final, Self

import pytest

from support.ports import free_port
from support.waiting import until

DEADLINE: Final = 60.0
TABLES: Final = ("job", "ready", "scheduled", "running", "ended", "worker", "outbox", "bound", "cell")


def need(name: str, *programs: str | None) -> None:
    """Skip where there is no server to start; a failure where there has to be one."""
    if None in programs:
        reason = f"{name} is not installed"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)


class PrivateServer(ABC):
    """A server of our own in a directory of its own, both gone at `clean_up` or at the end of a `with`. Where the tests
    are root, it runs as `USER`."""

    USER: ClassVar[str]
    AT_ONCE: ClassVar[Signals]
    """The signal on which it ends without tidying up."""

    def __init__(self, name: str, place: Path | None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"outwork-{name}-", dir=place))
        self.port = free_port()
        self._user = self.USER if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._as_user: dict[str, Any] = {"cwd": self.folder, "stdin": subprocess.DEVNULL}
        if self._user:
            shutil.chown(self.folder, self._user, self._user)
            self._as_user |= {"user": self._user, "group": self._user, "extra_groups": []}

    @abstractmethod
    def _command(self) -> list[str]:
        """What starts it."""

    @abstractmethod
    def _greets(self) -> bool:
        """Whether it answers a client."""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log, **self._as_user)
        until(self._answers, f"the server in {self.folder} answers", seconds=DEADLINE)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        return self._greets()

    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    def stop(self, how: Signals | None = None) -> None:
        """At once, with recovery at the next start, unless told how else."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how or self.AT_ONCE)
            process.wait(DEADLINE)

    def clean_up(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clean_up()
