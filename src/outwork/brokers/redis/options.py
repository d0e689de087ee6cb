"""What a URL says: where the server is, how to log in, and what is wanted of it."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from outwork.brokers.base import Embedding, RunsIn
from outwork.brokers.url import BrokerURL, boolean, number, seconds
from outwork.errors import InvalidURL
from outwork.job import Terms

DEFAULT_TERMS: Final = Terms(keep=3600.0)
"""Results stay an hour: memory is dearer than disk."""
DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379

Layout: TypeAlias = Literal["single", "sentinel", "cluster"]


class Address(NamedTuple):
    """A server: host and port, or the path of a socket."""

    host: str
    port: int = 0

    def __str__(self) -> str:
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class TLS(Struct, frozen=True, kw_only=True):
    """How to speak TLS. Paths; None: the system's authorities, no certificate of our own."""

    ca: str | None
    cert: str | None
    key: str | None
    verify: bool


class Options(Struct, frozen=True, kw_only=True):
    """A URL, read. `timeout` and `connect_timeout` in seconds."""

    url: str
    layout: Layout
    addresses: tuple[Address, ...]
    service: str
    username: str | None
    password: str | None
    database: int
    tls: TLS | None
    namespace: str
    timeout: float
    connect_timeout: float
    wait_replicas: int
    allow_eviction: bool
    sentinel_username: str | None
    sentinel_password: str | None
    runs_in: RunsIn
    embedding: Embedding
    terms: Terms


def read_options(url: str, terms: Terms | None) -> Options:
    """Raises InvalidURL."""
    parts = BrokerURL(url)
    base, _, kind = parts.scheme.partition("+")
    layout = _layout(kind)
    addresses, path = _places(parts, base, layout)
    secure = base in ("rediss", "valkeys")
    certificate = {name: parts.option(name, _file, None) for name in ("ca", "cert", "key")} if secure else {}
    verify = parts.option("verify", boolean, True) if secure else True
    embedded = parts.option("embedded", boolean, False)
    options = Options(
        url=parts.shown,
        layout=layout,
        addresses=addresses,
        service=path[0] if layout == "sentinel" else "",
        username=parts.username,
        password=parts.password,
        database=_database(parts, path[1:] if layout == "sentinel" else path, layout),
        tls=TLS(**certificate, verify=verify) if secure else None,
        namespace=parts.option("namespace", _namespace, "outwork"),
        timeout=parts.option("timeout", seconds, 5.0),
        connect_timeout=parts.option("connect_timeout", seconds, 1.0),
        wait_replicas=parts.option("wait_replicas", number, 0),
        allow_eviction=parts.option("allow_eviction", boolean, False),
        sentinel_username=parts.option("sentinel_username", str, None) if layout == "sentinel" else None,
        sentinel_password=parts.option("sentinel_password", str, None) if layout == "sentinel" else None,
        runs_in="embedded" if embedded else "elsewhere",
        embedding=_embedding(parts) if embedded else Embedding(),
        terms=parts.terms(terms or DEFAULT_TERMS),
    )
    parts.done()
    return options


def _embedding(parts: BrokerURL) -> Embedding:
    concurrency, threads, children = (parts.option(name, number, 0) for name in ("concurrency", "threads", "children"))
    return Embedding(concurrency=concurrency or None, threads=threads or None, children=children or None)


def _layout(kind: str) -> Layout:
    match kind:
        case "sentinel" | "cluster":
            return kind
        case _:
            return "single"


def _places(parts: BrokerURL, base: str, layout: Layout) -> tuple[tuple[Address, ...], list[str]]:
    """The servers named, and what follows in the path."""
    if base == "unix":
        if not parts.path.strip("/"):
            raise InvalidURL(f"{parts.shown} names no socket. Write, for example, unix:///run/redis/redis.sock")
        return (Address(parts.path),), []
    path = [part for part in parts.path.split("/") if part]
    port = SENTINEL_PORT if layout == "sentinel" else DEFAULT_PORT
    addresses = tuple(_address(parts, text, port) for text in parts.hosts) or (Address("localhost", port),)
    if layout == "single" and len(addresses) > 1:
        raise InvalidURL(
            f"{parts.shown} names {len(addresses)} servers. Write one, or {base}+sentinel:// or {base}+cluster://"
        )
    if layout == "sentinel" and not path:
        raise InvalidURL(
            f"{parts.shown} names no service. Write {base}+sentinel://host1,host2,host3/service, with the name under "
            "which the sentinels monitor it (often mymaster)"
        )
    return addresses, path


def _address(parts: BrokerURL, text: str, port: int) -> Address:
    host, colon, number_text = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        return Address(text.strip("[]"), port)
    if not number_text.isdecimal() or not 0 < int(number_text) < 65536:
        raise InvalidURL(f"{parts.shown}: {number_text!r} is not a port")
    return Address(host.strip("[]") or "localhost", int(number_text))


def _database(parts: BrokerURL, path: list[str], layout: Layout) -> int:
    database = parts.option("db", number, 0)
    if len(path) > 1 or (path and not path[0].isdecimal()):
        raise InvalidURL(f"{parts.shown}: after the host comes the number of the database only, as in redis://host/2")
    if path:
        database = int(path[0])
    if database and layout == "cluster":
        raise InvalidURL(f"{parts.shown}: a cluster has one database only, number 0. Use ?namespace= to keep apart")
    return database


def _namespace(text: str) -> str:
    if not text or set(text) & set("{}\0"):
        raise ValueError("a name without braces is needed")
    return text


def _file(text: str) -> str:
    if not Path(text).is_file():
        raise ValueError("there is no such file")
    return text
