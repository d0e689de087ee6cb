"""Private Redis servers for tests: alone, with Sentinels, or as a Cluster. They live in a directory of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis

from support.ports import free_port
from support.private_server import need
from support.programs import find
from support.waiting import until

DEADLINE: Final = 60.0
TAKEN: Final = "Address already in use"
BINARY: Final = find("redis-server") or find("valkey-server")


def need_redis() -> None:
    need("redis-server", BINARY)


class RedisServer:
    """A server of our own. `settings` as in redis.conf; it starts at once."""

    def __init__(self, folder: Path, *, port: int | None = None, sentinel: bool = False, **settings: str) -> None:
        need_redis()
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sentinel = sentinel
        self._settings = {"save": '""', "appendonly": "no", **settings} if not sentinel else settings
        self._process: subprocess.Popen[bytes] | None = None
        while True:
            self.port = port or free_port()
            self._write_config()
            try:
                return self.start()
            except BaseException as error:
                self.kill()
                if port or TAKEN not in str(error):  # somebody else was faster, at it or at the one of the bus
                    raise

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
        lines += [f"{name.replace('_', '-')} {value}".strip() for name, value in self._settings.items()]
        (self.folder / "server.conf").write_text("\n".join(lines) + "\n")


def follows(replica: RedisServer) -> bool:
    """Whether a replica has all of its primary."""
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


class Group:
    """Several servers, of which none outlives the `with` block."""

    def __init__(self) -> None:
        self._all: list[RedisServer] = []

    def add(self, folder: Path, **settings: Any) -> RedisServer:
        self._all.append(RedisServer(folder / f"server-{len(self._all)}", **settings))
        return self._all[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._all:
            server.kill()


class Cluster(Group):
    """Six nodes: three with slots, each with a replica."""

    def form(self, folder: Path) -> Self:
        settings = {"cluster_enabled": "yes", "cluster_node_timeout": "1000", "appendonly": "yes"}
        self.nodes = [self.add(folder, **settings) for _ in range(6)]
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < 3:
                begin, end = number * 5461, 16_384 if number == 2 else (number + 1) * 5461
                node.ask("CLUSTER", "ADDSLOTS", *range(begin, end))
            first.ask("CLUSTER", "MEET", "127.0.0.1", node.port)
        until(lambda: all(self._knows(node, 6) for node in self.nodes), "the nodes know each other")
        for primary, replica in zip(self.nodes[:3], self.nodes[3:], strict=True):
            replica.ask("CLUSTER", "REPLICATE", self.id_of(primary))
        until(lambda: all(self._healthy(node) for node in self.nodes), "the cluster is up")
        until(lambda: all(map(follows, self.nodes[3:])), "the replicas follow")
        return self

    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def id_of(self, node: RedisServer) -> str:
        found: bytes = node.ask("CLUSTER", "MYID")
        return found.decode()

    def owner(self, slot: int) -> RedisServer:
        """The node that has this slot, as a node says that lives."""
        for node in self.nodes:
            try:
                ranges = node.ask("CLUSTER", "SLOTS")
            except redis.RedisError:
                continue
            for begin, end, (_, port, *_), *_ in ranges:
                if begin <= slot <= end:
                    return next(one for one in self.nodes if one.port == port)
        raise AssertionError(f"nobody has slot {slot}")

    def _knows(self, node: RedisServer, count: int) -> bool:
        return f"cluster_known_nodes:{count}" in node.ask("CLUSTER", "INFO").decode()

    def _healthy(self, node: RedisServer) -> bool:
        return "cluster_state:ok" in node.ask("CLUSTER", "INFO").decode() and len(node.ask("CLUSTER", "SLOTS")) == 3


class SentinelGroup(Group):
    """A primary, two replicas, and three sentinels that watch over them as the service `jobs`."""

    def form(self, folder: Path) -> Self:
        primary = self.add(folder, appendonly="yes")
        address = f"127.0.0.1 {primary.port}"
        self.servers = [primary, *(self.add(folder, appendonly="yes", replicaof=address) for _ in range(2))]
        until(lambda: all(map(follows, self.servers[1:])), "the replicas follow")
        settings = {
            "sentinel monitor": f"jobs {address} 2",
            "sentinel down-after-milliseconds": "jobs 500",
            "sentinel failover-timeout": "jobs 3000",
        }
        self.sentinels = [self.add(folder, sentinel=True, **settings) for _ in range(3)]
        until(lambda: all(self._sees_all(sentinel) for sentinel in self.sentinels), "the sentinels see everybody")
        return self

    def url(self, **options: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/jobs{'?' + query if query else ''}"

    def primary(self) -> RedisServer:
        """The primary, as the first sentinel says."""
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "jobs")
        return next(server for server in self.servers if server.port == int(port))

    def _sees_all(self, sentinel: RedisServer) -> bool:
        with sentinel.client() as client:
            state = client.sentinel_master("jobs")
        return bool(state["num-slaves"] == 2 and state["num-other-sentinels"] == 2)
