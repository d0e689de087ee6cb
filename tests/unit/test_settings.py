"""The settings: precedence, origins, the environment, the file, and what bad input gets."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import fields

from outwork.brokers.url import anchored
from outwork.configuration.keys import READERS
from outwork.configuration.toml_lines import line_of
from outwork.errors import SettingsError
from outwork.settings import Loaded, RetentionSettings, Settings, WorkerSettings, flat, load


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(text: str, **options: Mapping[str, object]) -> str:
    """What a file of this text is answered."""
    Path("outwork.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(**options)  # type: ignore[arg-type]
    return str(caught.value)


def refused_variable(environ: Mapping[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(environ=environ)
    return str(caught.value)


# ---- the record -----------------------------------------------------------------------------------------------------


def test_every_field_has_a_reader_and_the_other_way_round() -> None:
    tables: dict[str, type[Struct]] = {"worker": WorkerSettings, "retention": RetentionSettings}
    names = {field.name for field in fields(Settings) if field.name not in {*tables, "sections", "periodic"}}
    names |= {f"{table}.{field.name}" for table, kind in tables.items() for field in fields(kind)}
    assert names == set(READERS)


def test_defaults_without_anything() -> None:
    loaded = load(environ={})
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}
    assert list(loaded.origins) == list(flat(loaded.settings))


# ---- precedence -----------------------------------------------------------------------------------------------------


def test_each_layer_beats_the_one_before() -> None:
    layers: list[tuple[str, Mapping[str, Mapping[str, object]]]] = [
        ("framework (Flask)", {"framework": {"worker.concurrency": 3, "framework": "Flask"}}),
        ("environment OUTWORK_WORKER__CONCURRENCY", {"environ": {"OUTWORK_WORKER__CONCURRENCY": "4"}}),
        ("argument", {"arguments": {"worker.concurrency": 5}}),
        ("command line", {"command_line": {"worker.concurrency": 6}}),
    ]
    Path("outwork.toml").write_text("[worker]\nconcurrency = 2\n")
    given: dict[str, Mapping[str, object]] = {}
    expected = ["outwork.toml:2", *(origin for origin, _ in layers)]
    seen: list[str] = []
    values: list[int] = []
    for options in ({}, *(options for _, options in layers)):
        given |= options
        loaded: Loaded = load(**given)  # type: ignore[arg-type]
        seen.append(loaded.origins["worker.concurrency"])
        values.append(loaded.settings.worker.concurrency)
    assert seen == expected
    assert values == [2, 3, 4, 5, 6]


def test_a_none_is_not_given() -> None:
    loaded = load(arguments={"broker_url": None, "lease": 10})
    assert loaded.settings.broker_url == ""
    assert loaded.origins["broker_url"] == "default"
    assert loaded.settings.lease == 10.0


def test_an_unknown_key_of_a_mapping_is_refused() -> None:
    with pytest.raises(SettingsError, match=r'framework: broker_ulr: unknown setting \(did you mean "broker_url"'):
        load(framework={"broker_ulr": "x"})


def test_a_wrong_value_of_a_mapping_is_refused() -> None:
    with pytest.raises(SettingsError, match=r'argument: worker.concurrency = "5": a whole number is needed'):
        load(arguments={"worker.concurrency": "5"})


# ---- the environment ------------------------------------------------------------------------------------------------


def test_reads_the_environment() -> None:
    loaded = load(
        environ={
            "OUTWORK_BROKER_URL": " redis://localhost ",
            "OUTWORK_MODULES": "shop.tasks, shop.mail",
            "OUTWORK_WORKER__QUEUES": "mail:4,default",
            "OUTWORK_WORKER__GRACE": "1m",
            "OUTWORK_RETENTION__FAILED": "3d",
            "OUTWORK_WORKER__LOG_FORMAT": "json",
            "HOME": "/root",
        }
    )
    assert loaded.settings == Settings(
        broker_url="redis://localhost",
        modules=("shop.tasks", "shop.mail"),
        worker=WorkerSettings(queues=("mail:4", "default"), grace=60.0, log_format="json"),
        retention=RetentionSettings(failed=3 * 86_400.0),
    )
    assert loaded.origins["modules"] == "environment OUTWORK_MODULES"


def test_does_not_read_the_environment_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTWORK_BROKER_URL", "redis://localhost")
    assert load().settings.broker_url == ""


def test_an_empty_url_is_immediate_even_where_a_file_says_otherwise() -> None:
    Path("outwork.toml").write_text('broker_url = "redis://localhost"\nlease = 5')
    loaded = load(environ={"OUTWORK_BROKER_URL": "", "OUTWORK_LEASE": ""})
    assert loaded.settings.broker_url == ""
    assert loaded.settings.lease == 5.0


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("OUTWORK_BROKER_ULR", "OUTWORK_BROKER_URL"),
        ("OUTWORK_WORKER_CONCURRENCY", "OUTWORK_WORKER__CONCURRENCY"),
        ("OUTWORK_BROKER_URL_FIEL", "OUTWORK_BROKER_URL_FILE"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest(variable: str, nearest: str) -> None:
    assert f"environment {variable}: unknown setting (did you mean {nearest}?)" in refused_variable({variable: "1"})


def test_an_unknown_variable_without_a_near_one_lists_them_all() -> None:
    assert "OUTWORK_RETENTION__RESULTS" in refused_variable({"OUTWORK_ZZZZZZZZZZZZZZ": "1"})


@pytest.mark.parametrize(
    "variable",
    [
        "OUTWORK_CONFIG_",
        "OUTWORK_PORTAL",
        "OUTWORK_LOGIN",
    ],
)
def test_what_only_looks_like_another_programs_variable_is_refused(variable: str) -> None:
    refused_variable({variable: "1"})


@pytest.mark.parametrize(
    "variable",
    [
        "OUTWORK_APP",
        "OUTWORK_DEBUG",
        "OUTWORK_CHANNELS_URL",
        "OUTWORK_LOG",
        "OUTWORK_LOG_LEVEL",
        "OUTWORK_TEST_REDIS_URL",
        "OUTWORK_X_OURS",
        "OUTWORK_SERVICE_HOST",
        "OUTWORK_PORT",
        "OUTWORK_REDIS_SERVICE_PORT_TLS",
        "OUTWORK_REDIS_PORT_6379_TCP_ADDR",
        "OUTWORKER",
    ],
)
def test_other_variables_are_left_alone(variable: str) -> None:
    assert load(environ={variable: "tcp://10.0.0.1:80"}).settings == Settings()


def test_a_wrong_value_names_its_variable() -> None:
    answer = refused_variable({"OUTWORK_WORKER__CONCURRENCY": "many"})
    assert 'environment OUTWORK_WORKER__CONCURRENCY = "many": a whole number is needed' in answer


# ---- secrets --------------------------------------------------------------------------------------------------------


def test_the_url_may_be_in_a_file_of_its_own(folder: Path) -> None:
    secret = folder / "url"
    secret.write_text("redis://:hunter2@db\n")
    loaded = load(environ={"OUTWORK_BROKER_URL_FILE": str(secret)})
    assert loaded.settings.broker_url == "redis://:hunter2@db"
    assert loaded.origins["broker_url"] == f"environment OUTWORK_BROKER_URL_FILE ({secret})"


def test_the_url_may_be_a_systemd_credential(folder: Path) -> None:
    (folder / "outwork_broker_url").write_text("redis://cache\n")
    loaded = load(environ={"CREDENTIALS_DIRECTORY": str(folder)})
    assert loaded.settings.broker_url == "redis://cache"
    assert str(folder / "outwork_broker_url") in loaded.origins["broker_url"]
    plain = load(environ={"CREDENTIALS_DIRECTORY": str(folder), "OUTWORK_BROKER_URL": "redis://other"})
    assert plain.settings.broker_url == "redis://other"


def test_a_credentials_directory_of_other_services_is_fine(folder: Path) -> None:
    assert load(environ={"CREDENTIALS_DIRECTORY": str(folder)}).settings.broker_url == ""


def test_a_missing_secret_is_an_error() -> None:
    answer = refused_variable({"OUTWORK_BROKER_URL_FILE": "/nowhere/url"})
    assert "OUTWORK_BROKER_URL_FILE: cannot read /nowhere/url: No such file" in answer


def test_two_urls_are_an_error() -> None:
    answer = refused_variable({"OUTWORK_BROKER_URL_FILE": "/nowhere/url", "OUTWORK_BROKER_URL": "redis://:hunter2@x"})
    assert "both set" in answer
    assert "hunter2" not in answer


def test_no_error_shows_a_password() -> None:
    answer = refused('broker_url = ["redis://:hunter2@db"]')
    assert "a text is needed" in answer
    assert "hunter2" not in answer


# ---- which file -----------------------------------------------------------------------------------------------------


def test_outwork_toml_beats_pyproject() -> None:
    Path("pyproject.toml").write_text('[project]\nname = "x"\n\n[tool.outwork]\nlease = 5\nworker.grace = "10s"\n')
    loaded = load()
    assert (loaded.settings.lease, loaded.origins["lease"]) == (5.0, "pyproject.toml:5")
    assert (loaded.settings.worker.grace, loaded.origins["worker.grace"]) == (10.0, "pyproject.toml:6")
    Path("outwork.toml").write_text("lease = 6\n")
    assert load().origins["lease"] == "outwork.toml:1"


def test_a_pyproject_of_somebody_else_is_left_alone() -> None:
    Path("pyproject.toml").write_text('[tool.ruff]\nline-length = 100\nworker = "x"\n')
    assert load().settings == Settings()


def test_the_environment_names_another_file(folder: Path) -> None:
    Path("outwork.toml").write_text("lease = 6\n")
    other = folder / "etc" / "shop.toml"
    other.parent.mkdir()
    other.write_text("lease = 7\n")
    loaded = load(environ={"OUTWORK_CONFIG": str(other)})
    assert (loaded.settings.lease, loaded.origins["lease"]) == (7.0, f"{other}:1")


def test_a_file_that_was_asked_for_must_be_there() -> None:
    assert "OUTWORK_CONFIG: cannot read nowhere.toml: No such file" in refused_variable(
        {"OUTWORK_CONFIG": "nowhere.toml"}
    )
    with pytest.raises(SettingsError, match=r"cannot read nowhere\.toml: No such file"):
        load(config_file=Path("nowhere.toml"))


def test_no_file_is_read_unless_asked() -> None:
    Path("outwork.toml").write_text("lease = 6\n")
    assert load(read_file=False).settings.lease == 30.0
    assert load(config_file=Path("outwork.toml"), read_file=False).settings.lease == 6.0


# ---- what is in it --------------------------------------------------------------------------------------------------

WHOLE_FILE = """\
# The shop's tasks.
broker_url = "sqlite:///tasks.db"
modules = [
    "shop.tasks",
    "shop.mail",
]
queues = ["default", "mail"]

