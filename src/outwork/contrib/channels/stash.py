"""Messages that this process has in hand for its own channels, and who waits for them, in whichever event loop."""

from __future__ import annotations

import threading
from asyncio import AbstractEventLoop, Future, get_running_loop
from collections import deque
from time import monotonic
from typing import Final, NamedTuple

SWEEP_EVERY: Final = 1024
"""Messages after which those are thrown away that nobody came for in time: the consumer may have gone."""


class Waiter(NamedTuple):
    """A receiver, and the loop in which it waits."""

    loop: AbstractEventLoop
    future: Future[bytes]


class Kept(NamedTuple):
    """A message's body, and until when (monotonic) it is of use."""

    until: float
    body: bytes


class Stash:
    """Thread-safe. A channel that is not read keeps its newest `room` messages, each for `expiry` seconds."""

    def __init__(self, expiry: float) -> None:
        self._expiry = expiry
        self._lock = threading.Lock()
        self._kept: dict[str, deque[Kept]] = {}
        self._waiting: dict[str, deque[Waiter]] = {}
        self._puts = 0

    def take(self, channel: str) -> bytes | None:
        """The first message, if there is one."""
        with self._lock:
            return self._pop(channel)

    def wait(self, channel: str, waiter: Waiter) -> bytes | None:
        """The first message; or else the waiter is put in the line of those who wait."""
        with self._lock:
            body = self._pop(channel)
            if body is None:
                self._waiting.setdefault(channel, deque()).append(waiter)
            return body

    def leave(self, channel: str, waiter: Waiter) -> None:
        """The waiter does not wait any more. A message that it was given meanwhile goes to the next one."""
        with self._lock:
            line = self._waiting.get(channel)
            if line is not None and waiter in line:
                line.remove(waiter)
                if not line:
                    del self._waiting[channel]
        future = waiter.future
        if future.done() and not future.cancelled() and future.exception() is None:
            self.put(channel, future.result(), room=None, first=True)

    def put(self, channel: str, body: bytes, *, room: int | None, first: bool = False) -> bool:
        """Give the message to who waits for it, or keep it (`first`: before the others). Whether nobody waited."""
        while True:
            with self._lock:
                line = self._waiting.get(channel)
                if not line:
                    self._keep(channel, body, room, first)
                    return True
                waiter = line.popleft()
                if not line:
                    del self._waiting[channel]
            if self._hand(channel, waiter, body):
                return False

    def _hand(self, channel: str, waiter: Waiter, body: bytes) -> bool:
        try:
            if running_loop() is waiter.loop:
                if waiter.future.done():
                    return False
                waiter.future.set_result(body)
            else:
                waiter.loop.call_soon_threadsafe(self._hand_there, channel, waiter, body)
        except RuntimeError:  # its loop was closed
            return False
        return True

    def _hand_there(self, channel: str, waiter: Waiter, body: bytes) -> None:
        if waiter.future.done():
            self.put(channel, body, room=None, first=True)
        else:
            waiter.future.set_result(body)

    def _pop(self, channel: str) -> bytes | None:
        kept = self._kept.get(channel)
        while kept:
            until, body = kept.popleft()
            if not kept:
                del self._kept[channel]
            if until > monotonic():
                return body
        return None

    def _keep(self, channel: str, body: bytes, room: int | None, first: bool) -> None:
        now = monotonic()
        kept = self._kept.setdefault(channel, deque())
        if first:
            kept.appendleft(Kept(now + self._expiry, body))
        else:
            kept.append(Kept(now + self._expiry, body))
        while room is not None and len(kept) > room:
            kept.popleft()
        self._puts += 1
        if self._puts % SWEEP_EVERY == 0:
            for name in [name for name, line in self._kept.items() if line[-1].until <= now]:
                del self._kept[name]

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()


def running_loop() -> AbstractEventLoop | None:
    """The event loop of this thread, if one runs."""
    try:
        return get_running_loop()
    except RuntimeError:
        return None
