"""What a test does to a RabbitMQ server behind the broker's back, over a plain blocking connection."""

from __future__ import annotations

from typing import Any

import pika  # type: ignore[import-untyped]
from pika.exceptions import ChannelClosedByBroker  # type: ignore[import-untyped]

from outwork.brokers.rabbitmq.broker import RabbitMQBroker
from outwork.brokers.rabbitmq.topology import LEVELS, Topology


class Admin:
    """A connection of the test's own. It learns the names of queues from what the test tells it to look at."""

    def __init__(self, url: str) -> None:
        self._connection: Any = pika.BlockingConnection(pika.URLParameters(url.rstrip("/") + "/%2F"))
        self._channel: Any = None

    def close(self) -> None:
        self._connection.close()

    @property
    def channel(self) -> Any:
        if self._channel is None or not self._channel.is_open:
            self._channel = self._connection.channel()
            self._channel.confirm_delivery()
        return self._channel

    def count(self, queue: str) -> int | None:
        """How many messages are ready in a queue; None if there is none of that name."""
        try:
            return int(self.channel.queue_declare(queue, passive=True).method.message_count)
        except ChannelClosedByBroker:
            return None

    def take(self, queue: str) -> list[tuple[Any, Any, bytes]]:
        """All ready messages of a queue, not acknowledged."""
        found: list[tuple[Any, Any, bytes]] = []
        if self.count(queue) is None:
            return found
        while True:
            method, properties, body = self.channel.basic_get(queue)
            if method is None:
                return found
            found.append((method, properties, body))

    def deliver_due(self, topology: Topology, now: float) -> None:
        """Take out of the delay queues what is due by this clock, and put it where it belongs, in its order."""
        due: list[tuple[int, str, str, Any, bytes]] = []
        for level in range(len(LEVELS)):
            for method, properties, body in self.take(topology.rung(level)):
                moment = properties.headers["due"]
                if moment > now * 1000:
                    self.channel.basic_nack(method.delivery_tag)
                else:
                    due.append((moment, properties.message_id, method.routing_key, properties, body))
                    self.channel.basic_ack(method.delivery_tag)
        for _, _, key, properties, body in sorted(due, key=lambda one: one[:2]):
            self.channel.basic_publish(topology.due, key, body, properties)

    def replace_body(self, queue: str, message_id: str, body: bytes) -> None:
        for method, properties, old in self.take(queue):
            new = body if properties.message_id == message_id else old
            self.channel.basic_publish("", queue, new, properties)
            self.channel.basic_ack(method.delivery_tag)

    def delete_queues_of(self, broker: RabbitMQBroker) -> None:
        """Delete what this broker object has declared."""
        for name in broker._link._declared:
            if not name.startswith("exchange ") and " > " not in name:
                self.channel.queue_delete(name.removeprefix("rung "))
