"""From a URL to a broker: the table of schemes. A broker's module, and its driver, are imported when it is asked for.

Brokers of other packages register a scheme in the entry-point group `outwork.brokers`, or are named outright as
`module:Class`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Final

from msgspec.structs import replace

from outwork.brokers.base import Broker, Store
from outwork.brokers.url import masked
from outwork.errors import InvalidURL, MissingDriver, SettingsError

GROUP: Final = "outwork.brokers"

SCHEMES: Final[dict[str, str]] = {
    "immediate": "outwork.brokers.memory:MemoryBroker",
    "dummy": "outwork.brokers.memory:MemoryBroker",
    "thread": "outwork.brokers.memory:MemoryBroker",
    "process": "outwork.brokers.memory:MemoryBroker",
    "memory": "outwork.brokers.memory:MemoryBroker",
    "sqlite": "outwork.brokers.sql.sqlite:SQLiteBroker",
    "postgresql": "outwork.brokers.sql.postgresql:PostgreSQLBroker",
    "postgres": "outwork.brokers.sql.postgresql:PostgreSQLBroker",
    "mysql": "outwork.brokers.sql.mysql:MySQLBroker",
    "mariadb": "outwork.brokers.sql.mysql:MySQLBroker",
    "redis": "outwork.brokers.redis.broker:RedisBroker",
    "rediss": "outwork.brokers.redis.broker:RedisBroker",
    "unix": "outwork.brokers.redis.broker:RedisBroker",
    "valkey": "outwork.brokers.redis.broker:RedisBroker",
    "valkeys": "outwork.brokers.redis.broker:RedisBroker",
    "redis+sentinel": "outwork.brokers.redis.broker:RedisBroker",
    "rediss+sentinel": "outwork.brokers.redis.broker:RedisBroker",
    "redis+cluster": "outwork.brokers.redis.broker:RedisBroker",
    "rediss+cluster": "outwork.brokers.redis.broker:RedisBroker",
    "amqp": "outwork.brokers.rabbitmq.broker:RabbitMQBroker",
    "amqps": "outwork.brokers.rabbitmq.broker:RabbitMQBroker",
}
"""The schemes of this release and the classes behind them."""


def open_broker(
    url: str, broker_class: str = "", terms: Mapping[str, float] | None = None, store_url: str = ""
) -> Broker:
    """The broker of a URL ("" is `immediate:`). `broker_class` (`module:Class`) beats the URL's scheme; `terms` are
    fields of `Terms` that beat the class's own.

    Nothing is connected yet. Raises InvalidURL, MissingDriver, SettingsError.
    """
    url = url.strip() or "immediate:"
    scheme = url.partition(":")[0].lower()
    path = broker_class or SCHEMES.get(scheme) or _registered().get(scheme)
    if path is None:
        raise InvalidURL(
            f"{masked(url)!r}: no broker for the scheme {scheme!r}. Known schemes: {', '.join(known_schemes())}. "
            "A broker of another package is named by the setting `broker`, as module:Class"
        )
    found = _load(path, url)
    broker = found.from_url(url, replace(found.default_terms, **terms) if terms else None)
    return _with_store(broker, store_url, terms) if store_url else broker


def _with_store(broker: Broker, store_url: str, terms: Mapping[str, float] | None) -> Broker:
    """A broker that keeps no records, with a store beside it."""
    if isinstance(broker, Store):
        raise SettingsError(f"{broker.url} keeps its jobs' records itself. Leave store_url out")
    from outwork.brokers.paired import PairedBroker

    return PairedBroker(broker, open_broker(store_url, terms=terms))


def known_schemes() -> list[str]:
    """The schemes that have a broker here, those of other packages included."""
    return sorted({*SCHEMES, *_registered()} - {"memory"})  # that one is for tests


def _registered() -> dict[str, str]:
    """The schemes of other packages."""
    from importlib.metadata import entry_points  # 15 ms, and only needed for a scheme that is not ours

    return {point.name: point.value for point in entry_points(group=GROUP)}


def _load(path: str, url: str) -> type[Broker]:
    module_name, _, class_name = path.partition(":")
    if os.getcwd() not in sys.path and path not in SCHEMES.values():
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(import_module(module_name), class_name, None)
    except MissingDriver:
        raise
    except ImportError as error:
        raise SettingsError(f"the broker class {path!r} for {masked(url)!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Broker)):
        raise SettingsError(f"{path!r} is not a subclass of outwork.brokers.base.Broker. Write module:Class")
    return found
