"""What a worker must do on every store, in this process: poison costs itself only, and a stop leaves the unread."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import pytest
from channels.consumer import AsyncConsumer, SyncConsumer
from channels.routing import ChannelNameRouter, ProtocolTypeRouter

from contrib.channels.layer_suite import MakeLayer, soon
from outwork.contrib.channels import OutworkChannelLayer
from outwork.contrib.channels.instance import Application
from outwork.contrib.channels.worker import ChannelWorker, Summary

POISON: list[dict[str, Any]] = [
    {"no type": "secret"},
    {"type": None},
    {"type": 7},
    {"type": ""},
    {"type": "_private", "secret": 1},
    {"type": "no.such.handler", "secret": 1},
    {"type": "count"},  # without the number that the handler needs
    {"type": "fail", "secret": 1},
    {"type": "leave"},
    {"type": "interrupt"},
    {"type": "cancel"},
]


def application_of(counted: list[int]) -> Application:
    """A consumer of each kind behind the router of Channels, which write down what they were sent."""

    class Both:
        def fail(self, message: Any) -> None:
            raise ValueError("the secret of the handler")

        def leave(self, message: Any) -> None:
            sys.exit(3)

        def interrupt(self, message: Any) -> None:
            raise KeyboardInterrupt

        def cancel(self, message: Any) -> None:
            raise asyncio.CancelledError

    class Sync(Both, SyncConsumer):  # type: ignore[misc]
        def count(self, message: Any) -> None:
            counted.append(message["number"])

    class Async(AsyncConsumer):  # type: ignore[misc]
        async def count(self, message: Any) -> None:
            counted.append(message["number"])

        async def fail(self, message: Any) -> None:
            Both().fail(message)

        async def leave(self, message: Any) -> None:
            Both().leave(message)

        async def cancel(self, message: Any) -> None:
            Both().cancel(message)

    router = ChannelNameRouter({"sync": Sync.as_asgi(), "async": Async.as_asgi()})
    found: Any = ProtocolTypeRouter({"channel": router})
    application: Application = found
    return application


class Working:
    """A worker in the running loop."""

    def __init__(self, worker: ChannelWorker) -> None:
        self.worker = worker
        self.task = asyncio.ensure_future(worker.run())

    async def until(self, what: Any) -> None:
        async with asyncio.timeout(60):
            while not what():
                assert not self.task.done(), self.task.result()
                await asyncio.sleep(0.01)

    async def stop(self) -> Summary:
        self.worker.stop()
        return await asyncio.wait_for(self.task, 60)


async def everything_in(layer: OutworkChannelLayer, channel: str) -> list[int]:
    await layer.send(channel, {"number": -1})
    found: list[int] = []
    while -1 not in found:
        found.append((await soon(layer.receive(channel)))["number"])
    return found[:-1]


class WorkerSuite:
    """A subclass gives `make_layer`, as for `LayerSuite`."""

    @pytest.fixture
    def without_django(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Consumers look for a layer in the settings, and close old connections to databases: there are none."""
        monkeypatch.setattr("channels.consumer.get_channel_layer", lambda alias: None)
        monkeypatch.setattr("channels.db.close_old_connections", lambda: None)

    @pytest.mark.usefixtures("without_django")
    def test_poison_of_every_kind_costs_itself_only(
        self, make_layer: MakeLayer, caplog: pytest.LogCaptureFixture
    ) -> None:
        layer, foreign = make_layer(), make_layer(symmetric_encryption_keys=["of another project"])
        counted: list[int] = []

        async def run() -> None:
            working = Working(ChannelWorker(application_of(counted), layer, {"sync": 1, "async": 2, "unknown": 1}))
            for poison in POISON:
                for channel in ("sync", "async", "unknown"):
                    await layer.send(channel, poison)
            for channel in ("sync", "async", "unknown"):
                await foreign.send(channel, {"type": "count", "secret": 1})
                await layer.send(channel, {"type": "count", "number": 1})
            await working.until(lambda: len(counted) == 2 and caplog.text.count("failed, and is lost") == 7 + 7 + 8)
            summary = await working.stop()
            assert (summary.handled, summary.abandoned) == (2, 0)
            assert summary.failed == 3 * len(POISON) + 1

        with caplog.at_level(logging.INFO, "outwork.channels"):
            asyncio.run(run())
        said = [record.getMessage() for record in caplog.records]
        for channel in ("sync", "async", "unknown"):
            assert sum(line.startswith(f"a message of {channel} has no type") for line in said) == 4
            assert (
                sum(line.startswith(f"a message of {channel} cannot be read, and is thrown away") for line in said) == 1
            )
        for channel in ("sync", "async"):
            for kind in ("_private", "no.such.handler", "count", "fail", "leave", "interrupt", "cancel"):
                assert sum(line.startswith(f"message {kind} of {channel} failed, and is lost") for line in said) == 1
        assert sum("No application configured for channel name 'unknown'" in line for line in said) == 8
        assert "secret" not in "".join(said).replace("the secret of the handler", "")
        assert not [line for line in said if "Task exception" in line]

    def test_a_stop_leaves_a_thousand_unread(self, make_layer: MakeLayer) -> None:
        layer = make_layer(capacity=2000)
        go: list[asyncio.Event] = []
        begun: list[int] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            while True:
                begun.append((await receive())["number"])
                await go[0].wait()

        async def run() -> None:
            go.append(asyncio.Event())
            working = Working(ChannelWorker(application, layer, {"channel": 1}))
            for number in range(1001):
                await layer.send("channel", {"type": "x", "number": number})
            await working.until(lambda: begun)
            stopping = asyncio.ensure_future(working.stop())
            await asyncio.sleep(0.05)
            assert not stopping.done()
            go[0].set()
            assert await stopping == Summary(1, 0, 0)
            assert begun == [0]
            assert await everything_in(layer, "channel") == list(range(1, 1001))

        asyncio.run(run())

    @pytest.mark.usefixtures("without_django")
    def test_a_stop_in_the_middle_of_a_thousand(self, make_layer: MakeLayer) -> None:
        """Quick handlers, so messages are taken ahead: they go back to their places."""
        layer = make_layer(capacity=2000)
        counted: list[int] = []

        async def run() -> None:
            for number in range(1000):
                await layer.send("async", {"type": "count", "number": number})
            working = Working(ChannelWorker(application_of(counted), layer, {"async": 1}))
            await working.until(lambda: len(counted) >= 100)
            summary = await working.stop()
            assert summary == Summary(len(counted), 0, 0)
            assert counted + await everything_in(layer, "async") == list(range(1000))

        asyncio.run(run())
