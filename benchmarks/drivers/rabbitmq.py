"""pika: publishes with confirms, and consumes with a prefetch of 400 and one acknowledgement for each 100."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, urlsplit, urlunsplit

import pika  # type: ignore[import-untyped]

from benchmarks.direct import QUEUE
from benchmarks.drivers.base import Driver
from outwork.codec import encode_job
from outwork.job import Job

BARE: Final = "bare"


class RabbitMQ(Driver):
    exchanges: ClassVar[bool] = False

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        options = parse_qs(parts.query)
        kind = options.get("queue_type", ["quorum"])[0]
        self._queue = f"{BARE}.{kind}"
        self._theirs = f"{options['prefix'][0]}.{QUEUE}"
        self._parameters = pika.URLParameters(urlunsplit(parts._replace(query="", path="/")))
        self._connection: Any = pika.BlockingConnection(self._parameters)
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()
        self._channel.queue_declare(self._queue, durable=True, arguments={"x-queue-type": kind})

    def rows(self, jobs: Sequence[Job]) -> list[Any]:
        return [(encode_job(job), pika.BasicProperties(delivery_mode=2, message_id=job.id)) for job in jobs]

    def many(self, rows: Sequence[Any]) -> None:
        """All in flight at once, on a connection that does not block."""

        def start(connection: Any, channel: Any, done: Callable[[], None]) -> None:
            confirmed: set[int] = set()
            below = 0

            def on_confirm(frame: Any) -> None:
                nonlocal below, confirmed
                if frame.method.multiple:
                    below = max(below, frame.method.delivery_tag)
                    confirmed = {tag for tag in confirmed if tag > below}
                else:
                    confirmed.add(frame.method.delivery_tag)
                if below + len(confirmed) >= len(rows):
                    done()

            def send(first: int) -> None:
                for body, properties in rows[first : first + 500]:
                    channel.basic_publish("", self._queue, body, properties, True)
                if first + 500 < len(rows):
                    connection.ioloop.call_later(0, lambda: send(first + 500))

            channel.confirm_delivery(on_confirm, lambda _: send(0))

        self._run(start)

    def one_by_one(self, rows: Sequence[Any]) -> None:
        for body, properties in rows:
            self._channel.basic_publish("", self._queue, body, properties, True)

    def consume(self, rows: Sequence[Any]) -> float | None:
        self.many(rows)

        def start(connection: Any, channel: Any, done: Callable[[], None]) -> None:
            seen = 0

            def on_message(_: Any, method: Any, properties: Any, body: bytes) -> None:
                nonlocal seen
                seen += 1
                if seen % 100 == 0 or seen == len(rows):
                    channel.basic_ack(method.delivery_tag, True)
                if seen == len(rows):
                    done()

            channel.basic_qos(prefetch_count=400, callback=lambda _: channel.basic_consume(self._queue, on_message))

        return len(rows) / self._run(start)

    def _run(self, start: Callable[[Any, Any, Callable[[], None]], None]) -> float:
        """Run something on a connection of its own until it says that it is done; the seconds it took."""
        times: list[float] = []

        def on_channel(connection: Any, channel: Any) -> None:
            def done() -> None:
                times.append(time.perf_counter())
                connection.close()

            times.append(time.perf_counter())
            start(connection, channel, done)

        connection: Any = pika.SelectConnection(
            self._parameters,
            on_open_callback=lambda c: c.channel(on_open_callback=lambda channel: on_channel(c, channel)),
            on_close_callback=lambda c, reason: c.ioloop.stop(),
        )
        connection.ioloop.start()
        return times[1] - times[0]

    def empty(self) -> None:
        for queue in (self._queue, self._theirs):
            channel = self._connection.channel()
            try:
                channel.queue_purge(queue)
                channel.close()
            except pika.exceptions.ChannelClosedByBroker:  # nothing was enqueued yet
                pass

    def close(self) -> None:
        self._connection.close()
