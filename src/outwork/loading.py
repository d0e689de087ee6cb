"""From what the command line names (`shop.tasks`, `shop:app`) to the application and its tasks."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Final

from outwork import app as applications
from outwork.app import Outwork
from outwork.errors import CannotLoad, NoBroker
from outwork.task import Task

GUESSES: Final = ("tasks", "app", "main")
"""The modules that are looked for in the current directory when nothing names one."""

FRAMES_SHOWN: Final = 5
CANDIDATES: Final = 2000
SKIPPED: Final = frozenset({"src", "node_modules", "venv", "env", "build", "dist", "__pycache__"})


def load_app(
    targets: Sequence[str] = (),
    *,
    config: Path | None = None,
    command_line: Mapping[str, object] | None = None,
    need_tasks: bool = True,
) -> Outwork:
    """Import the targets (`MODULE` or `MODULE:OBJECT`) and the configured modules; the application they mean.

    A bare module with exactly one `Outwork` means that one, with none the default application. OBJECT may be a factory.
    Without targets: `OUTWORK_APP`, else the configured `modules`, else `tasks.py`, `app.py` or `main.py` here. With
    `need_tasks` False nothing has to be found, and nothing is imported where the broker is configured anyway. The
    current directory becomes importable.

    Raises CannotLoad, SettingsError.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    command_line = command_line or {}
    _override(applications.default_app, command_line, config)
    configured = applications.default_app.settings
    chosen = tuple(targets) or _named_by_environment()
    if not chosen and (need_tasks or not configured.broker_url):
        chosen = configured.modules or _guess(required=need_tasks)
    found: dict[str, Outwork] = {}
    for target in chosen:
        if app := _load_target(target):
            found[target] = app
    app = _the_only_one(found)
    if app is not applications.default_app:
        _override(app, command_line, config)
    if chosen:
        for name in app.settings.modules:
            import_module(name)
    return app


def check_for_worker(app: Outwork) -> None:
    """Whether a worker process could take this application's jobs. Raises NoBroker that says why not."""
    broker = app.broker
    if broker.capabilities.shared:
        return
    reason = {
        "caller": "tasks run immediately in their callers",
        "nowhere": "jobs are recorded and never run",
        "embedded": "jobs run in a worker inside the process that enqueues them",
    }.get(broker.runs_in, "jobs stay in the memory of the process that enqueues them")
    where = f"the broker is {broker.url}" if app.settings.broker_url else "no broker is configured"
    raise NoBroker(
        f"{where}: {reason}, so a worker has nothing to do. Set a broker that processes can share, for example "
        "--broker sqlite:///tasks.db, OUTWORK_BROKER_URL, or `broker_url` in outwork.toml (outwork init writes one)"
        + hint_for_django("outwork_worker")
    )


def _override(app: Outwork, command_line: Mapping[str, object], config: Path | None) -> None:
    if command_line or config:
        app.override(command_line, config)


def _named_by_environment() -> tuple[str, ...]:
    return tuple(name for name in os.environ.get("OUTWORK_APP", "").replace(",", " ").split() if name)


def _guess(*, required: bool) -> tuple[str, ...]:
    for name in GUESSES:
        if Path(f"{name}.py").is_file() or Path(name, "__init__.py").is_file():
            return (name,)
    if required:
        raise CannotLoad(
            f"nothing says where the tasks are, and there is no tasks.py, app.py or main.py in {Path.cwd()}. Name the "
            f"module (-A {candidate() or 'shop.tasks'}), set OUTWORK_MODULES or `modules` in outwork.toml; or begin "
            f"with:  outwork init{hint_for_django('outwork_worker')}"
        )
    return ()


def candidate() -> str | None:
    """The first module here that speaks of Outwork."""
    for path in islice(sorted(Path.cwd().glob("*.py")), CANDIDATES):
        with suppress(OSError):
            if path.stem.isidentifier() and "outwork" in path.read_text(errors="replace"):
                return path.stem
    return None


def hint_for_django(command: str) -> str:
    """What to type instead where this looks like a Django project, whose settings no command of `outwork` reads."""
    return f". In a Django project:  python manage.py {command}" if Path("manage.py").is_file() else ""


def _the_only_one(found: Mapping[str, Outwork]) -> Outwork:
    if len({id(app) for app in found.values()}) > 1:
        raise CannotLoad(
            f"the targets {', '.join(found)} mean different applications, and a process works for one. Name one of "
            "them, as MODULE:OBJECT"
        )
    return next(iter(found.values()), applications.default_app)


def _load_target(target: str) -> Outwork | None:
    """The application that a target means; None: the default one."""
    name, colon, path = target.partition(":")
    module = import_module(name)
    if colon:
        return _object(target, module, path)
    inside = {key: value for key, value in vars(module).items() if isinstance(value, Outwork)}
    if len({id(app) for app in inside.values()}) > 1:
        choices = ", ".join(f"{name}:{key}" for key in inside)
        raise CannotLoad(f"{name} has several applications. Name one of them:  {choices}")
    return next(iter(inside.values()), None)


