"""A `concurrent.futures.Executor` over any broker that keeps results.

    from outwork.contrib.futures import Executor

    with Executor("process:?children=4", modules=["shop.images"]) as executor:
        future = executor.submit(shop.images.resize, "cat.png", 200)
        sizes = list(executor.map(shop.images.size, paths))

Functions travel by their import path, arguments and results as JSON that is checked by the functions' hints: no pickle.
A worker runs only functions that are defined in a module which was allowed: by the argument `modules`, or by the
setting of this name. A worker for nothing else:  OUTWORK_MODULES=shop.images outwork worker outwork.contrib.futures
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from functools import partial
from importlib import import_module
from time import monotonic
from typing import Any, Final, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from msgspec import Raw

from outwork import app as applications
from outwork.app import Outwork
from outwork.declaring.payload import Payload
from outwork.errors import BrokerUnavailable, NotImportable, OutworkError
from outwork.job import State
from outwork.result import TaskResult
from outwork.task import Call, Task

__all__ = ["Executor", "JobFuture"]

P = ParamSpec("P")
T = TypeVar("T")

CALL: Final = "outwork.call"
"""The name of the one task behind all executors."""
PAUSE: Final = 1.0
"""Seconds before a broker that is away is asked again for results."""

_allowed: Final[WeakKeyDictionary[Outwork, set[str]]] = WeakKeyDictionary()


class JobFuture(futures.Future[T]):
    """The future of a job, `job`. An exception of the function is a TaskFailed with the remote traceback as text."""

    def __init__(self, job: TaskResult[Any], decode: Callable[[Any], T]) -> None:
        super().__init__()
        self.job = job
        self._decode_value = decode
        self._settling = threading.Lock()
        self._settled = False

    def cancel(self) -> bool:
        """Withdraw the job, if it has not begun. Raises BrokerUnavailable."""
        if self.done() or self.running():
            return self.cancelled()
        if self.job.cancel() is not State.CANCELLED:
            return False
        self.settle()
        return self.cancelled()

    def running(self) -> bool:
        """Whether it is running now, as the broker knows."""
        if self.done():
            return False
        self.job.refresh()
        return self.job.state is State.RUNNING

    def settle(self, error: Exception | None = None) -> None:
        """The job has ended; or with `error`: how it ends will not be known. Raises BrokerUnavailable."""
        with self._settling:  # of our threads and of `cancel` one settles; callbacks run outside of the lock
            if self._settled:
                return
            tell = self._end(error)
            self._settled = True
        tell()

    def _end(self, error: Exception | None) -> Callable[[], object]:
        """What is to be told."""
        if error is not None:
            return partial(self.set_exception, error)
        try:
            self.job.refresh()
            if self.job.state is State.CANCELLED:
                return self._tell_cancelled
            return partial(self.set_result, self._decode_value(self.job.return_value))
        except BrokerUnavailable:
            raise
        except OutworkError as problem:
            return partial(self.set_exception, problem)

    def _tell_cancelled(self) -> None:
        super().cancel()
        self.set_running_or_notify_cancel()


class Executor(futures.Executor):
    """Runs functions as jobs: each once, without retries; a job whose worker died is run again.

    `broker` is a URL, an application, or None for the application of bare `@task`; `modules` are those whose functions
    may be run. A task may be submitted as well: it is enqueued as it is, with its own options.
    """

    def __init__(
        self,
        broker: str | Outwork | None = None,
        *,
        modules: Iterable[str] = (),
        queue_name: str | None = None,
        priority: int | None = None,
    ) -> None:
        modules = tuple(modules)
        self._owned = isinstance(broker, str)
        self._app = Outwork(broker, modules=modules) if isinstance(broker, str) else broker or applications.default_app
        _allowed.setdefault(self._app, set()).update(modules)
        self._task = _declare(self._app).using(queue_name=queue_name, priority=priority)
        self._payloads: dict[Callable[..., Any], Payload] = {}
        self._pending: set[futures.Future[Any]] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._waits = True
        self._finisher = futures.ThreadPoolExecutor(2, "outwork-futures")

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> JobFuture[T]:
        """Enqueue a call of `fn`. Raises a subclass of EnqueueError for a call that cannot travel."""
        self._check_open()
        call, decode = self._call(fn, args, kwargs)
        return self._follow([call.enqueue()], decode)[0]

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """The results of `fn` for the items, in order. All are enqueued now, in batches (`chunksize` is not needed)."""
        self._check_open()
        calls = [self._call(fn, items, {}) for items in zip(*iterables, strict=False)]
        if not calls:
            return iter(())
        until = None if timeout is None else monotonic() + timeout
        return _in_order(self._follow(self._app.enqueue_many(call for call, _ in calls), calls[0][1]), until)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more; with `wait` until all has ended. Jobs that wait go on without us, if not cancelled."""
        with self._lock:
            self._waits = wait
            self._closed.set()
            pending = list(self._pending)
        for future in pending if cancel_futures else ():
            future.cancel()
        if wait:
            futures.wait(pending)
            self._finisher.shutdown()
            if self._owned:
                self._app.close()
        else:
            self._close_if_done()

    def _check_open(self) -> None:
        """Raises RuntimeError, Unsupported."""
        if self._closed.is_set():
            raise RuntimeError("cannot schedule new futures after shutdown")
        _ = self._app.store  # nothing is enqueued whose result could not be had

    # ---- what travels -----------------------------------------------------------------------------------------------

    def _call(
        self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Call[Any], Callable[[Any], T]]:
        """The job of a call, and how its result is read."""
        if isinstance(fn, Task):
            return fn.call_of(args, kwargs), _as_it_is
        payload = self._payloads.get(fn)
        if payload is None:
            payload = self._payloads[fn] = Payload(fn, _checked_path(self._app, fn))
        arguments = payload.encode(args, kwargs, self._app.max_payload)
        return self._task.bind(payload.name, arguments), _reader(payload)

    # ---- what comes back --------------------------------------------------------------------------------------------

    def _follow(self, jobs: list[TaskResult[Any]], decode: Callable[[Any], T]) -> list[JobFuture[T]]:
        found = [JobFuture(job, decode) for job in jobs]
        with self._lock:
            self._pending.update(found)
        for future in found:
            future.add_done_callback(self._forget)
            if future.job.is_finished:
                future.settle()
            else:
                self._watch(future)
        return found

    def _watch(self, future: JobFuture[Any]) -> None:
        """Settle it when its job has ended, on a thread of ours: callbacks may take their time."""
        ended = self._app.when_ended(future.job.id)
        ended.add_done_callback(lambda done: self._finisher.submit(self._finish, future, done.exception()))

    def _finish(self, future: JobFuture[Any], problem: BaseException | None) -> None:
        try:
            if problem is None:
                future.settle()
                return
        except BrokerUnavailable as error:
            problem = error
        if isinstance(problem, BrokerUnavailable):
            self._closed.wait(PAUSE)
            self._watch(future)
        else:
            future.settle(problem if isinstance(problem, Exception) else RuntimeError(str(problem)))

    def _forget(self, future: futures.Future[Any]) -> None:
        with self._lock:
            self._pending.discard(future)
        if not self._waits:
            self._close_if_done()

    def _close_if_done(self) -> None:
        """After `shutdown(wait=False)`: when the last one has ended."""
        with self._lock:
            done = self._closed.is_set() and not self._pending
        if done:
            self._finisher.shutdown(wait=False)
        if done and self._owned:
            threading.Thread(target=self._app.close, name="outwork-futures-end").start()


