"""From a URL, or the field's `hosts`, to a store. Drivers are imported only where their store is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from outwork.brokers.url import masked
from outwork.contrib.channels.memory import MemoryStore
from outwork.contrib.channels.pipes import Store
from outwork.errors import InvalidURL, MissingDriver, SettingsError

Host: TypeAlias = str | tuple[str, int] | list[Any] | Mapping[str, Any]


def open_store(url: str | None, hosts: Sequence[Host] | None, prefix: str) -> Store:
    """Raises InvalidURL, MissingDriver, SettingsError. Connects to nothing yet."""
    if url is not None and hosts is not None:
        raise SettingsError("a channel layer has a url or hosts, not both. Keep url")
    if url is None:
        return _redis(hosts or ["redis://localhost:6379"], prefix)
    scheme = url.partition(":")[0].lower()
    base = scheme.partition("+")[0]
    match base:
        case "memory":
            return MemoryStore(url)
        case "sqlite":
            from outwork.contrib.channels.sqlite import SQLiteStore

            return SQLiteStore.from_url(url, prefix)
        case "postgresql" | "postgres":
            try:
                from outwork.contrib.channels.postgresql.store import PostgreSQLStore
            except ImportError as error:
                raise MissingDriver(f"{base}:// needs psycopg ({error}):  pip install 'outwork[postgres]'") from error
            return PostgreSQLStore.from_url(url, prefix)
        case "redis" | "rediss" | "valkey" | "valkeys" | "unix":
            return _redis([url], prefix)
        case _:
            raise InvalidURL(
                f"{masked(url)}: there is no channel layer for {scheme!r}. There is one for memory:, sqlite:, "
                "postgresql: and redis: (also rediss, unix, valkey, redis+sentinel, redis+cluster)"
            )


def _redis(hosts: Sequence[Host], prefix: str) -> Store:
    if isinstance(hosts, str | bytes):
        raise SettingsError("hosts is a list, even of one server. Or write url=, which is one")
    try:
        from outwork.contrib.channels.redis.hosts import url_of
        from outwork.contrib.channels.redis.store import RedisStore
    except ImportError as error:
        raise MissingDriver(f"redis:// needs redis and hiredis ({error}):  pip install 'outwork[redis]'") from error
    stores = [RedisStore.from_url(url_of(host), prefix) for host in hosts]
    if len(stores) == 1:
        return stores[0]
    from outwork.contrib.channels.shared_out import SharedOutStore

    return SharedOutStore(stores)
