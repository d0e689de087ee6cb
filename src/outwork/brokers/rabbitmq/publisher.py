"""Publishing with confirms: many messages are on their way at once, from any thread, over one channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import Event
from typing import Final, TypeAlias

from outwork.brokers.rabbitmq.driver import Channel, Connection, Loop
from outwork.brokers.rabbitmq.frames import Parcel
from outwork.brokers.rabbitmq.talk import Talk

SLICE: Final = 500
"""Messages published without a look at what has arrived."""


class Unroutable(Exception):
    """There is no queue of that name."""


class Rejected(Exception):
    """The queue took the message not: it is full, or has lost its majority."""


class Unsendable(Exception):
    """It cannot be written as AMQP wants it."""


class Unsent(Exception):
    """The connection was gone before it was sent; `reason` is what ended it."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


Then: TypeAlias = Callable[["Batch"], None]


class Batch:
    """Messages published together. `errors`, by their index: why they are not known to have arrived."""

    __slots__ = ("_done", "_known", "errors", "left", "parcels", "then")

    def __init__(self, parcels: Sequence[Parcel], then: Then | None) -> None:
        self.parcels = parcels
        self.left = len(parcels)
        self._known = bytearray(self.left)
        self.errors: dict[int, Exception] = {}
        self.then = then
        self._done = Event()

    def wait(self, timeout: float) -> bool:
        """Wait until the fate of each is known."""
        return self._done.wait(timeout)

    def unknown(self) -> list[int]:
        """Those whose fate is not known yet."""
        return [index for index, known in enumerate(self._known) if not known]

    def settle(self, index: int, error: Exception | None) -> None:
        """On the I/O thread: the fate of one is known."""
        if error is not None:
            self.errors[index] = error
        self._known[index] = True
        self.left -= 1
        if not self.left:
            self._done.set()
            if self.then is not None:
                self.then(self)


class Publisher(Talk):
    """A channel in confirm mode, on a connection of its own: when the server blocks those who publish, it does not
    block those who only acknowledge."""

    def __init__(self, loop: Loop, connection: Connection, channel: Channel) -> None:
        super().__init__(loop, connection, channel)
        self.blocked = ""
        """Why the server takes nothing at the moment."""
        self._sequence = 0
        self._pending: dict[int, tuple[Batch, int]] = {}
        self._returned: set[str] = set()
        connection.on_blocked(self._on_blocked)
        channel.on_return(self._on_return)

    def start(self) -> None:
        """Switch confirms on; wait for the reply."""
        self.ask(lambda channel, reply: channel.confirm(self._on_confirm, reply)).result(10.0)

    def publish(self, parcels: Sequence[Parcel], then: Then | None = None) -> Batch:
        """Send messages; `then` is called on the I/O thread when the fate of all is known."""
        batch = Batch(parcels, then)
        if parcels:
            self.loop.call(partial(self._send, batch, 0))
        return batch

    # ---- on the I/O thread ------------------------------------------------------------------------------------------

    def _send(self, batch: Batch, start: int) -> None:
        parcels = batch.parcels
        end = min(start + SLICE, len(parcels))
        if self.ended is not None or not self.channel.is_open:
            reason = Unsent(self.ended or ConnectionError("the channel is closing"))
            for unsent in range(start, len(parcels)):
                batch.settle(unsent, reason)
            return
        marshal, messages = self.channel.marshal, []
        for index in range(start, end):
            try:
                messages.append(marshal(parcels[index]))
            except Exception as error:  # noqa: BLE001 - it belongs to the thread that waits
                batch.settle(index, Unsendable(f"{type(error).__name__}: {error}"))
                continue
            self._sequence += 1
            self._pending[self._sequence] = (batch, index)
        if messages:
            self.channel.send(messages)
        if end < len(parcels):
            self.loop.call(partial(self._send, batch, end))

    def _on_confirm(self, tag: int, multiple: bool, accepted: bool) -> None:
        pending = self._pending
        if not multiple:
            self._settle(tag, accepted)
            return
        tags: list[int] = []
        for one in pending:
            if one > tag:
                break
            tags.append(one)
        for one in tags:
            self._settle(one, accepted)

    def _settle(self, tag: int, accepted: bool) -> None:
        batch, index = self._pending.pop(tag)
        error: Exception | None = None
        if not accepted:
            error = Rejected("RabbitMQ did not accept the message: its queue is full or has lost its majority")
        elif self._returned:
            job_id = batch.parcels[index].properties.message_id or ""
            if job_id in self._returned:
                self._returned.discard(job_id)
                error = Unroutable(f"there is no queue {batch.parcels[index].key}")
        batch.settle(index, error)

    def _on_return(self, message_id: str, key: str) -> None:
        self._returned.add(message_id)  # its confirm follows

    def _on_blocked(self, reason: str) -> None:
        self.blocked = reason

    def on_end(self, reason: Exception) -> None:
        pending, self._pending = self._pending, {}
        for batch, index in pending.values():
            batch.settle(index, reason)
        self.connection.close()