[worker]
concurrency = 5
threads = 2
children = 1
child_memory = "512M"
processes = 3
grace = "10s"
queues = ["mail:2"]
log_format = "json"

[retention]
results = "12h"
failed = 3600
"""


def test_reads_a_whole_file(folder: Path) -> None:
    Path("outwork.toml").write_text(WHOLE_FILE)
    settings, origins = load()
    assert settings == Settings(
        broker_url=f"sqlite:///{folder}/tasks.db",
        modules=("shop.tasks", "shop.mail"),
        queues=("default", "mail"),
        worker=WorkerSettings(
            concurrency=5,
            threads=2,
            children=1,
            child_memory=512 << 20,
            processes=3,
            grace=10.0,
            queues=("mail:2",),
            log_format="json",
        ),
        retention=RetentionSettings(results=43_200.0, failed=3600.0),
    )
    lines = WHOLE_FILE.splitlines()
    for key, origin in origins.items():
        if origin != "default":
            line = lines[int(origin.partition(":")[2]) - 1]
            assert re.match(rf"{key.rpartition('.')[2]} =", line), (key, origin)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("lease = 1\n\n[worker]\nconcurency = 4", '4 [worker] concurency: unknown key (did you mean "concurrency"?)'),
        ("concurrency = 4", '1 concurrency: unknown key (did you mean "worker.concurrency"?)'),
        ("[wroker]\nconcurrency = 4", "1 [wroker]: unknown table (did you mean [worker]?)"),
        ("[dashboard]\nbind = 4", "1 [dashboard]: unknown table (did you mean [retention] or [worker]?)"),
        ("worker = 5", "1 worker: a table is needed: [worker]"),
        ("[worker]\nconcurrency = true", "2 [worker] concurrency = true: a whole number is needed"),
        ("[worker]\nconcurrency = 0", "2 [worker] concurrency = 0: a number of at least 1 is needed"),
        ("worker = { grace = -1 }", "1 [worker] grace = -1: a length of time cannot be negative"),
        ('[worker]\nlog_format = "xml"', '2 [worker] log_format = "xml": write "text" or "json"'),
        ('modules = "tasks"', '1 modules = "tasks": a list of texts is needed'),
        ('modules = ["a", 1]', "1 modules = "),
        ('queues = ["a b"]', "'a b': a queue's name has up to 100 characters"),
        ('queues = ["a", "a"]', "an entry is given twice"),
        ('[worker]\nqueues = ["a:0"]', "'a:0': write the name of a queue"),
        ('[worker]\nqueues = ["a:2", "a"]', "the queue 'a' is given twice"),
        ('broker = "redis"', '1 broker = "redis": write "module:Class"'),
        ("lease = 0", "a lease must be longer than nothing"),
        ("lease = 1979-05-27", "a length of time is needed"),
        ('[retention]\nresults = "soon"', "2 [retention] results"),
        ("lease = 1\nlease = 2", "outwork.toml:2 is not valid TOML"),
        ("lease = ", "outwork.toml:1 is not valid TOML"),
    ],
)
def test_bad_files_are_refused_with_file_and_line(text: str, answer: str) -> None:
    given = refused(text)
    assert "outwork.toml:" in given
    assert answer in given


def test_a_file_that_is_not_text(folder: Path) -> None:
    (folder / "outwork.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load()


def test_tool_outwork_must_be_a_table() -> None:
    Path("pyproject.toml").write_text("[tool]\noutwork = 5\n")
    with pytest.raises(SettingsError, match=r"pyproject.toml:2 tool.outwork: a table is needed"):
        load()


# ---- lines ----------------------------------------------------------------------------------------------------------

TRICKY = '''\
title = """
lease = 1
[worker]
"""
broker_url = "redis://localhost"
"max_payload" = 5
worker.grace = 3
[ tool . "outwork" ]   # a table
lease = 2
worker = { threads = 4 }
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("broker_url", 5),
        ("max_payload", 6),
        ("worker.grace", 7),
        ("tool.outwork", 8),
        ("tool.outwork.lease", 9),
        ("tool.outwork.worker.threads", 10),
    ],
)
def test_finds_the_line_of_a_key(path: str, line: int) -> None:
    tomllib.loads(TRICKY)
    assert line_of(TRICKY, tuple(path.split("."))) == line


# ---- SQLite paths ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "absolute"),
    [
        ("sqlite:///tasks.db", "sqlite:////srv/shop/tasks.db"),
        ("sqlite://tasks.db", "sqlite:////srv/shop/tasks.db"),
        ("sqlite:///data/tasks.db?lease=5", "sqlite:////srv/shop/data/tasks.db?lease=5"),
        ("sqlite:///../tasks.db", "sqlite:////srv/tasks.db"),
        ("sqlite:///a%20b.db", "sqlite:////srv/shop/a%20b.db"),
        ("sqlite:////var/lib/tasks.db", "sqlite:////var/lib/tasks.db"),
        ("redis://localhost/0", "redis://localhost/0"),
        ("immediate:", "immediate:"),
        ("sqlite://", "sqlite://"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
    ],
)
def test_a_path_in_a_file_is_relative_to_the_file(url: str, absolute: str) -> None:
    assert anchored(url, Path("/srv/shop")) == absolute


def test_three_slashes_where_four_were_meant(folder: Path) -> None:
    there = folder / "lib"
    there.mkdir()
    Path("outwork.toml").write_text(f'broker_url = "sqlite://{there}/tasks.db"\n')
    with pytest.raises(SettingsError) as caught:
        load()
    assert "outwork.toml:1 broker_url" in str(caught.value)
    assert f"An absolute path has four slashes: sqlite:///{there}/tasks.db" in str(caught.value)
    assert load(environ={"OUTWORK_BROKER_URL": "immediate:"}).settings.broker_url == "immediate:"


def test_a_folder_with_odd_characters_is_quoted() -> None:
    assert anchored("sqlite:///tasks.db", Path("/srv/a b?")) == "sqlite:////srv/a%20b%3F/tasks.db"


def test_tables_of_queues_declare_them_and_say_their_weights(tmp_path: Path) -> None:
    file = tmp_path / "outwork.toml"
    file.write_text("[queues.mail]\nweight = 10\n[queues.default]\n")
    settings, _ = load(config_file=file)
    assert (settings.queues, settings.worker.weights) == (("mail", "default"), {"mail": 10})


def test_weights_come_from_the_environment_too() -> None:
    settings, _ = load(environ={"OUTWORK_WORKER__WEIGHTS": "mail=10, bulk=1"}, read_file=False)
    assert settings.worker.weights == {"mail": 10, "bulk": 1}


@pytest.mark.parametrize(
    "text", ["[queues.mail]\nweigth = 10\n", "[queues.mail]\nweight = 0\n", "[queues]\nmail = 3\n"]
)
def test_a_weight_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "outwork.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match="weight"):
        load(config_file=file)
