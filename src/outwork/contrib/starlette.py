"""Starlette: a lifespan that starts and drains the embedded worker, and background tasks that outlive the process.

    from outwork.contrib.starlette import BackgroundTasks, lifespan

    app = Starlette(routes=..., lifespan=lifespan)

For FastAPI see `outwork.contrib.fastapi`, which has the same names.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from typing import Any, Final, ParamSpec, TypeAlias

from outwork import app as applications
from outwork.app import Outwork
from outwork.errors import MissingDriver
from outwork.task import Call, Task

if find_spec("starlette") is None:
    raise MissingDriver("outwork.contrib.starlette needs Starlette:  pip install starlette")

from starlette import background

__all__ = ["BackgroundTasks", "Lifespan", "lifespan", "lifespan_of"]

logger = logging.getLogger("outwork")

P = ParamSpec("P")

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]


def lifespan_of(tasks: Outwork | None = None, inner: Lifespan | None = None) -> Lifespan:
    """A lifespan for Starlette, FastAPI or any ASGI framework with such context managers.

    `tasks` is the application whose jobs are run (None: that of bare `@task`), `inner` a lifespan of your own: what it
    opens is there while jobs run, and its state is passed on. At start-up the broker is made, so that a wrong setting
    stops the server, and an embedded worker is started on the server's event loop; at shutdown it is drained, what
    waits to be sent is sent, and connections are closed.
    """

    @asynccontextmanager
    async def run(app: Any) -> AsyncIterator[Any]:
        queue = tasks or applications.default_app
        queue.hold_worker()  # what is enqueued while the application starts waits until it has started
        try:
            async with AsyncExitStack() as stack:
                state = None if inner is None else await stack.enter_async_context(inner(app))
                await asyncio.to_thread(lambda: queue.broker)
                queue.release_worker()
                queue.start_worker(asyncio.get_running_loop(), serving=True)
                stack.push_async_callback(asyncio.to_thread, queue.stop_worker)
                yield state
        finally:
            queue.release_worker()
            await asyncio.to_thread(queue.close)

    return run


lifespan: Final = lifespan_of()
"""That of the tasks of bare `@task`. To compose it by hand:  async with lifespan(app): ..."""


class BackgroundTasks(background.BackgroundTasks):
    """As Starlette's: the response first, then the work. A function that is a task is enqueued instead: with a durable
    broker its job outlives the process, and is tried again. Its arguments are checked by `add_task`.

    Where it is the `background` of a response, jobs are enqueued after that was sent; `await tasks.keep()` enqueues
    what is durable at once, so that nobody gets the response before the jobs are safe.
    """

    def add_task(self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run `func` after the response. Raises a subclass of EnqueueError for arguments that a task cannot have."""
        if isinstance(func, Task):
            self.tasks.append(_Job(func.call_of(args, kwargs)))
            return
        _say_once(func)
        super().add_task(func, *args, **kwargs)

    async def keep(self) -> None:
        """Enqueue the jobs whose broker is durable now. Raises BrokerUnavailable."""
        for job in [one for one in self.tasks if isinstance(one, _Job) and one.durable]:
            await job()
            self.tasks.remove(job)


class _Job(background.BackgroundTask):
    """A job to enqueue."""

    def __init__(self, call: Call[Any]) -> None:
        super().__init__(call.aenqueue)
        self._call = call

    @property
    def durable(self) -> bool:
        app = self._call.task.app
        return isinstance(app, Outwork) and app.broker.capabilities.durable


_said: Final[set[str]] = set()


def _say_once(func: Callable[..., Any]) -> None:
    """That this work ends with the process: once for each function."""
    name = f"{getattr(func, '__module__', '?')}.{getattr(func, '__qualname__', func)}"
    if name not in _said:
        _said.add(name)
        logger.info(
            "%s is not a task: it runs in this process, once, and is lost with it. Decorate it with @task", name
        )
