"""What belongs to event loops: the link to a server, and whatever there is one of for each loop."""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio import AbstractEventLoop
from pathlib import Path
from typing import Any

import pytest

from outwork.contrib.channels import OutworkChannelLayer
from outwork.contrib.channels.linked import opened
from outwork.contrib.channels.loops import ByLoop
from outwork.contrib.channels.memory import SWEEP_EVERY, MemoryStore
from outwork.contrib.channels.pipes import pipe_of
from outwork.contrib.channels.redis.stream import Broken, Stream
from outwork.errors import InvalidChannel
from support.waiting import until


class Wire:
    """A connection to nobody."""

    def __init__(self) -> None:
        self.socket, self.other = socket.socketpair()
        self.closed = 0

    def close(self) -> None:
        self.closed += 1
        self.socket.close()
        self.other.close()


def test_a_forked_child_has_channels_of_its_own(tmp_path: Path) -> None:
    """A server that loads the application before it forks: its workers would read each other's messages."""
    layer = OutworkChannelLayer(f"sqlite:///{tmp_path}/channels.db")
    name = asyncio.run(layer.new_channel())
    child = os.fork()
    if child == 0:
        status = 1
        try:
            theirs = asyncio.run(layer.new_channel())
            with pytest.raises(InvalidChannel):
                asyncio.run(layer.receive(name))
            status = int(pipe_of(theirs)[0] == pipe_of(name)[0])
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    asyncio.run(layer.send(name, {"type": "x"}))
    assert asyncio.run(layer.receive(name)) == {"type": "x"}


def test_memory_forgets_members_whose_time_is_over() -> None:
    store = MemoryStore()
    store.groups = {"gone": {"a": 1.0, "b": 2.0}, "here": {"a": 1.0, "c": float("inf")}}
    for _ in range(SWEEP_EVERY):
        store.append("channel", b"", 10_000, 60)
    assert store.groups == {"here": {"c": float("inf")}}


def test_a_link_that_is_closed_fails_what_is_under_way() -> None:
    """After a failover the first answer closes it, and those who wait for others must not wait for ever."""
    wire: Any = Wire()

    async def run() -> None:
        stream = Stream(wire, asyncio.get_running_loop(), 60, lambda words: None, lambda stream: None)
        calls = [stream.call(("PING",)) for _ in range(3)]
        stream.close()
        for call in [*calls, stream.call(("PING",))]:
            async with asyncio.timeout(60):
                with pytest.raises(Broken):
                    await call

    asyncio.run(run())
    assert wire.closed == 1


def test_what_is_opened_for_nobody_is_closed() -> None:
    wire: Any = Wire()
    begun: list[bool] = []

    async def run() -> None:
        go = asyncio.Event()
        loop = asyncio.get_running_loop()

        def open_() -> Any:
            loop.call_soon_threadsafe(begun.append, True)
            asyncio.run_coroutine_threadsafe(go.wait(), loop).result()
            return wire

        opening = asyncio.ensure_future(opened(open_))
        while not begun:
            await asyncio.sleep(0.01)
        opening.cancel()
        await asyncio.wait([opening])
        go.set()

    asyncio.run(run())
    until(lambda: wire.closed == 1, "it is closed")


class Thing:
    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Deaf:
    """A loop whose methods cannot be replaced. `meanwhile` is what other threads do while it is looked at."""

    def __init__(self, *, closed: bool) -> None:
        self._closed = closed
        self.meanwhile: list[Any] = []

    __slots__ = ("_closed", "meanwhile")

    def close(self) -> None:
        self._closed = True

    def is_closed(self) -> bool:
        for what in self.meanwhile:
            what()
        return self._closed


def test_threads_make_and_sweep_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    by_loop = ByLoop(Thing)

    def here(loop: Any) -> Thing:
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
        return by_loop.here()

    gone: Any = Deaf(closed=True)
    alive: Any = Deaf(closed=False)
    further: Any = Deaf(closed=False)
    left = here(gone)
    gone.meanwhile = [lambda: by_loop._made.setdefault(further, Thing(further))]
    here(alive)
    assert left.closed == 1
    assert set(by_loop._made) == {alive, further}


def test_a_loop_that_is_used_again_and_again_is_watched_once() -> None:
    """A session-wide loop of a test suite closes its pools after each test."""
    by_loop = ByLoop(Thing)
    made: list[Thing] = []

    async def run() -> None:
        for _ in range(3000):
            made.append(by_loop.here())
            assert by_loop.pop_here() is made[-1]
        made.append(by_loop.here())

    asyncio.run(run())
    assert made[-1].closed == 1
    assert len(by_loop) == 0
