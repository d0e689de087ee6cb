"""A private RabbitMQ server for tests: its own node, ports and directories, no plugins. Starting takes some seconds."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from signal import SIGKILL
from typing import Final

from support.ports import free_port
from support.private_server import need
from support.programs import find
from support.waiting import until

DEADLINE: Final = 90.0
FOLDERS: Final = (Path("/usr/lib/rabbitmq/bin"), Path("/opt/rabbitmq/sbin"), Path("/usr/local/sbin"))
"""Where packages put the server's own scripts; those in the PATH may insist on the system's node and user."""

ADVANCED: Final = "[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 30000}]}].\n"
"""As docs/rabbitmq.md has it; the server's default is three minutes."""
COOKIE: Final = ".erlang.cookie"
"""What the nodes of a cluster share."""


def script(name: str) -> str | None:
    """The path of one of the server's scripts."""
    return find(name, FOLDERS)


def need_rabbitmq() -> None:
    need("rabbitmq-server", script("rabbitmq-server"))


class RabbitServer:
    """A server of our own. `settings` as in rabbitmq.conf; it starts at once, and joins the cluster of its `mate`."""

    def __init__(
        self, folder: Path, settings: Mapping[str, str] | None = None, mate: RabbitServer | None = None
    ) -> None:
        need_rabbitmq()
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port, self._dist = free_port(), free_port()
        self._epmd: int = mate._epmd if mate else free_port()
        self._node = f"outwork-{self.port}@localhost"
        self._process: subprocess.Popen[bytes] | None = None
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            "disk_free_limit.absolute = 1MB",
            "log.file.level = warning",
            *(f"{name} = {value}" for name, value in (settings or {}).items()),
        ]
        (folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (folder / "advanced.config").write_text(ADVANCED)
        (folder / "plugins").write_text("[].\n")
        if mate is not None:
            shutil.copy(mate.folder / COOKIE, folder / COOKIE)
        self.start()
        if mate is not None:
            for words in (["stop_app"], ["reset"], ["join_cluster", mate._node], ["start_app"]):
                self.ctl(*words)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, path: str = "", *, port: int | None = None, **options: str | float) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"amqp://guest:guest@127.0.0.1:{port or self.port}/{path}{'?' + query if query else ''}"

    def _environ(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")}
        return clean | {
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_DIST_PORT": str(self._dist),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def start(self) -> None:
        program = script("rabbitmq-server")
        assert program is not None
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self._environ(),
                start_new_session=True,
            )
        until(self._answers, f"the server in {self.folder} answers", seconds=DEADLINE, pause=0.1)

    def _answers(self) -> bool:
        """Whether it greets a client: it listens last of all."""
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "server.log").read_text()
        try:
            with closing(socket.create_connection(("127.0.0.1", self.port), 5)) as client:
                client.settimeout(5)
                client.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(client.recv(8))
        except OSError:
            return False

    def ctl(self, *words: str, seconds: float = DEADLINE) -> str:
        """`rabbitmqctl WORDS`; what it printed."""
        program = script("rabbitmqctl")
        assert program is not None
        command = [program, "-q", "-n", self._node, *words]
        done = subprocess.run(command, env=self._environ(), capture_output=True, text=True, timeout=seconds)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def messages(self, prefix: str) -> dict[str, int]:
        """How many messages are in the queues whose names begin so, those in the hands of consumers too; without empty
        queues."""
        lines = self.ctl("list_queues", "--no-table-headers", "name", "messages").splitlines()
        counts = {name: int(count or 0) for name, _, count in (line.partition("\t") for line in lines)}
        return {name: count for name, count in counts.items() if name.startswith(prefix) and count}

    @contextmanager
    def impatient(self) -> Iterator[None]:
        """Meanwhile it waits 3 s for an acknowledgement, on channels that are opened from now on."""
        ticks = {
            "channel_tick_interval": (500, 60_000),
            "quorum_tick_interval": (200, 5000),
        }  # how fresh its counts are
        changed = {"consumer_timeout": (3000, 1_800_000), **ticks}
        self._set({name: value for name, (value, _) in changed.items()})
        try:
            yield
        finally:
            self._set({name: value for name, (_, value) in changed.items()})

    def _set(self, values: Mapping[str, int]) -> None:
        said = [f"application:set_env(rabbit, {name}, {value})" for name, value in values.items()]
        self.ctl("eval", f"{', '.join(said)}.")

    def stop(self) -> None:
        """As its operator would."""
        self.ctl("stop")
        self._end()

    def kill(self) -> None:
        """`kill -9` of everything that belongs to it."""
        if self._process is not None:
            os.killpg(self._process.pid, SIGKILL)
            self._end()

    def _end(self) -> None:
        assert self._process is not None
        self._process.wait(DEADLINE)
        self._process = None

    def close(self) -> None:
        """The end of it, and of the port mapper that it started."""
        self.kill()
        epmd = find("epmd")
        if epmd is not None:
            until(lambda: self._unmapped(epmd), "the end of the port mapper", seconds=DEADLINE, pause=0.1)

    def _unmapped(self, epmd: str) -> bool:
        """Whether the port mapper has ended: it stays until it has noticed the end of the node."""
        said = subprocess.run([epmd, "-kill"], env=self._environ(), capture_output=True, text=True, timeout=DEADLINE)
        return "not allowed" not in said.stdout + said.stderr


@cache
def shared_rabbitmq() -> RabbitServer:
    """The server that the tests of this process share. Each of them has queues of its own there: `own_url`."""
    folder = Path(tempfile.mkdtemp(prefix="outwork-rabbitmq-"))
    server = RabbitServer(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.close)
    return server


def own_url(**options: str) -> str:
    """A broker on the shared server that nobody else uses."""
    return shared_rabbitmq().url("", port=None, prefix=f"t{secrets.token_hex(6)}", **options)
