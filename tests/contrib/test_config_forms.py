"""Row Q1: a `[worker]` table with a type, wherever an application's mapping or file is given."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from outwork import Outwork
from outwork.configuration.forms import from_mapping, from_worker_table, of_application
from outwork.errors import SettingsError
from outwork.settings import load
from support.place import Place, place_in
from support.redis_server import RedisServer

TABLES: list[tuple[str, str]] = [
    ('type = "thread"', "thread:"),
    ('type = "subprocess"', "process:"),
    ('type = "redis"', "redis://127.0.0.1:6379/0"),
    ('type = "redis"\nredis_ip = "10.0.0.7"', "redis://10.0.0.7:6379/0"),
    ('type = "redis"\nredis_port = 7000\nredis_db = 3', "redis://127.0.0.1:7000/3"),
    ('type = "redis"\nredis_ip = "::1"\nredis_port = "7000"', "redis://[::1]:7000/0"),
    ('type = "thread"\nredis_ip = "10.0.0.7"', "thread:"),
]
WRONG: list[tuple[str, str]] = [
    (
        'type = "proces"',
        r"'proces' is not a kind of worker \(did you mean 'subprocess'\?\). Write one of: thread, subprocess, redis",
    ),
    ('type = "Redis"', r"\(did you mean 'redis'\?\). Write one of: thread, subprocess, redis"),
    ("type = 3", "type = 3 is not a kind of worker. Write one of: thread, subprocess, redis"),
    ('redis_ip = "10.0.0.7"', "redis_ip without a type. Write one of: thread, subprocess, redis"),
    ('type = "redis"\nredis_port = 70000', "redis_port = 70000: a whole number from 0 to 65535"),
    ('type = "redis"\nredis_port = true', "redis_port = True: a whole number"),
    ('type = "redis"\nredis_db = -1', "redis_db = -1: a whole number"),
    ('type = "redis"\nredis_ip = "a b"', "redis_ip = 'a b': the name or address of a host"),
    ('type = "redis"\nredis_ip = ""', "redis_ip = '': the name or address of a host"),
]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with place_in(tmp_path) as place:
        yield place


def url_of(app: Outwork) -> str:
    return app.settings.broker_url


@pytest.mark.parametrize(("table", "url"), TABLES)
def test_row_Q1_the_table_of_an_application(table: str, url: str) -> None:
    section = tomllib.loads(table)
    assert url_of(Outwork.from_mapping(section)) == url
    assert url_of(Outwork.from_mapping({"worker": section})) == url
    assert url_of(Outwork.from_mapping({"WORKER": {key.upper(): value for key, value in section.items()}})) == url
    assert from_worker_table(section)["broker_url"] == url


@pytest.mark.parametrize("section", [None, {}, {"worker": {}}, {"concurrency": 4}])
def test_row_Q1_no_section_is_threads(section: Mapping[str, object] | None) -> None:
    assert url_of(Outwork.from_mapping(section)) == "thread:"


@pytest.mark.parametrize(("table", "url"), TABLES)
def test_row_Q1_the_table_in_a_file_of_settings(table: str, url: str, tmp_path: Path) -> None:
    path = tmp_path / "outwork.toml"
    path.write_text(f"[worker]\nconcurrency = 4\n{table}\n")
    loaded = load(config_file=path)
    assert (loaded.settings.broker_url, loaded.settings.worker.concurrency) == (url, 4)
    assert loaded.origins["broker_url"] == f"{path}:3"
    assert load(config_file=path, arguments={"broker_url": "dummy:"}).settings.broker_url == "dummy:"


@pytest.mark.parametrize(("table", "expected"), WRONG)
def test_row_Q1_what_is_wrong_is_named(table: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=expected):
        Outwork.from_mapping(tomllib.loads(table))
    path = tmp_path / "outwork.toml"
    path.write_text(f"[worker]\n{table}\n")
    with pytest.raises(SettingsError, match=rf"outwork.toml:2 \[worker\]: .*{expected}"):
        load(config_file=path)


def test_a_url_and_a_type_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Leave one of them out"):
        Outwork.from_mapping({"broker_url": "dummy:", "worker": {"type": "thread"}})
    path = tmp_path / "outwork.toml"
    path.write_text('broker_url = "dummy:"\n[worker]\ntype = "thread"\n')
    with pytest.raises(SettingsError, match=r"outwork.toml:3 \[worker\]: .*Leave one of them out"):
        load(config_file=path)


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"broker_url": "dummy:", "worker": {"grace": "5s"}}, {"broker_url": "dummy:", "worker.grace": "5s"}),
        ({"WORKER__CONCURRENCY": "8", "QUEUES": "a, b"}, {"worker.concurrency": 8, "queues": ["a", "b"]}),
        ({"modules": ["a"], "RETENTION__FAILED": "1d"}, {"modules": ["a"], "retention.failed": "1d"}),
        ({"worker": {"type": "thread", "queues": ["a:4"]}}, {"broker_url": "thread:", "worker.queues": ["a:4"]}),
    ],
)
def test_settings_with_tables(mapping: Mapping[str, object], expected: dict[str, object]) -> None:
    assert from_mapping(mapping) == expected
    assert of_application(mapping) == {"broker_url": "thread:"} | expected


def test_given_twice_and_unknown() -> None:
    with pytest.raises(SettingsError, match=r"worker.grace is given twice"):
        from_mapping({"worker": {"grace": 1}, "WORKER__GRACE": 2})
    with pytest.raises(SettingsError, match=r'mapping.*concurency.*did you mean "worker.concurrency"'):
        assert Outwork.from_mapping({"concurency": 3}).settings


TASKS = """
import tomllib
from pathlib import Path
from outwork import Outwork

config = tomllib.loads(Path("config.toml").read_text())
app = Outwork.from_mapping(config.get("worker"))

@app.task
def add(x: int, y: int) -> int:
    return x + y
"""


def test_row_Q1_on_redis_from_the_command_line(place: Place, tmp_path: Path) -> None:
    """The command line sees the application as its own file configures it; the file of Outwork does as well."""
    server = RedisServer(tmp_path / "redis")
    try:
        place.write("tasks.py", TASKS)
        table = f'[worker]\ntype = "redis"\nredis_port = {server.port}\n'
        place.write("config.toml", f"{table}[sqlalchemy]\nurl = 'x'\n")
        job_id = place.run("outwork", "enqueue", "add", "1", "2").split()[1]
        place.write("other/outwork.toml", table)
        assert job_id in place.run("outwork", "--config", "other/outwork.toml", "jobs", "ls")
        assert "1 done, 0 failed" in place.run("outwork", "worker", "tasks", "--drain")
        said = place.run("outwork", "--config", "other/outwork.toml", "config")
        assert f"redis://127.0.0.1:{server.port}/0" in said
        assert "other/outwork.toml:2" in said
    finally:
        server.stop()
