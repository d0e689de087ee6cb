"""FastAPI: a lifespan, and `BackgroundTasks` that outlive the process.

    from outwork.contrib.fastapi import BackgroundTasks, lifespan

    app = FastAPI(lifespan=lifespan)

    @app.post("/packages")
    async def upload(name: str, background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(index, name)          # index is a @task: it is enqueued

Dependencies are given to tasks by `outwork.provided`, or as in a path operation: `session: Session = Depends(...)`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import Annotated, Final

from outwork.errors import MissingDriver

if find_spec("fastapi") is None:
    raise MissingDriver("outwork.contrib.fastapi needs FastAPI:  pip install 'fastapi>=0.121'")

import fastapi

from outwork.contrib.starlette import BackgroundTasks as StarletteBackgroundTasks
from outwork.contrib.starlette import Lifespan, lifespan, lifespan_of

__all__ = ["BackgroundTasks", "Lifespan", "lifespan", "lifespan_of"]

if "scope" not in inspect.signature(fastapi.Depends).parameters:
    raise MissingDriver("outwork.contrib.fastapi needs a later FastAPI:  pip install 'fastapi>=0.121'")


async def _of_request(after: fastapi.BackgroundTasks) -> AsyncIterator[StarletteBackgroundTasks]:
    """The tasks of a request, one object for all that ask for them. When its path operation has returned well, and
    before the response leaves, durable jobs are enqueued; the rest is done after it."""
    tasks = StarletteBackgroundTasks()
    after.add_task(tasks)
    yield tasks
    await tasks.keep()


_KEPT: Final = fastapi.Depends(_of_request, scope="function")

BackgroundTasks = Annotated[StarletteBackgroundTasks, _KEPT]
"""The annotation of a parameter of a path operation, as FastAPI's own class of this name. Who gets a response can rely
on the jobs: they were durable before it was sent. If the broker is away the answer is an error instead."""