def _in_order(pending: list[JobFuture[T]], until: float | None) -> Iterator[T]:
    try:
        for future in pending:
            yield future.result(None if until is None else until - monotonic())
    finally:
        for future in pending:
            future.cancel()


# ---- the worker's side -----------------------------------------------------------------------------------------------


def _declare(app: Outwork) -> Task[[str, Raw], Raw]:
    """The task behind the executors of an application."""

    def call(function: str, arguments: Raw) -> Raw:
        fn = _found(app, function)
        payload = Payload(fn, function)
        args, kwargs = payload.decode(arguments)
        return Raw(payload.encode_result(fn(*args, **kwargs)))

    call.__qualname__ = "call"
    return app.task(name=CALL, retry=None)(call)


def _found(app: Outwork, path: str) -> Callable[..., Any]:
    """The function of a path that came over the wire: of an allowed module, and defined there. Raises NotImportable."""
    name, _, qualname = path.partition(":")
    if name not in _modules_of(app):
        raise NotImportable(_not_allowed(app, path, name))
    found: Any = import_module(name)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if not inspect.isroutine(found) or getattr(found, "__module__", None) != name:
        raise NotImportable(f"{path} is not a function that this module defines")
    return found


def _modules_of(app: Outwork) -> set[str]:
    return {*_allowed.get(app, ()), *app.settings.modules}


def _checked_path(app: Outwork, fn: Callable[..., Any]) -> str:
    """The import path of a function that a worker may run. Raises NotImportable."""
    name, qualname = getattr(fn, "__module__", None), getattr(fn, "__qualname__", "")
    shown = f"{name}:{qualname}" if qualname else repr(fn)
    if not inspect.isroutine(fn) or inspect.iscoroutinefunction(fn) or name in (None, "__main__") or "<" in qualname:
        raise NotImportable(
            f"{shown} cannot be named to a worker: write a `def` at the top of a module, or submit a task. Nothing was "
            "enqueued"
        )
    if name not in _modules_of(app):
        raise NotImportable(f"{_not_allowed(app, shown, str(name))}. Nothing was enqueued")
    if _found(app, shown) is not fn:
        raise NotImportable(f"{shown} is another function there. Nothing was enqueued")
    return shown


def _not_allowed(app: Outwork, path: str, module: str) -> str:
    known = ", ".join(sorted(_modules_of(app))) or "none"
    return (
        f"{path} may not be run: the module is not allowed (allowed: {known}). Write Executor(modules=[{module!r}]), "
        "or name it in the setting `modules` of the worker"
    )


def _reader(payload: Payload) -> Callable[[Any], Any]:
    def read(value: Raw | None) -> Any:
        return None if value is None else payload.decode_result(bytes(value))

    return read


def _as_it_is(value: Any) -> Any:
    return value


_declare(applications.default_app)
