"""Channels whose messages are jobs: at least once, with retries, on a broker of Outwork.

A message sent to such a channel is durable when `send` returns, does not expire and needs no capacity. A worker that
serves the channel runs it as a job: when the handler raises, or its worker dies, it is handled again, as the retry
policy says; when that gives up, the job is found FAILED in `outwork jobs`.
"""

from __future__ import annotations

import asyncio
import threading
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from outwork import Outwork, Retry, Snooze, default_app
from outwork.contrib.channels.instance import Application, Instance
from outwork.contrib.channels.names import check_fixed
from outwork.errors import NoBroker, Undecodable
from outwork.worker.plan import Plan, Summary
from outwork.worker.worker import Worker

TASK: Final = "outwork.channels.handle"
ELSEWHERE: Final = 1.0
"""Seconds after which a job is looked at again that came to a worker which does not serve its channel."""

Handler = Callable[[str, bytes], Awaitable[None]]


class DurableChannels:
    """The at-least-once channels of a layer. `broker_url` None: the broker of the default application."""

    def __init__(
        self, channels: Sequence[str], broker_url: str | None, decode: Callable[[bytes], dict[str, Any]]
    ) -> None:
        self.channels = frozenset(check_fixed(channel) for channel in channels)
        self.app = default_app if broker_url is None else Outwork(broker_url=broker_url)
        self._decode = decode
        self._task = self.app.tasks.get(TASK) or self.app.task(name=TASK, retry=Retry())(handle)

    async def send(self, channel: str, body: bytes) -> None:
        """Raises NoBroker, BrokerUnavailable, and whatever else an enqueue raises."""
        self._check([channel])
        await self._task.using(queue_name=queue_of(channel)).aenqueue(channel, body)

    def jobs(self, application: Application, channels: Mapping[str, int], grace: float) -> Jobs | None:
        """Begin to run the jobs of those of `channels` that are such, in this event loop. Raises NoBroker."""
        limits = {channel: lanes for channel, lanes in channels.items() if channel in self.channels}
        if not limits:
            return None
        self._check(limits)
        for channel in limits:
            _serving[channel] = self._handler(application)
        return Jobs(self.app, limits, grace, asyncio.get_running_loop())

    def _check(self, channels: Iterable[str]) -> None:
        if not self.app.broker.capabilities.shared:
            raise NoBroker(
                f"{', '.join(sorted(channels))}: at_least_once needs a broker that processes share. Set broker_url in "
                "the layer's CONFIG, or OUTWORK_BROKER_URL"
            )

    def _handler(self, application: Application) -> Handler:
        async def run(channel: str, body: bytes) -> None:
            message = self._decode(body)
            if not isinstance(message.get("type"), str):
                raise Undecodable("the message has no type")
            instance = Instance(application, channel)
            try:
                await instance.handle(message)
            finally:
                await instance.stop()

        return run


class Jobs:
    """A worker for these channels' jobs, on a thread; the handlers run in the event loop."""

    def __init__(self, app: Outwork, limits: Mapping[str, int], grace: float, loop: AbstractEventLoop) -> None:
        plan = Plan(
            queues={queue_of(channel): lanes for channel, lanes in limits.items()},
            concurrency=sum(limits.values()),
            grace=grace,
            embedded=True,
        )
        self._channels = tuple(limits)
        self._worker = Worker(app, plan, loop)
        self._summary: Summary | None = None
        self._thread = threading.Thread(target=self._run, name="outwork-channels-jobs", daemon=True)
        self._thread.start()

    @property
    def done(self) -> int:
        return 0 if self._summary is None else self._summary.done

    @property
    def failed(self) -> int:
        return 0 if self._summary is None else self._summary.failed

    def hurry(self) -> None:
        """Do not let them end."""
        self._worker.stop(hurry=True)

    async def stop(self) -> None:
        """Let the running ones end, give the others back."""
        self._worker.stop(hurry=False)
        await asyncio.to_thread(self._thread.join)
        for channel in self._channels:
            _serving.pop(channel, None)

    def _run(self) -> None:
        self._summary = self._worker.run()


async def handle(channel: str, body: bytes) -> None:
    """The task: hand a message to the application that this process serves."""
    handler = _serving.get(channel)
    if handler is None:
        raise Snooze(ELSEWHERE)  # a plain worker that serves all queues: it is not for it
    await handler(channel, body)


def queue_of(channel: str) -> str:
    """The queue of a channel's jobs."""
    return f"channel.{channel}"


_serving: Final[dict[str, Handler]] = {}
"""By channel, what handles its messages in this process."""
