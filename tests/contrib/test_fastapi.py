"""FastAPI and Starlette, and rows Q1 to Q5 of the mission: real servers, workers and requests."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from outwork import Outwork, default_app
from outwork.contrib import starlette as for_starlette
from outwork.contrib.fastapi import BackgroundTasks, lifespan, lifespan_of
from outwork.errors import WrongArguments
from outwork.testing import inline
from support.place import Place, get, place_in, post
from support.redis_server import RedisServer
from support.sites import Site
from support.waiting import until

EXAMPLE = Path(__file__).parents[2] / "examples" / "package-server"
APP = "contrib.packages:app"
TYPES = {
    "no section": "",
    "thread": '[worker]\ntype = "thread"',
    "subprocess": '[worker]\ntype = "subprocess"',
    "redis": '[worker]\ntype = "redis"\nredis_port = PORT\nredis_db = 2',
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place with the configuration of the package server, which says nothing of a worker."""
    with place_in(tmp_path, PACKAGES_CONFIG="config.toml") as place:
        configure(place, "")
        yield place


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis", appendonly="yes", appendfsync="always")
    yield server
    server.stop()


def configure(place: Place, text: str) -> None:
    place.write("config.toml", f'name = "main"\n{text}\n')


def on_file(place: Place, options: str = "") -> None:
    configure(place, f'[outwork]\nbroker_url = "sqlite:///tasks.db{options}"')


def enqueue(site: Site, task: str, key: str) -> str:
    answer = post(site, f"/enqueue/{task}?key={key}")
    assert answer.status == 202, answer
    job_id: str = json.loads(answer.text)
    return job_id


def state(site: Site, job_id: str) -> str:
    text: str = json.loads(get(site, f"/job/{job_id}").text)
    return text


def ended(site: Site, job_id: str) -> str:
    """The state of a job once it has ended."""
    until(lambda: state(site, job_id).split()[0] in ("SUCCESSFUL", "FAILED", "CANCELLED"), f"the end of job {job_id}")
    return state(site, job_id)


def worker_of(place: Place) -> Any:
    return place.worker("outwork", "worker", "contrib.packages:tasks")


# ---- rows Q1 to Q5: a package server ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_row_Q1_the_type_of_the_worker(place: Place, redis: RedisServer, kind: str) -> None:
    """The same task code in the server's process, in its children, and in a worker."""
    configure(place, TYPES[kind].replace("PORT", str(redis.port)))
    site = place.uvicorn(APP)
    worker = worker_of(place).ready() if kind == "redis" else None
    assert post(site, "/background/index?key=background").status == 202
    job_id = enqueue(site, "index", "numpy")
    assert ended(site, job_id) == "SUCCESSFUL indexed numpy"
    until(lambda: place.ledger.count("S", "background"), "the work in the background")
    [pid] = {entry.pid for entry in place.ledger.entries() if entry.key == "numpy"}
    if worker is not None:
        assert pid in worker.worker_pids()
        assert worker.stop() == 0
        assert redis.ask("INFO", "keyspace").keys() == {"db2"}
    elif kind == "subprocess":
        assert pid in site.below()
    else:
        assert pid == site.pid
    assert site.stop() == -SIGTERM  # as uvicorn ends, once all is shut down
    assert "Traceback" not in site.text()


def test_row_Q1_a_wrong_type_names_the_types(place: Place) -> None:
    configure(place, '[worker]\ntype = "proces"')
    said = place.ends(1, "uvicorn", APP, "--port", "0")
    assert "type = 'proces' is not a kind of worker" in said
    assert "thread, subprocess, redis" in said


def test_row_Q2_the_response_first(place: Place) -> None:
    site = place.uvicorn(APP)
    assert post(site, "/background/gated?key=slow").text == '"accepted"'  # and it has not ended, nor can it
    assert post(site, "/background/not_a_task?key=plain").status == 202
    until(lambda: place.ledger.count("S", "slow") and place.ledger.count("S", "plain"), "the start of both")
    assert place.ledger.count("E", "slow") == 0
    place.write("gate", "")
    until(lambda: place.ledger.count("E", "slow"), "the end")
    assert post(site, "/background/index?key=refused").status == 403
    assert site.stop() == -SIGTERM
    assert place.ledger.count("S", "refused") == 0
    assert place.ledger.count("E", "lifespan") == 1


def test_row_Q2_what_was_answered_is_kept(place: Place) -> None:
    """The server is killed the moment its answers are there; another one does the work."""
    on_file(place, "?embedded=true&lease=2")
    site = place.uvicorn(APP)
    for number in range(5):
        assert post(site, f"/background/gated?key=job-{number}").status == 202
    site.process.send_signal(SIGKILL)
    site.wait()
    place.write("gate", "")
    again = place.uvicorn(APP)
    until(lambda: place.ledger.count("E") >= 5, "the end of all five")
    assert set(place.ledger.keys("E")) >= {f"job-{number}" for number in range(5)}
    assert again.stop() == -SIGTERM


