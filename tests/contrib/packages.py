"""A package server in miniature: its own configuration file says where the work that leaves the request is done.

POST /background/TASK?key=K      by background tasks: answers "accepted"
POST /enqueue/TASK?key=K         answers with the job's id
GET  /job/ID                     its state, and what it returned
"""

from __future__ import annotations

import os
import time
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException

from outwork import Outwork, Retry, Task, TaskContext, provided
from outwork.contrib.fastapi import BackgroundTasks, lifespan_of
from support import ledger

config: dict[str, Any] = tomllib.loads(Path(os.environ["PACKAGES_CONFIG"]).read_text())
tasks = Outwork.from_mapping(config.get("outwork") or config.get("worker"))


# ---- what tasks need -------------------------------------------------------------------------------------------------


class Session:
    """A database session."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id


def open_session(context: TaskContext) -> Iterator[Session]:
    ledger.write("S", "session", str(context.attempt))
    try:
        yield Session(context.job_id)
    except BaseException as error:
        ledger.write("E", "session", f"rolled back: {error}")
        raise
    else:
        ledger.write("E", "session", "committed")


async def open_store(config: dict[str, Any]) -> AsyncIterator[str]:
    ledger.write("S", "store")
    yield f"store of {config['name']}"
    ledger.write("E", "store")


def as_a_view_gets_it(session: Annotated[Session, Depends(open_session)]) -> str:
    return f"dao of {type(session).__name__}"


tasks.provide("config", lambda: config)
tasks.provide(Session, open_session)
tasks.provide("store", open_store)


# ---- tasks -----------------------------------------------------------------------------------------------------------


@tasks.task
def index(key: str, session: Session = provided()) -> str:
    ledger.write("S", key)
    assert session.job_id
    return f"indexed {key}"


@tasks.task
def gated(key: str) -> str:
    """Runs until the gate is open."""
    ledger.write("S", key)
    while not Path("gate").exists():
        time.sleep(0.01)
    ledger.write("E", key)
    return key


@tasks.task(retry=None)
def crash(key: str) -> None:
    """Takes its process with it."""
    ledger.write("S", key)
    os._exit(3)


@tasks.task(retry=Retry(max_attempts=2, delay=0.01))
def fail_once(key: str, context: TaskContext = provided(), session: Session = provided()) -> str:
    if context.attempt == 1:
        raise ConnectionError("the channel does not answer")
    return key


@tasks.task
async def by_name(key: str, store, config) -> str:  # type: ignore[no-untyped-def]
    return f"{key} {store} {config['name']}"


@tasks.task
async def as_in_a_view(key: str, dao: str = Depends(as_a_view_gets_it), session: Session = provided()) -> str:
    return f"{key} {dao}"


def not_a_task(key: str) -> None:
    ledger.write("S", key)


TASKS: dict[str, Task[..., Any]] = {
    task.fn.__name__: task for task in (index, gated, crash, fail_once, by_name, as_in_a_view)
}


# ---- the application -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def own_lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    ledger.write("S", "lifespan")
    yield {"opened": "yes"}
    ledger.write("E", "lifespan")


app = FastAPI(lifespan=lifespan_of(tasks, own_lifespan))


@app.post("/background/{name}", status_code=202)
async def in_background(name: str, key: str, background_tasks: BackgroundTasks) -> str:
    if name == "not_a_task":
        background_tasks.add_task(not_a_task, key)
    else:
        background_tasks.add_task(TASKS[name], key)
    if key == "refused":
        raise HTTPException(403)
    return "accepted"


@app.post("/enqueue/{name}", status_code=202)
async def enqueue(name: str, key: str) -> str:
    return (await TASKS[name].aenqueue(key)).id


@app.get("/job/{job_id}")
async def show_job(job_id: str) -> str:
    result = await tasks.aget_result(job_id)
    return f"{result.state} {result.return_value}" if result.state == "SUCCESSFUL" else str(result.state)
