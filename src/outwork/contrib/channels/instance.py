"""One run of an ASGI application for a channel: messages are handed to it one after the other.

A message counts as handled when the application asks for the next one, or ends: Channels' consumers do the first after
each handler, a plain application often does the second.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, Task
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class Unread(Exception):
    """The application ended without asking for the message."""


class Instance:
    """Made for one message, and used for further ones while it lives."""

    def __init__(self, application: Application, channel: str) -> None:
        self._application = application
        self._scope: Scope = {"type": "channel", "channel": channel}
        self._next: asyncio.Queue[dict[str, Any]] = asyncio.Queue(1)
        self._handled: Future[None] | None = None
        self._has_one = False
        self._failure: BaseException | None = None
        self._task: Task[None] = asyncio.create_task(self._live())
        self._stopping = False

    @property
    def alive(self) -> bool:
        """Whether it takes a further message."""
        return not self._task.done() and not self._stopping

    async def handle(self, message: dict[str, Any]) -> None:
        """Hand it a message, and wait until that is handled. Raises what the application raises, also what would end
        a process; Unread."""
        self._handled = asyncio.get_running_loop().create_future()
        self._has_one = False
        self._next.put_nowait(message)
        try:
            await asyncio.wait([self._task, self._handled], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._handled.cancel()
        if not self._task.done():
            return
        if self._failure is not None:
            raise self._failure
        if not self._next.empty():
            raise Unread("the application ended without receiving the message")

    async def stop(self) -> None:
        """End it, whatever it does."""
        self._stopping = True
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _live(self) -> None:
        """Nothing that the application raises may end this process: SystemExit would, from a task."""
        try:
            await self._application(self._scope, self._receive, self._send)
        except BaseException as error:
            if self._stopping:
                raise
            self._failure = error

    async def _receive(self) -> dict[str, Any]:
        if self._has_one and self._handled is not None and not self._handled.done():
            self._handled.set_result(None)
        message = await self._next.get()
        self._has_one = True
        return message

    async def _send(self, message: Any) -> None:
        raise RuntimeError("a channel worker has nobody to send to: use the channel layer")
