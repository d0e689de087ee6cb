"""`flask outwork ...`, and a `worker` command for an application's own command line.

The commands are those of `outwork`; they are aimed at the application that `flask --app`, FLASK_APP or a FlaskGroup of
its own means. A worker process is told by FLASK_APP (QUART_APP) to create that same one.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any, Final

import click

from outwork import cli
from outwork.app import Outwork as Tasks
from outwork.cli.common import STARTER, TARGET, Command, Group, Target
from outwork.errors import CannotLoad

LOADERS: Final = {"flask": "load_flask", "quart": "load_quart"}
NOT_MOUNTED: Final = {"init"}

_here: list[Tasks] = []
"""The application of this process, where a command has loaded it already."""


def load_flask() -> Tasks:
    """The Outwork of the Flask application that FLASK_APP means; without it that of wsgi.py or app.py."""
    from flask.cli import ScriptInfo

    return _here[0] if _here else tasks_of(ScriptInfo(os.environ.get("FLASK_APP")).load_app())


def load_quart() -> Tasks:
    """As `load_flask`, of the Quart application that QUART_APP means."""
    from quart.cli import ScriptInfo

    return _here[0] if _here else tasks_of(ScriptInfo(os.environ.get("QUART_APP")).load_app())


def tasks_of(app: Any) -> Tasks:
    """The Outwork of a web application. Raises CannotLoad where it has none."""
    tasks = app.extensions.get("outwork")
    if not isinstance(tasks, Tasks):
        raise CannotLoad(f"the application {app.name!r} has no Outwork. Call Outwork(app), or init_app(app), in it")
    return tasks


def aim(ctx: click.Context) -> Tasks:
    """Let the commands below be about the web application of this command line.

    Raises CannotLoad where a worker process could not create the same one.
    """
    info = _script_info(ctx)
    framework = type(info).__module__.partition(".")[0]
    tasks = tasks_of(info.load_app())
    _here[:] = [tasks]
    variable = f"{framework.upper()}_APP"
    path = info.app_import_path if info.create_app is None else _path_of(info.create_app, variable)
    program = ctx.find_root().command_path
    named = (
        f" --app {shlex.quote(path)}" if path and info.create_app is None and os.environ.get(variable) != path else ""
    )
    ctx.meta[STARTER] = f"{program}{named}{ctx.command_path.removeprefix(program)} worker"
    if path:
        os.environ[variable] = path
    outer: Target = ctx.meta.get(TARGET, Target())
    ctx.meta[TARGET] = outer._replace(app=outer.app or f"{__name__}:{LOADERS[framework]}")
    return tasks


def _script_info(ctx: click.Context) -> Any:
    """What the framework's own group knows of the application: Quart's has a class of its own."""
    from flask.cli import ScriptInfo

    found: Any = ctx.find_object(object)
    if type(found).__module__ == "quart.cli":
        return found
    return ctx.ensure_object(ScriptInfo)


def _path_of(create_app: Any, variable: str) -> str:
    """The factory of an application's own command line, as a worker process can import it."""
    module, name = getattr(create_app, "__module__", None), getattr(create_app, "__qualname__", "<")
    if module == "__main__":
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        module = spec.name if spec else None
    if module and name.isidentifier():
        return f"{module}:{name}"
    if named := os.environ.get(variable):
        return named
    raise CannotLoad(
        f"a worker process cannot import {create_app!r}, which creates the application here. Use a function at the top "
        f"of a module, or set {variable}=module:function"
    )


def _run_worker(**options: Any) -> None:
    ctx = click.get_current_context()
    settings = aim(ctx).settings.worker
    for name in ("processes", "grace", "log_format"):  # the supervisor, which loads no application, needs them
        if options[name] is None:
            options[name] = getattr(settings, name)
    assert cli.worker_command.callback is not None
    cli.worker_command.callback(**options)


worker_command: Final = Command(
    "worker", callback=_run_worker, params=cli.worker_command.params, help=cli.worker_command.help
)
"""Add it to the group of your application: `shop worker`."""


@click.group("outwork", cls=Group)
@click.pass_context
def outwork_group(ctx: click.Context) -> None:
    """Background tasks: run them, look at them, steer them."""
    aim(ctx)


for _name, _command in cli.main.commands.items():
    if _name not in NOT_MOUNTED:
        outwork_group.add_command(worker_command if _name == "worker" else _command)