def test_row_Q2_no_broker_no_answer(place: Place, redis: RedisServer) -> None:
    """Who gets a good answer can rely on the job; when the broker is away, nobody gets one."""
    configure(place, TYPES["redis"].replace("PORT", str(redis.port)))
    site = place.uvicorn(APP)
    assert post(site, "/background/index?key=x").status == 202
    redis.stop()
    assert post(site, "/background/index?key=y").status == 500
    until(lambda: "OW107" in site.text(), "the reason in the log")


def test_row_Q3_a_crash_fails_that_job_only(place: Place) -> None:
    configure(place, TYPES["subprocess"])
    site = place.uvicorn(APP)
    running = enqueue(site, "gated", "neighbour")
    until(lambda: place.ledger.count("S", "neighbour"), "a neighbour at work")
    assert ended(site, enqueue(site, "crash", "bomb")) == "FAILED"
    assert place.ledger.count("S", "bomb") == 1
    assert ended(site, enqueue(site, "index", "after")) == "SUCCESSFUL indexed after"
    place.write("gate", "")
    assert ended(site, running) == "SUCCESSFUL neighbour"
    assert place.ledger.count("S", "neighbour") == 1
    assert site.stop() == -SIGTERM


def test_row_Q4_a_restart_of_any_part(place: Place, redis: RedisServer) -> None:
    """Redis, both servers and a worker are restarted while jobs run, and another worker is killed. Each job runs once,
    to its end; that of the killed worker is begun again by the next one, and ends once, too."""
    configure(place, TYPES["redis"].replace("PORT", str(redis.port)))
    sites = [place.uvicorn(APP), place.uvicorn(APP)]
    workers = [worker_of(place).ready()]
    jobs = [enqueue(sites[number % 2], "gated", f"job-{number}") for number in range(6)]
    until(lambda: place.ledger.count("S") == 6 + 2, "all at work")  # and two lifespans
    assert state(sites[1], jobs[0]) == "RUNNING"  # seen by the other server, too
    redis.stop()
    redis.start()
    for number in range(2):
        assert sites[number].stop() == -SIGTERM
        sites[number] = place.uvicorn(APP)
    workers[0].signal(SIGTERM)  # finishes what runs
    workers[0].wait_for_line("stopping")
    workers.append(worker_of(place).ready())
    more = enqueue(sites[0], "gated", "later")
    until(lambda: place.ledger.count("S", "later"), "the second worker at work")
    with closing(Outwork(redis.url(path="/2"))) as app:
        workers[1].known(app.broker)
    workers[1].kill_all()
    workers.append(worker_of(place).ready())
    until(lambda: place.ledger.count("S", "later") == 2, "the third worker at work")
    place.write("gate", "")
    assert workers[0].wait() == 0
    for number, job_id in enumerate(jobs):
        assert ended(sites[number % 2], job_id) == f"SUCCESSFUL job-{number}"
    assert ended(sites[1], more) == "SUCCESSFUL later"
    once = {f"job-{number}": 1 for number in range(6)}
    assert place.ledger.keys("S") == once | {"later": 2, "lifespan": 4}
    assert place.ledger.keys("E") == once | {"later": 1, "lifespan": 2}
    assert workers[2].stop() == 0


@pytest.mark.parametrize("kind", ["thread", "subprocess", "redis"])
def test_row_Q5_dependencies(place: Place, redis: RedisServer, kind: str) -> None:
    """By annotation, by name, as in a view; opened and closed around each attempt."""
    configure(place, TYPES[kind].replace("PORT", str(redis.port)))
    site = place.uvicorn(APP)
    worker = worker_of(place).ready() if kind == "redis" else None
    assert ended(site, enqueue(site, "fail_once", "a")) == "SUCCESSFUL a"
    sessions = [(entry.event, entry.note) for entry in place.ledger.entries() if entry.key == "session"]
    assert sessions == [("S", "1"), ("E", "rolled back: the channel does not answer"), ("S", "2"), ("E", "committed")]
    assert ended(site, enqueue(site, "by_name", "b")) == "SUCCESSFUL b store of main main"
    assert (place.ledger.count("S", "store"), place.ledger.count("E", "store")) == (1, 1)
    assert ended(site, enqueue(site, "as_in_a_view", "c")) == "SUCCESSFUL c dao of Session"
    assert place.ledger.count("S", "session") == 3  # one for the attempt, whoever needs it
    if worker is not None:
        assert worker.stop() == 0


# ---- the example -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thread", "subprocess", "redis"])
def test_the_example(tmp_path: Path, redis: RedisServer, kind: str) -> None:
    for path in EXAMPLE.glob("*.*"):
        shutil.copy(path, tmp_path)
    with place_in(tmp_path) as place:
        if kind != "thread":  # which is what its own file says
            place.write("config.toml", TYPES[kind].replace("PORT", str(redis.port)))
        site = place.uvicorn("server:app")
        if kind == "redis":
            place.worker("outwork", "worker", "packages").ready()
        assert post(site, "/packages/numpy/2.0").status == 202
        until(lambda: "numpy 2.0" in get(site, "/packages").text, "the package in the index")
        job_id = json.loads(post(site, "/sync/conda-forge").text)["job"]
        until(lambda: "SUCCESSFUL" in get(site, f"/jobs/{job_id}").text, "the end of the synchronisation")
        assert "scipy 1.14" in get(site, "/packages").text
        assert site.stop() == -SIGTERM


