"""Talking to RabbitMQ from any thread: requests are answered by futures, and an end is told to all who wait."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, TypeAlias

from outwork.brokers.rabbitmq.driver import Channel, Connection, Loop, Refusal, is_access_error, is_authentication_error
from outwork.brokers.rabbitmq.options import Options
from outwork.errors import BrokerRefused, BrokerUnavailable, OutworkError

Request: TypeAlias = Callable[[Channel, Callable[[Any], None]], None]
"""Sends one method on a channel, and has its reply handed on."""

REPLY_TIMEOUT: Final = 10.0


class Lost(Exception):
    """The connection or channel ended. Whatever was unconfirmed may or may not have arrived."""


class Talk:
    """One channel. `ask` is for every thread; the rest happens on the I/O thread."""

    def __init__(self, loop: Loop, connection: Connection, channel: Channel) -> None:
        self.loop = loop
        self.connection = connection
        self.channel = channel
        self.ended: Exception | None = None
        self._unanswered: set[Future[Any]] = set()
        channel.on_close(self._on_close)
        loop.on_death(self._on_close)

    def ask(self, request: Request) -> Future[Any]:
        """Send a request, after those that were asked for before."""
        future: Future[Any] = Future()
        self.loop.call(partial(self._ask, request, future))
        return future

    def _ask(self, request: Request, future: Future[Any]) -> None:
        if self.ended is not None:
            future.set_exception(self.ended)
            return
        self._unanswered.add(future)
        try:
            request(self.channel, partial(self._answer, future))
        except Exception as error:  # noqa: BLE001 - it belongs to the thread that asked
            self._unanswered.discard(future)
            future.set_exception(error)

    def _answer(self, future: Future[Any], reply: Any = None) -> None:
        if future in self._unanswered:
            self._unanswered.discard(future)
            future.set_result(reply)

    def _on_close(self, reason: Exception) -> None:
        if self.ended is not None:
            return
        self.ended = reason if isinstance(reason, Refusal) else Lost(str(reason) or type(reason).__name__)
        unanswered, self._unanswered = self._unanswered, set()
        for future in unanswered:
            future.set_exception(self.ended)
        self.on_end(self.ended)

    def on_end(self, reason: Exception) -> None:
        """Hook: the channel is gone."""


def open_channel(loop: Loop, connection: Connection) -> Future[Channel]:
    """A further channel of a connection."""
    future: Future[Channel] = Future()

    def start() -> None:
        try:
            connection.channel(future.set_result)
        except Exception as error:  # noqa: BLE001 - it belongs to the thread that asked
            future.set_exception(error)

    loop.call(start)
    return future


def open_connection(loop: Loop, hosts: list[Any]) -> Future[Connection]:
    """A connection to the first of these hosts that answers."""
    future: Future[Connection] = Future()

    def done(result: Connection | Exception) -> None:
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    loop.call(partial(loop.connect, hosts, done))
    return future


def explained(error: Exception, options: Options, what: str = "") -> OutworkError:
    """The error of a driver or server as the caller of a broker knows it."""
    shown = options.shown
    if isinstance(error, OutworkError):
        return error
    text = str(error) or type(error).__name__
    if is_authentication_error(error):
        return BrokerRefused(f"{shown}: RabbitMQ does not know the user {options.user!r} with this password ({text})")
    if (isinstance(error, Refusal) and error.code == 530) or is_access_error(error):
        return BrokerRefused(
            f"{shown}: the virtual host {options.vhost!r} does not exist, or is not open to {options.user!r} ({text}). "
            f"Run:  rabbitmqctl add_vhost {options.vhost}; rabbitmqctl set_permissions -p {options.vhost} "
            f"{options.user} '.*' '.*' '.*'"
        )
    if isinstance(error, Refusal) and error.code == 403:
        return BrokerRefused(
            f"{shown}: {options.user!r} has not the right to use {what} ({text}). Run:  rabbitmqctl set_permissions "
            f"-p {options.vhost} {options.user} '^{options.prefix}\\..*' '.*' '.*'"
        )
    if isinstance(error, Refusal) and error.code in (405, 406):
        return BrokerRefused(
            f"{shown}: {what} exists already with other arguments ({text}). Say so in the URL (?queue_type=classic or "
            f"?queue_type=quorum), take other names (?prefix=...), or let its jobs end and run:  "
            f"rabbitmqctl delete_queue -p {options.vhost} NAME"
        )
    return BrokerUnavailable(f"{shown} cannot be reached{f' for {what}' if what else ''}: {text}")
