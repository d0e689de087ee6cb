"""The executor: code written on `concurrent.futures` runs as it is, on every broker that keeps results."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contrib import sums
from outwork import Outwork, TaskFailed
from outwork.contrib.futures import CALL, Executor
from outwork.errors import NotImportable, NotSerializable, Unsupported, WrongArguments
from support.place import Place, place_in
from support.redis_server import RedisServer
from support.waiting import until

MODULES = ["contrib.sums"]
PATIENCE = 60.0


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger"))
    return tmp_path / "gate"


@pytest.fixture
def executor() -> Iterator[Executor]:
    with Executor("thread:?concurrency=2", modules=MODULES) as executor:
        yield executor


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with place_in(tmp_path) as place:
        yield place


@pytest.mark.parametrize("url", ["immediate:", "thread:", "sqlite:///{}/tasks.db?embedded=true"])
def test_what_every_executor_does(url: str, tmp_path: Path) -> None:
    with Executor(url.format(tmp_path), modules=MODULES) as executor:
        future = executor.submit(sums.add, 1, y=2)
        assert future.result(PATIENCE) == 3
        assert future.done()
        assert not future.cancel()
        assert not future.running()
        assert executor.submit(sums.add, 1).result(PATIENCE) == 11
        assert executor.submit(sums.nothing).result(PATIENCE) is None
        assert executor.submit(sums.decorated, 3).result(PATIENCE) == -3
        moment = datetime(2030, 5, 17, tzinfo=UTC)
        assert executor.submit(sums.later, moment, 3).result(PATIENCE) == moment.replace(day=20)
        assert list(executor.map(sums.add, range(5), range(5))) == [0, 2, 4, 6, 8]
        assert list(executor.map(sums.add, [])) == []
        error = executor.submit(sums.fail, "no").exception(PATIENCE)
        assert isinstance(error, TaskFailed)
        assert "ValueError: no" in str(error)
        assert "in fail" in str(error)  # the traceback in the worker
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(sums.add, 1)


def test_row_Q3_processes(place: Place) -> None:
    """Written on ProcessPoolExecutor, with another import: child processes, and a crash of one fails one future."""
    place.write(
        "program.py",
        """
import os
from concurrent.futures import as_completed, wait
from contrib import sums
from outwork.contrib.futures import Executor

with Executor("process:?children=2", modules=["contrib.sums"]) as executor:
    assert executor.submit(sums.where).result(30) != os.getpid()
    spinning = [executor.submit(sums.spin, number) for number in range(20)]
    crash = executor.submit(sums.crash)
    more = [executor.submit(sums.spin, number) for number in range(20, 40)]
    assert [future.result(30) for future in [*spinning, *more]] == [sums.spin(number) for number in range(40)]
    print(type(crash.exception(30)).__name__, crash.exception())
    assert set(as_completed(spinning)) == set(spinning)
    assert wait(more).not_done == set()
