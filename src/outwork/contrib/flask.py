"""Flask: `Outwork(app)`, or `init_app(app)` in a factory.

    from flask import Flask
    from outwork.contrib.flask import Outwork

    app = Flask(__name__)
    Outwork(app)                # reads OUTWORK_BROKER_URL, OUTWORK_WORKER__CONCURRENCY... of app.config

Each attempt of a task runs in an application context of its own, which is torn down after it: `current_app`, `g` and
database sessions are as in a request. `flask outwork worker` runs the jobs. In Quart the same holds for `async def`
tasks; Quart has no application context for `def` tasks.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from outwork import app as applications
from outwork.app import Outwork as Tasks
from outwork.brokers import open_broker
from outwork.configuration.forms import from_mapping
from outwork.context import TaskContext
from outwork.contrib.flask_cli import outwork_group, worker_command
from outwork.errors import CannotLoad, DeclarationError, MissingDriver, SettingsError
from outwork.serving import asgi, wsgi

if find_spec("flask") is None:
    raise MissingDriver("outwork.contrib.flask needs Flask:  pip install flask")

__all__ = ["Outwork", "outwork_group", "worker_command"]

logger = logging.getLogger("outwork")

EXTENSION: Final = "outwork"
FACTORIES: Final = ("create_app", "make_app")
"""What Flask looks for itself in a module without an application."""


class WebApplication(Protocol):
    """What is needed of a Flask, and of a Quart."""

    import_name: str
    extensions: dict[str, Any]

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> MutableMapping[str, Any]: ...
    @property
    def cli(self) -> Any: ...
    def app_context(self) -> Any: ...
    def test_request_context(self, *args: Any, **kwargs: Any) -> Any: ...


class Outwork:
    """The Flask extension.

    `tasks` are the tasks that the application runs: by default those of bare `@task`; an `outwork.Outwork()` of its own
    for each application where a process has several. `config_prefix` says which keys of `app.config` are read: with
    "BROKER" they are BROKER_URL, BROKER (a class), BROKER_WORKER__CONCURRENCY. `request_context` gives each attempt a
    request context instead, made of SERVER_NAME, for code that wants one. `target` is what another process imports to
    have the application (`shop:create_app`); it is needed only where tasks run in child processes of the web server,
    and only where it is neither an attribute of its module nor made by its `create_app`.
    """

    def __init__(
        self,
        app: WebApplication | None = None,
        config_prefix: str = "OUTWORK",
        *,
        tasks: Tasks | None = None,
        request_context: bool = False,
        target: str | None = None,
    ) -> None:
        self._tasks = tasks
        self._prefix = config_prefix.upper().rstrip("_")
        self._request_context = request_context
        self._target = target
        _binding_of(self.tasks)
        if app is not None:
            self.init_app(app)

    @property
    def tasks(self) -> Tasks:
        """The application of Outwork that runs the tasks: `app.extensions["outwork"]`."""
        return self._tasks or applications.default_app

    def init_app(self, app: WebApplication) -> None:
        """Give the application its tasks, as its configuration says. Raises SettingsError, DeclarationError."""
        if EXTENSION in app.extensions:
            raise DeclarationError(f"the application {app.name!r} has an Outwork already")
        if self._request_context and not hasattr(app, "wsgi_app"):
            raise DeclarationError("request_context=True is for Flask: Quart has no request context without a request")
        if self._request_context and not app.config.get("SERVER_NAME"):
            raise SettingsError("request_context=True needs SERVER_NAME in app.config: without it URLs would be wrong")
        tasks = self.tasks
        _binding_of(tasks).bind(app, read_config(app.config, self._prefix), request_context=self._request_context)
        tasks.loaded_by = (self._target,) if self._target else _targets_of(app)
        app.extensions[EXTENSION] = tasks
        _serve(app, tasks)
        app.cli.add_command(outwork_group)


def read_config(config: Mapping[str, Any], prefix: str) -> dict[str, object]:
    """The settings among the keys of a configuration: PREFIX_KEY, PREFIX_TABLE__KEY, PREFIX_TABLE and PREFIX with a
    mapping; PREFIX_URL is the broker's URL, and PREFIX with a text its class. Raises SettingsError."""
    found: dict[str, object] = {}
    for name, value in config.items():
        if name == prefix:
            found |= value if isinstance(value, Mapping) else {"broker": value}
        elif name.startswith(f"{prefix}_"):
            key = name[len(prefix) + 1 :]
            found["broker_url" if key == "URL" else key] = value
    return from_mapping(found, place=f"app.config {prefix}")


