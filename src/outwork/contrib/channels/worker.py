"""The worker: feeds the messages of fixed channels to an ASGI application.

Each channel has lanes, one unless more are asked for; a lane handles one message after the other, so with one lane they
are handled in their order. No more is taken from the layer than the lanes have in hand and will have within 50 ms, as
far as can be told from the last ones: what is unread stays in the layer, where it counts, and where others can have it.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Task
from collections import deque
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from outwork.contrib.channels.instance import Application, Instance
from outwork.contrib.channels.layer import Message, OutworkChannelLayer
from outwork.contrib.channels.names import check_fixed
from outwork.errors import BrokerFull, BrokerUnavailable, SettingsError

if TYPE_CHECKING:
    from outwork.contrib.channels.durable import Jobs

logger = logging.getLogger("outwork.channels")

GRACE: Final = 25.0
AHEAD: Final = 0.05
"""Seconds for which messages are taken ahead."""
MOST_AHEAD: Final = 64
ATTEND_EVERY: Final = 10.0


class Summary(Struct, frozen=True):
    """What a worker did. `abandoned`: messages whose handlers had not ended when the time was over."""

    handled: int
    failed: int
    abandoned: int


class Feed:
    """One channel: what was taken and not begun, and the lanes."""

    def __init__(self, worker: ChannelWorker, channel: str, lanes: int) -> None:
        self.channel = channel
        self.lanes = lanes
        self.busy = 0
        self.handled = 0
        self.failed = 0
        self.ahead: deque[Message] = deque()
        self._worker = worker
        self._seconds = 1.0
        self._come = asyncio.Event()
        self._gone = asyncio.Event()
        self._instances: set[Instance] = set()

    async def take(self) -> None:
        """Keep the lanes supplied, for ever. What is cancelled while it waits has taken nothing."""
        layer = self._worker.layer
        while True:
            room = self.lanes - self.busy + self._may_wait() - len(self.ahead)
            if room <= 0:
                self._gone.clear()
                await self._gone.wait()
                continue
            self.ahead.extend(await layer.receive_many(self.channel, room))
            self._come.set()

    async def run_lane(self) -> None:
        """Handle one message after the other."""
        instance: Instance | None = None
        while True:
            while not self.ahead:
                self._come.clear()
                await self._come.wait()
            message = self.ahead.popleft()
            self.busy += 1
            try:
                instance = await self._handle(instance, message)
            finally:
                self.busy -= 1
                self._gone.set()

    async def stop(self) -> None:
        """End what the lanes run."""
        for instance in list(self._instances):
            await instance.stop()

    def _may_wait(self) -> int:
        return min(MOST_AHEAD, int(AHEAD / max(self._seconds, 1e-6)) * self.lanes)

    async def _handle(self, instance: Instance | None, message: Message) -> Instance | None:
        """The instance, if the next message may go to it. What the application raises costs this message only."""
        kind = message.get("type")
        if not isinstance(kind, str) or not kind:
            self.failed += 1
            logger.error("a message of %s has no type (it is %s), and is thrown away", self.channel, _name(kind))
            return instance
        if instance is None or not instance.alive:
            instance = Instance(self._worker.application, self.channel)
            self._instances.add(instance)
        begun = monotonic()
        try:
            await instance.handle(message)
            self.handled += 1
        except asyncio.CancelledError:
            if self._worker.stopping:
                raise
            self._failed(kind, None)
        except BaseException as error:  # noqa: BLE001 - SystemExit of a handler must not end the worker
            self._failed(kind, error)
        self._seconds += (monotonic() - begun - self._seconds) * 0.2
        if instance.alive:
            return instance
        self._instances.discard(instance)
        return None

    def _failed(self, kind: str, error: BaseException | None) -> None:
        self.failed += 1
        said = "its handler was cancelled" if error is None else f"{type(error).__name__}: {error}"
        logger.error("message %s of %s failed, and is lost: %s", kind[:100], self.channel, said, exc_info=error)


class ChannelWorker:
    """Handles the messages of `channels`, each with its number of lanes, until it is stopped. For one event loop."""

    def __init__(
        self,
        application: Application,
        layer: OutworkChannelLayer,
        channels: Mapping[str, int],
        *,
        grace: float = GRACE,
    ) -> None:
        if not channels:
            raise SettingsError("no channel is named. Write the names of those to read:  thumbnails-generate")
        for channel, lanes in channels.items():
            check_fixed(channel)
            if lanes < 1:
                raise SettingsError(f"{channel}:{lanes}: at least one message at once has to be allowed")
        self.application = application
        self.layer = layer
        self.stopping = False
        self._channels = dict(channels)
        self._grace = grace
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    def stop(self) -> None:
        """Take nothing more, let the handlers end, put the rest back. The second time: do not let them end."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def run(self) -> Summary:
        """Returns when it was stopped. Raises BrokerRefused, and what else no waiting would mend."""
        durable = self.layer.durable
        jobs = None if durable is None else durable.jobs(self.application, self._channels, self._grace)
        feeds = [Feed(self, channel, lanes) for channel, lanes in self._channels.items()]
        takers = [asyncio.create_task(feed.take()) for feed in feeds]
        lanes = [asyncio.create_task(feed.run_lane()) for feed in feeds for _ in range(feed.lanes)]
        attending = asyncio.create_task(self._attend())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([stopping, *takers], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end([attending, stopping, *takers])
            await asyncio.gather(*(self._give_back(feed) for feed in feeds))
            abandoned = await self._let_end(feeds, jobs)
            self.stopping = True
            await _end(lanes)
            for feed in feeds:
                await feed.stop()
        for taker in takers:
            if not taker.cancelled():
                taker.result()
        done, failed = (0, 0) if jobs is None else (jobs.done, jobs.failed)
        return Summary(
            sum(feed.handled for feed in feeds) + done, sum(feed.failed for feed in feeds) + failed, abandoned
        )

    async def _attend(self) -> None:
        """Say that the channels are read, however busy their lanes are."""
        while True:
            try:
                await self.layer.attend(list(self._channels))
            except (BrokerUnavailable, BrokerFull) as error:
                logger.debug("%s", error)  # whoever takes says it
            await asyncio.sleep(ATTEND_EVERY)

    async def _give_back(self, feed: Feed) -> None:
        unread = list(feed.ahead)
        feed.ahead.clear()
        if unread:
            await self.layer.put_back(feed.channel, unread)
            logger.info("%d messages of %s were put back", len(unread), feed.channel)

    async def _let_end(self, feeds: list[Feed], jobs: Jobs | None) -> int:
        """Wait for the handlers that run; how many did not end in time."""
        ending = None if jobs is None else asyncio.create_task(jobs.stop())
        until = monotonic() + self._grace
        while any(feed.busy for feed in feeds) and monotonic() < until and not self._hurry.is_set():
            await asyncio.sleep(0.01)
        if ending is not None and jobs is not None:
            hurry = asyncio.create_task(self._hurry.wait())
            await asyncio.wait([ending, hurry], return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                jobs.hurry()
            await _end([hurry])
            await ending
        abandoned = sum(feed.busy for feed in feeds)
        if abandoned:
            logger.error("%d messages were still being handled when the time was over, and are lost", abandoned)
        return abandoned


async def _end(tasks: list[Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _name(kind: object) -> str:
    return "missing" if kind is None else f"of type {type(kind).__name__}" if not isinstance(kind, str) else "empty"