# ---- background tasks, in this process -------------------------------------------------------------------------------


def order_of(broker_url: str, fails: bool = False) -> list[str]:
    """What happens in a request that adds a background task, in order."""
    tasks = Outwork(broker_url)
    said: list[str] = []
    tasks.hooks.before_enqueue(lambda job: said.append("enqueued"))
    work = tasks.task(name="work")(lambda key: said.append(f"ran {key}"))
    app = FastAPI()

    @app.post("/")
    async def view(background_tasks: BackgroundTasks) -> str:
        background_tasks.add_task(work, "a")
        if fails:
            raise RuntimeError("no")
        return "done"

    async def ask() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                said.append("answered")

        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": [], "raw_path": b"/"}
        await app(scope, receive, send)

    try:
        asyncio.run(ask())
        if tasks.broker.runs_in == "embedded":
            until(lambda: "ran a" in said, "the work of the embedded worker")
    except RuntimeError:
        said.append("raised")
    finally:
        tasks.close()
    return said


@pytest.mark.parametrize("url", ["thread:", "immediate:"])
def test_row_Q2_in_memory_the_response_comes_first(url: str) -> None:
    assert order_of(url) == ["answered", "enqueued", "ran a"]
    assert order_of("dummy:") == ["answered", "enqueued"]


def test_row_Q2_with_a_durable_broker_the_job_is_safe_before_the_response(tmp_path: Path) -> None:
    assert order_of(f"sqlite:///{tmp_path}/tasks.db") == ["enqueued", "answered"]


@pytest.mark.parametrize("url", ["thread:", "immediate:", "sqlite:///{}/tasks.db"])
def test_a_view_that_fails_enqueues_nothing(tmp_path: Path, url: str) -> None:
    assert order_of(url.format(tmp_path), fails=True) == ["answered", "raised"]


def test_wrong_arguments_fail_in_the_view() -> None:
    tasks = Outwork()
    work = tasks.task(name="work")(lambda key: key)
    for wrong in ((1, 2), ()):
        with pytest.raises(WrongArguments):
            for_starlette.BackgroundTasks().add_task(work, *wrong)


def test_starlette(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    tasks = Outwork("thread:")
    ran: list[str] = []
    work = tasks.task(name="work")(lambda key: ran.append(key))
    plain: Callable[[str], None] = ran.append

    async def view(request: Any) -> PlainTextResponse:
        background = for_starlette.BackgroundTasks()
        background.add_task(work, "task")
        background.add_task(plain, "plain")
        return PlainTextResponse("hello", background=background)

    app = Starlette(routes=[Route("/", view)], lifespan=lifespan_of(tasks))
    with TestClient(app) as client:
        assert client.get("/").text == "hello"
        assert client.get("/").text == "hello"
        until(lambda: len(ran) == 4, "the work")
    assert sorted(ran) == ["plain", "plain", "task", "task"]
    assert sum("is not a task: it runs in this process" in line for line in caplog.messages) <= 1


def test_async_tasks_run_on_the_loop_of_the_application_while_its_lifespan_lasts() -> None:
    tasks = Outwork("thread:")
    said: list[str] = []
    loops: list[asyncio.AbstractEventLoop] = []

    @tasks.task(name="work")
    async def work() -> None:
        said.append("own" if asyncio.get_running_loop() in loops else "other")

    @asynccontextmanager
    async def inner(app: Any) -> AsyncIterator[dict[str, int]]:
        loops.append(asyncio.get_running_loop())
        await work.aenqueue()
        assert said == []
        yield {"number": 3}
        said.append("closed")

    with TestClient(FastAPI(lifespan=lifespan_of(tasks, inner))) as client:
        assert client.app_state == {"number": 3}
        until(lambda: said, "the job of the start-up")
    assert said == ["own", "closed"]


def test_the_lifespan_of_the_default_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTWORK_BROKER_URL", "dummy:")
    app = FastAPI(lifespan=lifespan)
    with inline(), TestClient(app):
        assert default_app.broker.runs_in == "caller"


def test_a_wrong_setting_stops_the_server(place: Place) -> None:
    configure(place, '[outwork]\nbroker_url = "http://x"')
    assert "no broker for the scheme 'http'" in place.ends(3, "uvicorn", APP, "--port", "0")


def test_without_fastapi(place: Place) -> None:
    for name, package in (("fastapi", "fastapi"), ("starlette", "starlette")):
        place.write("program.py", f"import sys\nsys.modules['{name}'] = None\nimport outwork.contrib.{name}\n")
        assert f"pip install '{package}" in place.ends(1, "program").replace("install star", "install 'star")
