"""Private Redis servers for tests: alone, with Sentinels, or as a Cluster. They live in a directory of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from support.waiting import until

DEADLINE: Final = 30.0
BINARY: Final = shutil.which("redis-server") or shutil.which("valkey-server")


def need_redis() -> None:
    """Skip where there is no server to start; a failure where there has to be one."""
    if BINARY is None:
        reason = "redis-server is not installed"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def free_port() -> int:
    """A port that nobody listens on, low enough that a cluster's bus (10,000 above) fits, too."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 55_000:
            return port


class RedisServer:
    """A server of our own. `settings` as in redis.conf; it starts at once."""

    def __init__(self, folder: Path, *, port: int | None = None, sentinel: bool = False, **settings: str) -> None:
        need_redis()
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self._sentinel = sentinel
        self._settings = {"save": '""', "appendonly": "no", **settings} if not sentinel else settings
        self._process: subprocess.Popen[bytes] | None = None
        self._write_config()
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, scheme: str = "redis", path: str = "", **options: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"{scheme}://127.0.0.1:{self.port}{path}{'?' + query if query else ''}"

    def client(self, **options: Any) -> redis.Redis:
        """A plain client; the caller closes it."""
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=10, **options)

    def ask(self, *command: str | bytes | int, **options: Any) -> Any:
        """One command on a connection of its own."""
        with self.client(**options) as client:
            return client.execute_command(*command)

    def start(self) -> None:
        assert BINARY is not None
        command = [BINARY, str(self.folder / "server.conf"), *(["--sentinel"] if self._sentinel else [])]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        until(self._answers, f"the server in {self.folder} answers")

    def stop(self) -> None:
        """As its operator would."""
        if self._process is not None:
            self._process.terminate()
            self._end()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._end()

    def restart(self, *, kill: bool = False) -> None:
        self.kill() if kill else self.stop()
        self.start()

    def _end(self) -> None:
        assert self._process is not None
        self._process.wait(DEADLINE)
        self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "server.log").read_text()
        try:
            return bool(self.ask("PING"))
        except redis.ResponseError as error:
            return "LOADING" not in str(error)  # one that wants a password is there, too
        except (redis.ConnectionError, redis.TimeoutError) as error:
            return isinstance(error, redis.AuthenticationError)

    def _write_config(self) -> None:
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}", "daemonize no"]
        lines += [f"{name.replace('_', '-')} {value}" for name, value in self._settings.items()]
        (self.folder / "server.conf").write_text("\n".join(lines) + "\n")