# ---- the context of an attempt ---------------------------------------------------------------------------------------


class _Binding:
    """The web application in whose context tasks run: a hook around each run, one for an Outwork."""

    def __init__(self) -> None:
        self.app: WebApplication | None = None
        self._request_context = False
        self._settings: dict[str, object] = {}

    def bind(self, app: WebApplication, settings: dict[str, object], *, request_context: bool) -> None:
        """From now on it is this one. A test suite creates many, one after the other."""
        tasks = next(tasks for tasks, binding in _bindings.items() if binding is self)
        if self.app is not None and settings != self._settings:
            tasks.close()
        if self.app is not None and self.app.import_name != app.import_name:
            logger.warning(
                "the tasks that ran in the context of the application %r run in that of %r from now on; where both "
                "live on in one process, give each an outwork.Outwork() of its own:  Outwork(app, tasks=...)",
                self.app.name,
                app.name,
            )
        if self.app is None or settings != self._settings:
            tasks.configure({**dict.fromkeys(self._settings), **settings, "framework": "Flask"})
            self._settings = settings
        self.app, self._request_context = app, request_context
        chosen = tasks.settings
        open_broker(chosen.broker_url, chosen.broker).close()  # what is wrong with it is said now, not to a request

    def __call__(self, context: TaskContext) -> Any:
        """The context manager around an attempt; Quart's is async."""
        if self.app is None:
            return _without_application()
        return self.app.test_request_context() if self._request_context else self.app.app_context()


_bindings: Final[WeakKeyDictionary[Tasks, _Binding]] = WeakKeyDictionary()


def _binding_of(tasks: Tasks) -> _Binding:
    if tasks not in _bindings:
        _bindings[tasks] = _Binding()
        tasks.hooks.around_run(everywhere=True)(_bindings[tasks])
    return _bindings[tasks]


@contextmanager
def _without_application() -> Iterator[None]:
    """Say what is missing where a task misses it."""
    try:
        yield
    except RuntimeError as error:
        if "outside of application context" not in str(error):
            raise
        raise CannotLoad(
            "the task needs the Flask application, and this process has created none. Start the worker with  flask "
            "outwork worker,  or name it:  outwork worker shop:create_app"
        ) from error


# ---- the web server's process ----------------------------------------------------------------------------------------


def _serve(app: Any, tasks: Tasks) -> None:
    """Start an embedded worker with the first request; in Quart at start-up."""
    if hasattr(app, "wsgi_app"):
        app.wsgi_app = wsgi(app.wsgi_app, tasks)
    else:
        app.asgi_app = asgi(app.asgi_app, tasks)


def _targets_of(app: WebApplication) -> tuple[str, ...]:
    """What a child process imports to have this application: its name in its module, or a factory there; nothing where
    there is neither."""
    module = sys.modules.get(app.import_name)
    if module is None or app.import_name == "__main__":
        return ()
    for name, value in vars(module).items():
        if value is app:
            return (f"{app.import_name}:{name}",)
    for name in FACTORIES:
        factory = getattr(module, name, None)
        if callable(factory) and _needs_nothing(factory):
            return (f"{app.import_name}:{name}",)
    return ()


def _needs_nothing(factory: Callable[..., Any]) -> bool:
    try:
        inspect.signature(factory).bind()
    except (TypeError, ValueError):
        return False
    return True
