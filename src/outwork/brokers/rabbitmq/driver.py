"""pika, as far as it is needed, with types. Nothing else imports it.

Everything here but `Loop.call` is called on the I/O thread only.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, TypeAlias, cast

from outwork.brokers.rabbitmq import frames
from outwork.brokers.rabbitmq.frames import Headers, Parcel, Properties
from outwork.errors import MissingDriver

try:
    import pika  # type: ignore[import-untyped]
    from pika import data, spec
    from pika.adapters.select_connection import (  # type: ignore[import-untyped]
        IOLoop,
        SelectConnection,
    )
    from pika.exceptions import (  # type: ignore[import-untyped]
        AMQPConnectionError,
        ChannelClosed,
        ConnectionClosed,
    )
except ImportError as error:
    raise MissingDriver(
        "RabbitMQ needs the driver pika, which is not installed. Run:  pip install 'outwork[rabbitmq]'"
    ) from error

Arguments: TypeAlias = Mapping[str, str | int]
OnMessage: TypeAlias = Callable[[int, bool, Properties, bytes], None]
"""Delivery tag, redelivered, properties, body."""
Reply: TypeAlias = Callable[[Any], None]

logger = logging.getLogger("outwork.brokers.rabbitmq")

if (_logger := logging.getLogger("pika")).level == logging.NOTSET:
    _logger.setLevel(logging.CRITICAL)  # what goes wrong is raised, and reported once by those who retry


class Refusal(Exception):
    """The server closed a channel or connection, and said why: `code` as AMQP numbers it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def reason_of(error: BaseException | None) -> Exception:
    """An error of pika as one that can be told apart without pika."""
    if isinstance(error, ChannelClosed | ConnectionClosed):
        code, text = cast("tuple[int, str]", (error.reply_code, error.reply_text))
        return Refusal(code, text)
    causes = getattr(error, "exceptions", ())  # of the tries with several hosts
    if causes:
        return reason_of(causes[-1])
    inner = getattr(error, "exception", None)
    if isinstance(inner, BaseException):
        return reason_of(inner)
    if isinstance(error, AMQPConnectionError) and error.args and isinstance(error.args[0], BaseException):
        return reason_of(error.args[0])
    if isinstance(error, OSError):
        return error
    return ConnectionError(f"{type(error).__name__}: {error}" if error is not None else "closed")


def is_authentication_error(error: Exception) -> bool:
    """Whether the server does not know this user and password."""
    return "ProbableAuthenticationError" in str(error) or "ACCESS_REFUSED - Login was refused" in str(error)


def is_access_error(error: Exception) -> bool:
    """Whether the server may have closed the connection because the virtual host is not open to this user."""
    return "ProbableAccessDeniedError" in str(error)


def parameters(
    host: str,
    port: int,
    *,
    user: str,
    password: str,
    vhost: str,
    heartbeat: int,
    timeout: float,
    ssl: Any = None,
    name: str,
) -> Any:
    """Where and how to connect."""
    return pika.ConnectionParameters(
        host=host,
        port=port,
        virtual_host=vhost,
        credentials=pika.PlainCredentials(user, password, erase_on_connect=False),
        heartbeat=heartbeat,
        socket_timeout=timeout,
        stack_timeout=timeout + 5,
        connection_attempts=1,
        ssl_options=None if ssl is None else pika.SSLOptions(ssl, host),
        client_properties={"connection_name": name},
    )


class Got(NamedTuple):
    """A message that was asked for."""

    tag: int
    properties: Properties
    body: bytes