print("well")
""",
    )
    said = place.run("program")
    assert "TaskFailed" in said
    assert "OW154" in said
    assert said.endswith("well\n")


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_row_Q3_workers_elsewhere(place: Place, tmp_path: Path, kind: str) -> None:
    """A worker for nothing but executors, told by the environment which modules are allowed."""
    server = RedisServer(tmp_path / "redis") if kind == "redis" else None
    try:
        url = server.url() if server else f"sqlite:///{tmp_path}/tasks.db"
        environ = {"OUTWORK_BROKER_URL": url, "OUTWORK_MODULES": "contrib.sums"}
        worker = place.worker("outwork", "worker", "outwork.contrib.futures", **environ).ready()
        with Executor(url, modules=MODULES) as executor:
            assert executor.submit(sums.where).result(PATIENCE) in worker.worker_pids()
            assert list(executor.map(sums.add, range(300))) == [number + 10 for number in range(300)]
        assert worker.stop() == 0
    finally:
        if server is not None:
            server.stop()


def test_row_Q3_a_worker_runs_what_it_allows_and_nothing_else(place: Place, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tasks.db"
    worker = place.worker("outwork", "worker", "outwork.contrib.futures", OUTWORK_BROKER_URL=url).ready()
    with Executor(url, modules=MODULES) as executor:
        error = executor.submit(sums.add, 1).exception(PATIENCE)
        assert "contrib.sums:add may not be run: the module is not allowed (allowed: none)" in str(error)
    assert worker.stop() == 0


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("os:system", "the module is not allowed"),
        ("contrib.sums:system", "is not a function that this module defines"),
        ("contrib.sums:Path.unlink", "is not a function that this module defines"),
        ("contrib.sums:ledger.write", "is not a function that this module defines"),
        ("contrib.sums:missing", "is not a function that this module defines"),
        ("contrib.sums:datetime", "is not a function that this module defines"),
        ("contrib", "the module is not allowed"),
    ],
)
def test_a_path_that_came_over_the_wire(path: str, expected: str) -> None:
    app = Outwork("immediate:")
    Executor(app, modules=MODULES)
    result = app.tasks[CALL].enqueue(path, msgspec.Raw(b"{}"))
    with pytest.raises(TaskFailed, match=f"OW106.*{expected}"):
        result.get()


@pytest.mark.parametrize(
    ("fn", "args", "error", "expected"),
    [
        (lambda: 1, (), NotImportable, "cannot be named to a worker"),
        (sums.coroutine, (), NotImportable, "cannot be named to a worker"),
        (sums.logged(lambda: 1), (), NotImportable, "cannot be named to a worker"),
        (os.getpid, (), NotImportable, r"may not be run: the module is not allowed \(allowed: contrib.sums\)"),
        (sums.add, (), WrongArguments, "missing a required argument"),
        (sums.add, ("1",), NotSerializable, "Expected `int`, got `str`"),
        (sums.add, (object(),), NotSerializable, "argument x is a object"),
    ],
)
def test_what_cannot_travel_is_refused_at_the_call(
    executor: Executor, fn: Callable[..., Any], args: tuple[Any, ...], error: type[Exception], expected: str
) -> None:
    with pytest.raises(error, match=expected):
        executor.submit(fn, *args)
    with pytest.raises(error, match=expected):
        list(executor.map(fn, *([argument] for argument in args or [None])) if args else [executor.submit(fn)])


def test_a_function_that_was_replaced_is_refused(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    original = sums.add
    monkeypatch.setattr(sums, "add", lambda x: x)
    with pytest.raises(NotImportable):
        executor.submit(original, 1)


def test_cancel_running_and_callbacks(executor: Executor, gate: Path) -> None:
    running = [executor.submit(sums.gated, f"key-{number}", str(gate)) for number in range(2)]
    until(lambda: all(future.running() for future in running), "both at work")
    waiting = executor.submit(sums.gated, "waiting", str(gate))
    called: list[futures.Future[str]] = []
    waiting.add_done_callback(called.append)
    assert not running[0].cancel()
    assert waiting.cancel()
    assert waiting.cancelled()
    assert called == [waiting]
    assert futures.wait([waiting], PATIENCE).done == {waiting}
    with pytest.raises(futures.CancelledError):
        waiting.result()
    finished = threading.Event()
    running[0].add_done_callback(lambda future: finished.set())
    gate.touch()
    assert finished.wait(PATIENCE)
    assert [future.result(PATIENCE) for future in running] == ["key-0", "key-1"]
    assert "waiting" not in Path(os.environ["LEDGER"]).read_text()


def test_a_callback_may_wait_for_another_future(executor: Executor) -> None:
    seen: list[int] = []
    done = threading.Event()

    def chain(future: futures.Future[int]) -> None:
        seen.append(executor.submit(sums.add, future.result(), 1).result(PATIENCE))
        done.set()

    executor.submit(sums.add, 1, 1).add_done_callback(chain)
    assert done.wait(PATIENCE)
    assert seen == [3]


def test_a_map_with_a_timeout_cancels_the_rest(executor: Executor, gate: Path) -> None:
    results = executor.map(sums.gated, [f"key-{number}" for number in range(4)], [str(gate)] * 4, timeout=0.2)
    with pytest.raises(TimeoutError):
        list(results)
    gate.touch()
    executor.shutdown()
    assert "key-3" not in Path(os.environ["LEDGER"]).read_text()


def test_shutdown(gate: Path) -> None:
    executor = Executor("thread:?concurrency=1", modules=MODULES)
    first = executor.submit(sums.gated, "first", str(gate))
    until(first.running, "the first at work")
    second = executor.submit(sums.add, 1)
    third = executor.submit(sums.add, 2)
    executor.shutdown(wait=False)
    assert not first.done()
    gate.touch()
    assert (first.result(PATIENCE), second.result(PATIENCE), third.result(PATIENCE)) == ("first", 11, 12)


def test_shutdown_that_cancels(gate: Path) -> None:
    executor = Executor("thread:?concurrency=1", modules=MODULES)
    first = executor.submit(sums.gated, "first", str(gate))
    until(first.running, "the first at work")
    second = executor.submit(sums.add, 1)
    executor.shutdown(wait=False, cancel_futures=True)
    assert second.cancelled()
    gate.touch()
    assert first.result(PATIENCE) == "first"


def test_a_task_may_be_submitted_too() -> None:
    app = Outwork("immediate:")
    double = app.task(name="double")(twice)
    with Executor(app) as executor:
        future = executor.submit(double, 3)
        assert future.result(PATIENCE) == 6
        assert future.job.task_name == "double"
        assert list(executor.map(double, [1, 2])) == [2, 4]


def twice(number: int) -> int:
    return 2 * number


def test_the_options_of_an_executor() -> None:
    app = Outwork("immediate:")
    with Executor(app, modules=MODULES, queue_name="heavy", priority=-5) as executor:
        future = executor.submit(sums.add, 1)
        assert (future.job.queue_name, future.job.priority, future.job.task_name) == ("heavy", -5, CALL)


def test_results_survive_a_restart_of_the_broker(place: Place, tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", appendonly="yes", appendfsync="always")
    try:
        environ = {"OUTWORK_BROKER_URL": server.url(), "OUTWORK_MODULES": "contrib.sums"}
        worker = place.worker("outwork", "worker", "outwork.contrib.futures", **environ).ready()
        with Executor(server.url(), modules=MODULES) as executor:
            future = executor.submit(sums.gated, "key", str(tmp_path / "gate"))
            until(lambda: place.ledger.count("S", "key"), "the start")
            server.stop()
            server.start()
            (tmp_path / "gate").touch()
            assert future.result(PATIENCE) == "key"
        assert worker.stop() == 0
    finally:
        server.stop()


def test_a_broker_without_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is enqueued there."""

    def nothing(app: Outwork) -> None:
        raise Unsupported("keeps no results")

    app = Outwork("dummy:")
    with monkeypatch.context() as patched, Executor(app, modules=MODULES) as executor:
        patched.setattr(Outwork, "store", property(nothing))
        with pytest.raises(Unsupported):
            executor.submit(sums.add, 1)
    assert app.store.counts() == []
