"""The settings: one frozen record, and where each of its values comes from.

    default < file < framework < environment < argument of `Outwork(...)` < command line

Keys are dotted: `broker_url`, `worker.concurrency`. The environment writes them `OUTWORK_BROKER_URL` and
`OUTWORK_WORKER__CONCURRENCY`, a TOML file as keys and tables. Whatever is not known here is an error that names its
place and the nearest known name: a typo in a setting must not wait for the night to be found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, cast
from urllib.parse import unquote

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from outwork.brokers.url import anchored, masked
from outwork.configuration import periodic_tables, readers
from outwork.configuration.forms import FORM, url_of_worker
from outwork.configuration.keys import EMPTY_IS_A_VALUE, LISTS, READERS, TABLES, URLS, WHOLE
from outwork.configuration.periodic_tables import PeriodicSettings
from outwork.configuration.sections import SECTIONS, Found, flattened, read_sections, toml_section
from outwork.configuration.toml_lines import line_of
from outwork.errors import SettingsError

PREFIX: Final = "OUTWORK_"
FILE_NAME: Final = "outwork.toml"
PROJECT_FILE: Final = "pyproject.toml"
CREDENTIAL: Final = "outwork_broker_url"
"""The name of the file in `$CREDENTIALS_DIRECTORY` (systemd's LoadCredential) that holds the broker's URL."""

NOT_SETTINGS: Final = frozenset(
    {"OUTWORK_CONFIG", "OUTWORK_APP", "OUTWORK_DEBUG", "OUTWORK_BROKER_URL_FILE", "OUTWORK_CHANNELS_URL"}
)
FOREIGN: Final = re.compile(
    r"OUTWORK_(?:LOG(?:_.*)?|TEST_.*|X_.*"
    r"|(?:.*_)?SERVICE_HOST|(?:.*_)?SERVICE_PORT(?:_.*)?|(?:.*_)?PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)
"""Variables that are no settings: `OUTWORK_LOG...`, `OUTWORK_TEST_...`, `OUTWORK_X_...` (free for your own use), and
those that Kubernetes puts into every pod beside a service whose name begins with "outwork"."""


class WorkerSettings(Struct, frozen=True, kw_only=True):
    """How a worker runs. `queues` are `name` or `name:limit`; empty means all that its tasks and the broker know.
    `weights` say how often a queue is the first in its turn; 1 where nothing is said."""

    concurrency: int = 20
    threads: int | None = None
    children: int | None = None
    child_memory: int | None = None
    processes: int = 1
    grace: float = 25.0
    queues: tuple[str, ...] = ()
    weights: Mapping[str, int] = {}
    periodic: bool = True
    log_format: Literal["text", "json"] = "text"


class RetentionSettings(Struct, frozen=True, kw_only=True):
    """How many seconds finished and failed jobs are kept. `results` None: as the broker keeps them, a day (an hour on
    Redis)."""

    results: float | None = None
    failed: float = 14 * 86_400.0


class Settings(Struct, frozen=True, kw_only=True):
    """All settings. `broker_url` "" means `immediate:`; `broker` names a class (`module:Class`) outright; `store_url`
    is the store beside a broker that keeps no records (RabbitMQ).

    `queues` are the declared ones; empty means that any name is good. Times are seconds, `max_payload` bytes.
    `sections` are the tables of ready-made tasks, `periodic` those of schedules, by name; those that were given.
    """

    broker_url: str = ""
    store_url: str = ""
    broker: str = ""
    modules: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    max_payload: int = 1_048_576
    lease: float = 30.0
    worker: WorkerSettings = WorkerSettings()
    retention: RetentionSettings = RetentionSettings()
    sections: Mapping[str, Struct] = {}
    periodic: Mapping[str, PeriodicSettings] = {}


class Loaded(NamedTuple):
    """The settings, and for each dotted key where its value comes from: `outwork.toml:7`, `default`, ..."""

    settings: Settings
    origins: Mapping[str, str]


Layer = dict[str, Found]


# ---- putting it together --------------------------------------------------------------------------------------------


def load(
    *,
    arguments: Mapping[str, object] | None = None,
    framework: Mapping[str, object] | None = None,
    command_line: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    config_file: Path | None = None,
    read_file: bool = True,
) -> Loaded:
    """Read every layer and put the strongest value of each key into one record.

    The mappings have dotted keys; a None in them is a value that was not given. `environ` None: the environment is not
    read (applications other than the default one), `OUTWORK_CONFIG` included. `config_file` beats `OUTWORK_CONFIG`,
    which beats `outwork.toml` and `[tool.outwork]` of `pyproject.toml` in the current directory. `framework` may name
    itself in the key "framework" ("Flask").

    Raises SettingsError.
    """
    named = dict(framework or {})
    name = named.pop("framework", None)
    layers: list[Layer] = [
        _file_layer(config_file, environ) if read_file or config_file else {},
        _mapping_layer(named, f"framework ({name})" if name else "framework"),
        {} if environ is None else _environment_layer(environ),
        _mapping_layer(arguments or {}, "argument"),
        _mapping_layer(command_line or {}, "command line"),
    ]
    values: dict[str, object] = {}
    sections: Layer = {}
    schedules: Layer = {}
    origins = dict.fromkeys(READERS, "default")
    for layer in layers:
        for key, found in layer.items():
            if periodic_tables.is_periodic(key):
                schedules[key] = found
            elif _in_section(key):
                sections[key] = found
            else:
                values[key] = _read(key, found)
            origins[key] = found.origin
    for key in URLS:
        url = next((layer[key] for layer in reversed(layers) if key in layer), None)
        if url is not None and url.folder is not None:
            values[key] = _anchored(url, str(values[key]), url.folder)
    planned = periodic_tables.read_tables(schedules)
    settings = replace(_build(values), sections=read_sections(sections), periodic=planned)
    for key, found in schedules.items():
        origins |= periodic_tables.origins_of(key, found)
    return Loaded(settings, origins)


def flat(settings: Settings) -> dict[str, object]:
    """Every value by its dotted key, in the order in which they are documented; secrets of sections masked."""
    values: dict[str, object] = {}
    for key in READERS:
        table, dot, name = key.partition(".")
        values[key] = getattr(getattr(settings, table), name) if dot else getattr(settings, table)
    for name, section in settings.sections.items():
        values |= flattened(section, f"{name}.")
    for name, schedule in settings.periodic.items():
        values |= {f"{periodic_tables.TABLE}.{name}.{key}": value for key, value in schedule.given().items()}
    return values


def _in_section(key: str) -> bool:
    """Whether a key belongs to the table of a ready-made task, whose struct knows it."""
    table, dot, _ = key.partition(".")
    return (bool(dot) and table in SECTIONS) or periodic_tables.is_periodic(key)


def _read(key: str, found: Found) -> object:
    try:
        return READERS[key](found.value)
    except ValueError as error:
        raise SettingsError(f"{found.label} = {shown_value(key, found.value)}: {error}") from error


def shown_value(key: str, value: object) -> str:
    """A value as it may be printed: as TOML would write it, a password masked."""
    if key in URLS:
        value = masked(value) if isinstance(value, str) else "***"
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        return repr(value)


def _build(values: Mapping[str, object]) -> Settings:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        table, dot, name = key.partition(".")
        if dot:
            tree.setdefault(table, {})[name] = value
        else:
            tree[table] = value
    return msgspec.convert(tree, Settings)


def _mapping_layer(mapping: Mapping[str, object], origin: str) -> Layer:
    for key in mapping:
        if key not in READERS and not _in_section(key):
            raise SettingsError(f"{origin}: {key}: unknown setting{_nearest(key)}")
    given = {key: value for key, value in mapping.items() if value is not None}
    schedules = periodic_tables.mapped_tables(given.pop(periodic_tables.TABLE, {}), origin)
    return {key: Found(value, f"{origin}: {key}", origin) for key, value in given.items()} | schedules


def _nearest(key: str, table: str = "") -> str:
    """The nearest known key, without the name of its table if it is in `table`; or all there are if none is near."""
    close = get_close_matches(key, READERS, n=1)
    if not close:
        last = key.rpartition(".")[2]
        by_name = {known.rpartition(".")[2]: known for known in READERS}
        by_name |= {known: known for known in READERS if "." not in known}
        close = [by_name[name] for name in get_close_matches(last, by_name, n=1)]
    if close:
        return f' (did you mean "{close[0].removeprefix(table + ".")}"?)'
    return f". Known are: {', '.join(READERS)}"


# ---- the environment ------------------------------------------------------------------------------------------------


def _environment_layer(environ: Mapping[str, str]) -> Layer:
    layer: Layer = {}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
            continue
        key = variable[len(PREFIX) :].lower().replace("__", ".")
        if key not in READERS and not _in_section(key):
            if FOREIGN.fullmatch(variable):
                continue
            raise SettingsError(f"environment {variable}: unknown setting{_nearest_variable(variable)}")
        text = environ[variable].strip()
        if text or key in EMPTY_IS_A_VALUE:
            origin = f"environment {variable}"
            layer[key] = Found(_from_text(key, text), origin, origin)
    secret = _secret(environ)
    if secret is not None:
        layer.setdefault("broker_url", secret)
    return layer


def _from_text(key: str, text: str) -> object:
    if key in LISTS:
        return [item.strip() for item in text.split(",")] if text else []
    if key in WHOLE:
        try:
            return int(text)
        except ValueError:
            return text  # its reader refuses it, with the place
    return text


def _nearest_variable(variable: str) -> str:
    known = [PREFIX + key.upper().replace(".", "__") for key in READERS]
    known += NOT_SETTINGS
    close = get_close_matches(variable, known, n=1)
    if close:
        return f" (did you mean {close[0]}?)"
    return f". Your own variables may begin with OUTWORK_X_; known are: {', '.join(sorted(known))}"


def _secret(environ: Mapping[str, str]) -> Found | None:
    """The broker's URL from a file that holds nothing else."""
    named = environ.get("OUTWORK_BROKER_URL_FILE")
    if named:
        if environ.get("OUTWORK_BROKER_URL"):
            raise SettingsError(
                "environment OUTWORK_BROKER_URL and OUTWORK_BROKER_URL_FILE are both set. Unset one of them"
            )
        origin = f"environment OUTWORK_BROKER_URL_FILE ({named})"
        return Found(_content(Path(named), "environment OUTWORK_BROKER_URL_FILE").strip(), origin, origin)
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if directory and (path := Path(directory, CREDENTIAL)).exists():
        origin = f"credential {path}"
        return Found(_content(path, "environment CREDENTIALS_DIRECTORY").strip(), origin, origin)
    return None


def _content(path: Path, place: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{place}: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{place}: {path} is not UTF-8 text") from error


# ---- the file -------------------------------------------------------------------------------------------------------


def _file_layer(config_file: Path | None, environ: Mapping[str, str] | None) -> Layer:
    if config_file is not None:
        return _read_toml(config_file, _content(config_file, "configuration file"))
    if environ and (named := environ.get("OUTWORK_CONFIG")):
        return _read_toml(Path(named), _content(Path(named), "environment OUTWORK_CONFIG"))
    for path in (Path(FILE_NAME), Path(PROJECT_FILE)):
        if path.exists():
            layer = _read_toml(path, _content(path, "configuration file"))
            if layer or path.name == FILE_NAME:
                return layer
    return {}


def _read_toml(path: Path, text: str) -> Layer:
    import tomllib  # 5 ms of the time that `import outwork` may take, and most processes read no file

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"at line (\d+)", str(error))
        line = int(place.group(1)) if place else max(1, len(text.splitlines()))  # "at end of document"
        raise SettingsError(f"{path}:{line} is not valid TOML: {error}") from error
    above: tuple[str, ...] = ()
    if path.name == PROJECT_FILE:
        above = ("tool", "outwork")
        tool = document.get("tool", {})
        document = tool.get("outwork", {}) if isinstance(tool, dict) else {}
        if not isinstance(document, dict):
            raise SettingsError(f"{path}:{line_of(text, above)} tool.outwork: a table is needed")
    layer: Layer = {}
    for name, value in cast("dict[str, object]", document).items():
        if name in TABLES:
            line = line_of(text, (*above, name))
            if not isinstance(value, dict):
                raise SettingsError(f"{path}:{line} {name}: a table is needed: [{'.'.join((*above, name))}]")
            table = cast("dict[str, object]", value)
            if name == "worker" and not FORM.isdisjoint(table):
                _take_kind(layer, path, text, above, table, "broker_url" in document)
            for inner, item in table.items():
                if name != "worker" or inner not in FORM:
                    _take(layer, path, text, above, (name, inner), item)
        elif name == "queues" and isinstance(value, dict):
            _take_queues(layer, path, text, above, cast("dict[str, object]", value))
        elif name == periodic_tables.TABLE:
            layer |= periodic_tables.toml_tables(path, text, above, value)
        elif isinstance(value, dict) and name in SECTIONS:
            layer |= toml_section(path, text, above, (name,), cast("dict[str, object]", value))
        elif isinstance(value, dict):
            close = get_close_matches(name, {*TABLES, *SECTIONS, periodic_tables.TABLE}, n=1) or sorted(TABLES)
            there = f"{path}:{line_of(text, (*above, name))} [{'.'.join((*above, name))}]"
            raise SettingsError(f"{there}: unknown table (did you mean {' or '.join(f'[{t}]' for t in close)}?)")
        else:
            _take(layer, path, text, above, (name,), value)
    return layer


def _take(layer: Layer, path: Path, text: str, above: tuple[str, ...], names: tuple[str, ...], value: object) -> None:
    key = ".".join(names)
    origin = f"{path}:{line_of(text, (*above, *names))}"
    table = ".".join((*above, *names[:-1]))
    label = f"{origin} [{table}] {names[-1]}" if table else f"{origin} {names[-1]}"
    if key not in READERS:
        raise SettingsError(f"{label}: unknown key{_nearest(key, names[0])}")
    layer[key] = Found(value, label, origin, path.absolute().parent)


def _take_queues(layer: Layer, path: Path, text: str, above: tuple[str, ...], tables: Mapping[str, object]) -> None:
    """The tables `[queues.NAME]`: which queues there are, and their weights."""
    try:
        names, weights = readers.queue_tables(tables)
    except ValueError as error:
        raise SettingsError(f"{path}:{line_of(text, (*above, 'queues'))}: {error}") from error
    _take(layer, path, text, above, ("queues",), names)
    origin = layer["queues"].origin
    layer["worker.weights"] = Found(weights, f"{origin} [queues]", origin)


def _take_kind(
    layer: Layer, path: Path, text: str, above: tuple[str, ...], table: dict[str, object], has_url: bool
) -> None:
    """A `[worker]` table that names a kind of worker instead of a URL."""
    form = {key: value for key, value in table.items() if key in FORM}
    origin = f"{path}:{line_of(text, (*above, 'worker', 'type' if 'type' in form else next(iter(form))))}"
    label = f"{origin} [{'.'.join((*above, 'worker'))}]"
    if has_url:
        raise SettingsError(f"{label}: broker_url and worker.type both say where tasks run. Leave one of them out")
    layer["broker_url"] = Found(url_of_worker(form, place=label), f"{label} type", origin)


def _anchored(found: Found, url: str, folder: Path) -> str:
    """`anchored`, with a word to those who wrote three slashes and meant four."""
    absolute = anchored(url, folder)
    if absolute != url:
        spelled = unquote(url.partition("://")[2].partition("?")[0]).removeprefix("/")
        if not (folder / spelled).parent.is_dir() and (Path("/") / spelled).parent.is_dir():
            raise SettingsError(
                f"{found.label} = {shown_value('broker_url', url)}: the directory {(folder / spelled).parent} does not "
                f"exist. An absolute path has four slashes: sqlite:////{spelled}"
            )
    return absolute
