"""`OutworkBackend`: results of Dramatiq in any store of ours."""

from __future__ import annotations

from typing import Any

from dramatiq import Message
from dramatiq.encoder import Encoder
from dramatiq.results.backend import DEFAULT_TIMEOUT, Missing, ResultBackend
from dramatiq.results.errors import ResultMissing, ResultTimeout
from msgspec import Raw

from outwork.contrib.dramatiq.broker import OutworkBroker, application
from outwork.contrib.dramatiq.envelope import pack, unpack
from outwork.contrib.dramatiq.shelf import shelf_of


class OutworkBackend(ResultBackend):
    """Keeps results where the jobs of a URL are, or where those of `broker` are: SQLite, PostgreSQL, MySQL, Redis.

        broker.add_middleware(Results(backend=OutworkBackend(broker=broker)))

    Without both the settings of Outwork say where. Raises Unsupported where no records are kept.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        broker: OutworkBroker | None = None,
        namespace: str = "dramatiq-results",
        encoder: Encoder | None = None,
    ) -> None:
        super().__init__(namespace=namespace, encoder=encoder)
        self.app, self._owned = application(url, broker.app if broker is not None else None)
        self._shelf = shelf_of(self.app, namespace, at_once=url is not None or broker is not None)

    def close(self) -> None:
        """Close the connections, if they are not the broker's."""
        if self._owned:
            self.app.close()

    def get_result(self, message: Message[Any], *, block: bool = False, timeout: int | None = None) -> Any:
        """The result of a message; with `block` wait for it, up to `timeout` ms (10 seconds).

        Raises Dramatiq's ResultMissing, ResultTimeout, ResultFailure; BrokerUnavailable.
        """
        key = self.build_message_key(message)
        seconds = (DEFAULT_TIMEOUT if timeout is None else timeout) / 1000
        found = self._shelf.wait(key, seconds) if block else self._shelf.look(key)
        if found is None:
            raise ResultTimeout(message) if block else ResultMissing(message)
        return self.unwrap_result(self._read(found))  # type: ignore[no-untyped-call]

    def _get(self, message_key: str) -> Any:
        found = self._shelf.look(message_key)
        return Missing if found is None else self._read(found)

    def _read(self, found: Raw) -> Any:
        return self.encoder.decode(unpack(found))

    def _store(self, message_key: str, result: Any, ttl: int) -> None:
        """`ttl` in milliseconds. Another result of the same message is replaced."""
        self._shelf.put(message_key, pack(self.encoder.encode(result)), ttl / 1000)