class Loop:
    """An event loop on a thread of its own. `call` is for every thread."""

    def __init__(self) -> None:
        self._loop: Any = IOLoop()
        self.died: Exception | None = None
        """What ended the thread, if it ended by itself: nothing on it lives any more."""
        self._mourners: list[Callable[[Exception], None]] = []
        self._thread = threading.Thread(target=self._run, name="outwork-amqp", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._loop.start()
        except Exception as error:
            logger.exception("the thread that talks to RabbitMQ ended; another one takes its place")
            self.died = error
            for mourner in self._mourners:
                mourner(error)
        finally:
            self._loop.close()

    def on_death(self, function: Callable[[Exception], None]) -> None:
        """Have this called when the thread ends by itself."""
        self._mourners.append(function)

    def call(self, function: Callable[[], None]) -> None:
        """Run a function on the I/O thread, soon."""
        self._loop.add_callback_threadsafe(function)

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Run a function on the I/O thread after some time; from that thread."""
        self._loop.call_later(seconds, function)

    def stop(self) -> None:
        """End the thread, when it has run what was asked for before."""
        self.call(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(10.0)

    def connect(self, hosts: Sequence[Any], done: Callable[[Connection | Exception], None]) -> None:
        """Open a connection to the first of the hosts that answers."""

        def finished(result: Any) -> None:
            done(reason_of(result) if isinstance(result, BaseException) else Connection(result))

        SelectConnection.create_connection(hosts, on_done=finished, custom_ioloop=self._loop)


class Connection:
    """A connection that is open."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def version(self) -> tuple[int, ...]:
        """The server's version, as far as it has numbers."""
        text = str((self._connection.server_properties or {}).get("version", ""))
        return tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())

    def on_close(self, function: Callable[[Exception], None]) -> None:
        self._connection.add_on_close_callback(lambda _, reason: function(reason_of(reason)))

    def on_blocked(self, function: Callable[[str], None]) -> None:
        """Called with the reason when publishers are blocked, with "" when they may go on."""
        self._connection.add_on_connection_blocked_callback(lambda _, frame: function(str(frame.method.reason)))
        self._connection.add_on_connection_unblocked_callback(lambda _, frame: function(""))

    def channel(self, opened: Callable[[Channel], None]) -> None:
        self._connection.channel(on_open_callback=lambda channel: opened(Channel(channel)))

    def close(self) -> None:
        if self._connection.is_open:
            self._connection.close()

    def close_now(self, loop: Loop) -> Future[None]:
        """Close it, from any thread; done when its socket is closed."""
        future: Future[None] = Future()

        def start() -> None:
            if self._connection.is_closed:
                future.set_result(None)
                return
            self._connection.add_on_close_callback(lambda *_: future.set_result(None))
            self.close()

        loop.call(start)
        return future


class Channel:
    """A channel that is open."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self.ack: Callable[[int, bool], None] = channel.basic_ack
        """Delivery tag, and whether all before it are meant, too."""

        self._consumers: dict[bytes, OnMessage] = {}

    @property
    def is_open(self) -> bool:
        return bool(self._channel.is_open)

    def marshal(self, parcel: Parcel) -> bytes:
        """A message as it is sent. Raises for what AMQP cannot carry."""
        return frames.write(int(self._channel), self._channel.connection.params.frame_max, parcel, _write_table)

    def send(self, messages: Sequence[bytes]) -> None:
        """Send what `marshal` made."""
        self._channel.connection._output_marshaled_frames([b"".join(messages)])

    def read_fast(self) -> None:
        """Read deliveries on this channel ourselves; pika reads everything else."""
        connection = self._channel.connection
        Reader(connection, int(self._channel), self._consumers).install()

    def on_close(self, function: Callable[[Exception], None]) -> None:
        self._channel.add_on_close_callback(lambda _, reason: function(reason_of(reason)))

    def on_cancel(self, function: Callable[[str], None]) -> None:
        """Called with its tag when the server ends a consumer, because its queue is gone."""
        self._channel.add_on_cancel_callback(lambda frame: function(frame.method.consumer_tag))

    def on_return(self, function: Callable[[str, str], None]) -> None:
        """Called with the id and the routing key of a message that came back because there is no queue for it."""
        self._channel.add_on_return_callback(
            lambda _, method, properties, body: function(properties.message_id, method.routing_key)
        )

    def confirm(self, confirmed: Callable[[int, bool, bool], None], reply: Reply) -> None:
        """Switch confirms on; `confirmed` is told tag, whether all before it are meant, and whether it was accepted."""

        def on_frame(frame: Any) -> None:
            method = frame.method
            confirmed(method.delivery_tag, method.multiple, isinstance(method, spec.Basic.Ack))

        self._channel.confirm_delivery(on_frame, reply)

    def qos(self, prefetch: int, reply: Reply) -> None:
        """The prefetch of consumers that start from now on."""
        self._channel.basic_qos(prefetch_count=prefetch, callback=reply)

    def consume(self, queue: str, on_message: OnMessage, tag: str, reply: Reply) -> None:
        def on_delivery(_: Any, method: Any, properties: Any, body: bytes) -> None:
            on_message(method.delivery_tag, method.redelivered, _plain(properties), body)

        self._consumers[tag.encode()] = on_message
        self._channel.basic_consume(queue, on_delivery, consumer_tag=tag, callback=reply)

    def cancel(self, tag: str, reply: Reply) -> None:
        """End a consumer, after what was asked for before: its beginning may wait for the reply to something else. What
        is on its way to it still arrives: pika's own `basic_cancel` would reject that, which counts as a delivery."""
        self._channel._rpc(
            spec.Basic.Cancel(consumer_tag=tag, nowait=False),
            partial(self._cancelled, tag, reply),
            [(spec.Basic.CancelOk, {"consumer_tag": tag})],
        )

    def _cancelled(self, tag: str, reply: Reply, frame: Any) -> None:
        self._channel._cleanup_consumer_ref(tag)
        self._consumers.pop(tag.encode(), None)
        reply(frame)

    def get(self, queue: str, reply: Callable[[Got | None], None]) -> None:
        """One message, not acknowledged; None if there is none."""
        number = self._channel.channel_number

        def on_empty(_: Any) -> None:
            reply(None)

        def on_message(_: Any, method: Any, properties: Any, body: bytes) -> None:
            self._channel.callbacks.remove(number, spec.Basic.GetEmpty, on_empty)
            reply(Got(method.delivery_tag, _plain(properties), body))

        self._channel.add_callback(on_empty, [spec.Basic.GetEmpty])
        self._channel.basic_get(queue, on_message)

    def put_back(self, tag: int) -> None:
        """A message that was delivered goes back to its queue."""
        self._channel.basic_nack(tag, requeue=True)

    def put_all_back(self) -> None:
        """What was got and not acknowledged goes back to its queue."""
        if self._channel.is_open:
            self._channel.basic_nack(0, multiple=True, requeue=True)

    def declare_queue(self, name: str, arguments: Arguments, reply: Reply) -> None:
        self._channel.queue_declare(name, durable=True, arguments=dict(arguments), callback=reply)

    def look_at_queue(self, name: str, reply: Reply) -> None:
        """Its reply, the number of messages that wait there, comes after all that the queue has sent before."""
        self._channel.queue_declare(name, passive=True, callback=lambda frame: reply(frame.method.message_count))

    def declare_exchange(self, name: str, kind: str, reply: Reply) -> None:
        self._channel.exchange_declare(name, kind, durable=True, callback=reply)

    def bind_queue(self, queue: str, exchange: str, key: str, reply: Reply) -> None:
        self._channel.queue_bind(queue, exchange, key, callback=reply)

    def bind_exchange(self, destination: str, source: str, key: str, reply: Reply) -> None:
        self._channel.exchange_bind(destination, source, key, callback=reply)

    def close(self) -> None:
        if self._channel.is_open:
            self._channel.close()