def load_object(target: str) -> object:
    """What `MODULE:OBJECT` names; the current directory is importable. Raises CannotLoad."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    name, colon, path = target.partition(":")
    if not colon or not path:
        raise CannotLoad(f'"{target}" names a module. Name the object in it, too, as in {name}:application')
    return _attribute(target, import_module(name), path)


def _attribute(target: str, module: ModuleType, path: str) -> object:
    value: object = module
    for part in path.split("."):
        try:
            value = getattr(value, part)
        except AttributeError as error:
            close = get_close_matches(part, [name for name in dir(value) if not name.startswith("_")], n=1)
            hint = (
                f" (did you mean {close[0]}?)"
                if close
                else f". For the tasks in it the module is enough:  {module.__name__}"
            )
            raise CannotLoad(f'cannot load "{target}": {module.__name__} has no {part!r}{hint}') from error
    return value


def _object(target: str, module: ModuleType, path: str) -> Outwork:
    value = _attribute(target, module, path)
    if app := _application_in(value):
        return app
    if isinstance(value, Task):
        raise CannotLoad(f'"{target}" is a task. Its module is enough:  {module.__name__}')
    if not callable(value):
        raise CannotLoad(f'"{target}" is a {type(value).__qualname__}, not an Outwork nor a function that returns one')
    try:
        made = value()
    except CannotLoad:
        raise
    except Exception as error:
        raise CannotLoad(f'"{target}" fails when it is called without arguments:\n{own_frames(error)}') from error
    if app := _application_in(made):
        return app
    raise CannotLoad(
        f'"{target}" returned a {type(made).__qualname__}, not an Outwork nor what has one as an extension'
    )


def _application_in(value: object) -> Outwork | None:
    """The value itself, or what a web application carries as its extension `outwork` (Flask's convention)."""
    extensions = getattr(value, "extensions", None)
    found = extensions.get("outwork") if isinstance(extensions, dict) else value
    return found if isinstance(found, Outwork) else None


# ---- importing ------------------------------------------------------------------------------------------------------


def import_module(name: str) -> ModuleType:
    """Import a module by its name, or by its file (`shop/tasks.py`) in the current directory.

    Raises CannotLoad: with the nearest name where the name is wrong, with the module's own traceback where it fails.
    """
    if name.endswith(".py") and Path(name).is_file():
        name = ".".join(Path(os.path.normpath(name)).with_suffix("").parts)
    if not all(part.isidentifier() for part in name.split(".")):
        raise CannotLoad(f'"{name}" is not the name of a module. Write it as in "import shop.tasks", without spaces')
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise CannotLoad(_not_found(name, error.name)) from error
        raise CannotLoad(f'cannot load "{name}": it fails while it is imported:\n{own_frames(error)}') from error
    except (Exception, SystemExit) as error:
        raise CannotLoad(f'cannot load "{name}": it fails while it is imported:\n{own_frames(error)}') from error


def own_frames(error: BaseException, *others: str) -> str:
    """The end of the traceback, without the frames of the import system, of this module, and of files whose paths begin
    with one of `others`."""
    whole = traceback.TracebackException.from_exception(error)
    foreign = (__file__, "<frozen importlib", importlib.__file__, *others)
    chain: list[traceback.TracebackException | None] = [whole]
    while chain:
        if (lines := chain.pop()) is not None:
            kept = [frame for frame in lines.stack if not frame.filename.startswith(foreign)]
            lines.stack = traceback.StackSummary.from_list(kept[-FRAMES_SHOWN:])
            chain += [lines.__cause__, lines.__context__]
    return "".join(whole.format()).rstrip()


def _not_found(name: str, missing: str) -> str:
    known = list(islice(_importable(missing), CANDIDATES))
    close = get_close_matches(name, known, n=1)
    same_end = [candidate for candidate in known if candidate.endswith(f".{name}")]
    hint = f" (did you mean {(close or same_end)[0]}?)" if close or same_end else ""
    text = (
        f'cannot load "{name}": No module named {missing!r}{hint}. Looked in {Path.cwd()} (the current directory) and '
        f"{len(sys.path) - 1} more paths; use -A/--app or OUTWORK_APP"
    )
    if not hint and Path("src", *missing.split(".")).exists():
        text += ". It is below src: install the project (pip install -e .), or run with PYTHONPATH=src"
    elif not hint and "." not in name:
        text += f". If it is a queue, write  --queues {name}"
    return text


def _importable(missing: str) -> Iterator[str]:
    """Names that may have been meant: modules below the current directory, and the neighbours of the missing one."""
    here = Path.cwd()
    for pattern in ("*.py", "*/*.py", "*/*/*.py"):
        for path in here.glob(pattern):
            parts = path.relative_to(here).with_suffix("").parts
            if SKIPPED.isdisjoint(parts) and all(part.isidentifier() for part in parts):
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    parent, _, _ = missing.rpartition(".")
    if parent in sys.modules:
        for module in iter_modules(getattr(sys.modules[parent], "__path__", [])):
            yield f"{parent}.{module.name}"
