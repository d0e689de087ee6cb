"""The RabbitMQ broker against bare pika, in the same run: `python benchmarks/rabbitmq_broker.py amqp://localhost/`.

Bare pika publishes all messages pipelined with confirms, and consumes with a prefetch of 400 and one acknowledgement
for each 100. Queues of this run are deleted afterwards. Processor time a job is what a busy machine does not distort.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pika  # type: ignore[import-untyped]

from outwork import Outwork
from outwork.brokers.rabbitmq.broker import RabbitMQBroker
from outwork.ids import new_claim_id
from outwork.worker.plan import Plan
from outwork.worker.worker import Worker

BODY = b'{"v":1,"id":"01a1fa59-ea50-7865-9886-1536ef20cdcc","task":"bench.add","args":{"x":1,"y":"hello"}}'


def bare(url: str, start: Callable[[Any, Any, Callable[[], None]], None]) -> float:
    """Run something on a bare connection until it says that it is done; the seconds it took."""
    times: list[float] = []

    def on_channel(connection: Any, channel: Any) -> None:
        def done() -> None:
            times.append(time.perf_counter())
            connection.close()

        times.append(time.perf_counter())
        start(connection, channel, done)

    connection = pika.SelectConnection(
        pika.URLParameters(url),
        on_open_callback=lambda c: c.channel(on_open_callback=lambda channel: on_channel(c, channel)),
        on_close_callback=lambda c, reason: c.ioloop.stop(),
    )
    connection.ioloop.start()
    return times[1] - times[0]


def bare_publish(url: str, queue: str, kind: str, count: int) -> float:
    def start(connection: Any, channel: Any, done: Callable[[], None]) -> None:
        confirmed: set[int] = set()
        below = 0

        def on_confirm(frame: Any) -> None:
            nonlocal below
            if frame.method.multiple:
                below = max(below, frame.method.delivery_tag)
            else:
                confirmed.add(frame.method.delivery_tag)
            if below + sum(tag > below for tag in confirmed if below + len(confirmed) >= count) >= count:
                done()

        def send(first: int) -> None:
            for number in range(first, min(first + 500, count)):
                properties = pika.BasicProperties(delivery_mode=2, message_id=str(number))
                channel.basic_publish("", queue, BODY, properties, True)
            if first + 500 < count:
                connection.ioloop.call_later(0, lambda: send(first + 500))

        channel.queue_declare(
            queue,
            durable=True,
            arguments={"x-queue-type": kind},
            callback=lambda _: channel.confirm_delivery(on_confirm, lambda _: send(0)),
        )

    return count / bare(url, start)


def bare_consume(url: str, queue: str, count: int) -> float:
    def start(connection: Any, channel: Any, done: Callable[[], None]) -> None:
        seen = 0

        def on_message(_: Any, method: Any, properties: Any, body: bytes) -> None:
            nonlocal seen
            seen += 1
            if seen % 100 == 0 or seen == count:
                channel.basic_ack(method.delivery_tag, True)
            if seen == count:
                channel.queue_delete(queue, callback=lambda _: done())

        channel.basic_qos(prefetch_count=400, callback=lambda _: channel.basic_consume(queue, on_message))

    return count / bare(url, start)


def measure(url: str, kind: str, count: int) -> None:
    prefix = f"bench{new_claim_id()[:8]}"
    publish = bare_publish(url, f"{prefix}.bare", kind, count)
    consume = bare_consume(url, f"{prefix}.bare", count)
    parts = urlsplit(url)
    app = Outwork(urlunsplit(parts._replace(query=f"prefix={prefix}&queue_type={kind}", path="/")))
    stamps: list[float] = []
    arrived = threading.Event()

    @app.task(name="bench.add")
    def add(x: int, y: str) -> int:
        return x

    @app.task(name="bench.stamp")
    def stamp(begin: float) -> None:
        stamps.append(time.perf_counter() - begin)
        arrived.set()

    add.enqueue(0, "declares the queue")
    begin, cpu = time.perf_counter(), time.process_time()
    app.enqueue_many(add.bind(number, "hello") for number in range(count))
    enqueued, used = count / (time.perf_counter() - begin), (time.process_time() - cpu) / count * 1e6
    print(
        f"{kind}: enqueue_many {enqueued:,.0f}/s ({used:.0f} us a job), bare {publish:,.0f}/s: {enqueued / publish:.2f}"
    )
    worker = Worker(app, Plan(queues={"default": None}))
    thread = threading.Thread(target=worker.run)
    begin, cpu = time.perf_counter(), time.process_time()
    thread.start()
    while worker.done <= count:
        time.sleep(0.01)
    drained, used = count / (time.perf_counter() - begin), (time.process_time() - cpu) / count * 1e6
    print(f"{kind}: drain {drained:,.0f}/s ({used:.0f} us a job), bare {consume:,.0f}/s: {drained / consume:.2f}")
    for _ in range(300):
        arrived.clear()
        stamp.enqueue(time.perf_counter())
        arrived.wait(10)
        time.sleep(0.005)
    cuts = statistics.quantiles(stamps, n=100)
    print(f"{kind}: enqueue to function entry p50 {cuts[49] * 1e3:.2f} ms, p99 {cuts[98] * 1e3:.2f} ms")
    cpu = time.process_time()
    time.sleep(5)
    print(f"{kind}: idle {(time.process_time() - cpu) / 5:.2%} of a core")
    broker = app.broker
    assert isinstance(broker, RabbitMQBroker)
    worker.stop()
    thread.join()
    for tier in range(3):
        broker._link.administer(
            lambda channel, reply, tier=tier: channel.delete_queue(broker.topology.tier("default", tier), reply),  # type: ignore[misc]
            "a queue of the benchmark",
        )
    app.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", default="amqp://guest:guest@localhost:5672/%2F")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    for kind in ("classic", "quorum"):
        measure(options.url, kind, 5_000 if options.quick else 40_000)


if __name__ == "__main__":
    main()