class Reader:
    """Takes what a connection receives apart, so that deliveries on one channel are read the short way."""

    def __init__(self, connection: Any, channel: int, consumers: Mapping[bytes, OnMessage]) -> None:
        self._connection = connection
        self._channel = channel
        self._consumers = consumers
        self._read_the_rest: Callable[[bytes], None] = connection._on_data_available

    def install(self) -> None:
        self._connection._on_data_available = self.feed

    def feed(self, received: bytes) -> None:
        """Everything but whole deliveries is handed to pika, frame by frame in its order."""
        connection = self._connection
        buffered = connection._frame_buffer
        received = buffered + received if buffered else received
        at = 0
        while (frame := frames.next_frame(received, at)) is not None:
            kind, channel, end = frame
            if kind == frames.METHOD and channel == self._channel and frames.is_delivery(received, at):
                found = frames.read(received, at, _read_properties)
                if found is None:
                    break
                (consumer, tag, redelivered, properties, body), end = found
                connection.bytes_received += end - at  # tells the heartbeat that the server lives
                at = end
                on_message = self._consumers.get(consumer)
                if on_message is not None:
                    on_message(tag, redelivered, properties, body)
                elif connection.is_open:  # an acknowledgement of what follows would take it along: give all back
                    logger.error("a message came for no consumer (%r): closing the connection", consumer)
                    connection.close(200, "a message came for no consumer")
            else:
                connection._frame_buffer = b""
                self._read_the_rest(received[at:end])
                at = end
        connection._frame_buffer = received[at:]


def _write_table(headers: Headers) -> bytes:
    pieces: list[bytes] = []
    data.encode_table(pieces, headers)
    return b"".join(pieces)


def _read_properties(encoded: bytes) -> Properties:
    read = spec.BasicProperties()
    read.decode(encoded)
    return _plain(read)


def _plain(properties: Any) -> Properties:
    return Properties(properties.message_id, properties.headers, properties.priority, properties.expiration)
