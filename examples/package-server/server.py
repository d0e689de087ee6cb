"""The web application."""

from __future__ import annotations

import sqlite3
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException

from outwork.contrib.fastapi import BackgroundTasks, lifespan_of
from outwork.errors import JobNotFound
from packages import index, open_session, synchronise, tasks

app = FastAPI(lifespan=lifespan_of(tasks))


@app.post("/packages/{name}/{version}", status_code=202)
def upload(name: str, version: str, background_tasks: BackgroundTasks) -> None:
    background_tasks.add_task(index, name, version)


@app.get("/packages")
def show(session: Annotated[sqlite3.Connection, Depends(open_session)]) -> list[str]:
    return [" ".join(row) for row in session.execute("select name, version from packages order by name")]


@app.post("/sync/{channel}", status_code=202)
async def sync(channel: str) -> dict[str, str]:
    return {"job": (await synchronise.aenqueue(channel)).id}


@app.get("/jobs/{job_id}")
async def job(job_id: str) -> dict[str, str]:
    try:
        return {"state": (await tasks.aget_result(job_id)).state}
    except JobNotFound as error:
        raise HTTPException(404, str(error)) from error
