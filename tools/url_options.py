"""What may follow the question mark in a broker's URL, as the brokers themselves ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from outwork.brokers import open_broker
from outwork.brokers.url import BrokerURL

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "in memory": ("thread:",),
    "SQLite": ("sqlite:///tasks.db",),
    "Redis, Valkey": (
        "rediss://localhost?embedded=true",
        "redis+sentinel://localhost/service",
    ),
    "PostgreSQL": ("postgresql://localhost/shop",),
    "MySQL, MariaDB": ("mysql://localhost/shop",),
}
"""URLs that between them take every option of a broker. RabbitMQ's are in docs/rabbitmq.md."""

WHAT: Final[Mapping[str, str]] = {
    "lease": "seconds after which a silent worker's jobs are given to another",
    "keep": "seconds for which finished jobs are kept",
    "keep_failed": "seconds for which failed and cancelled jobs are kept",
    "embedded": "a worker in the process that enqueues runs the jobs",
    "concurrency": "of the embedded worker; 0: as the settings say",
    "threads": "of the embedded worker; 0: as the settings say",
    "children": "of the embedded worker; 0: as the settings say",
    "kept": "how many finished jobs are remembered",
    "busy_timeout": "seconds to wait for another process that writes",
    "table_prefix": "how the names of the tables begin",
    "namespace": "how the names of the keys begin, in braces; what does not share it, shares nothing",
    "db": "the database's number, as in `redis://host/2`",
    "timeout": "seconds to wait for an answer",
    "connect_timeout": "seconds to wait for a connection",
    "wait_replicas": "an enqueue returns when so many replicas have it",
    "allow_eviction": "work with a server that may evict keys",
    "ca": "`rediss:` a file with the authorities to trust; otherwise the system's",
    "cert": "`rediss:` a certificate of ours, a file",
    "key": "`rediss:` its key, a file",
    "verify": "`rediss:` check the server's certificate",
    "sentinel_username": "`redis+sentinel:` how to log in at the sentinels",
    "sentinel_password": "`redis+sentinel:` how to log in at the sentinels",
    "schema": "where the tables are, instead of the role's `search_path`",
    "migrate": "make and upgrade the tables; `false`: `outwork migrate` alone does",
    "listen": "be woken by the server; `false`: look for jobs every 50 ms to 1 s",
    "prepare": "prepared statements, session settings; `false`, with `listen=false`, for PgBouncer's transaction mode",
    "unix_socket": "the path of a local socket",
    "ssl_ca": "a file with the authorities to trust",
    "ssl_cert": "a certificate of ours, a file",
    "ssl_key": "its key, a file",
    "ssl_verify_identity": "check the name in the server's certificate",
}
"""What each option means."""


def asked_for(*urls: str) -> dict[str, object]:
    """The options that the brokers of these URLs know, and their defaults."""
    taken: dict[str, object] = {}
    for url in urls:
        with _listening(taken):
            open_broker(url)
    return taken


def options() -> list[list[str]]:
    """One row an option, default and meaning: option, brokers, default, meaning."""
    found: dict[tuple[str, str], list[str]] = {}
    for broker, urls in GROUPS.items():
        for name, default in asked_for(*urls).items():
            if not _is_libpq(broker, name, default):
                found.setdefault((name, _shown(default)), []).append(broker)
    names = {name for name, _ in found}
    assert names == WHAT.keys(), f"say in tools/url_options.py what these mean, or no more: {names ^ WHAT.keys()}"
    rows = [[f"`{name}`", _all_or(found[name, default]), default, WHAT[name]] for name, default in found]
    return sorted(rows, key=lambda row: list(WHAT).index(row[0].strip("`")))


def _all_or(brokers: list[str]) -> str:
    return "all" if len(brokers) == len(GROUPS) else ", ".join(brokers)


def _is_libpq(broker: str, name: str, default: object) -> bool:
    """libpq's own are asked for as texts without a default."""
    return broker == "PostgreSQL" and default == "" and name != "schema"


def _shown(default: object) -> str:
    match default:
        case None | "":
            return ""
        case bool():
            return f"`{str(default).lower()}`"
        case float():
            return f"`{default:.15g}`"
        case _:
            return f"`{default}`"


@contextmanager
def _listening(taken: dict[str, object]) -> Iterator[None]:
    """Note each option that a URL is asked for, and its default."""
    asked = BrokerURL.option

    def option(self: BrokerURL, name: str, read: Callable[[str], Any], default: Any) -> Any:
        taken.setdefault(name, default)
        return asked(self, name, read, default)

    BrokerURL.option = option  # type: ignore[method-assign]
    try:
        yield
    finally:
        BrokerURL.option = asked  # type: ignore[method-assign]
