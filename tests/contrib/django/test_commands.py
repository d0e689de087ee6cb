"""What the system checks and the commands say of wrong settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.test import modify_settings
from kiosk import tasks

from outwork.contrib.django.checks import check_backends, check_databases
from outwork.errors import BrokerRefused, SettingsError

Choose = Callable[..., Any]
PREFIX = "outwork.contrib.django."
pytestmark = pytest.mark.usefixtures("database")


def found(**named: Any) -> dict[str, str]:
    return {message.id: message.msg for message in run_checks(**named) if message.id.startswith("outwork.")}


@pytest.mark.parametrize(
    ("backend", "options", "code", "why"),
    [
        ("OutworkBackend", {"broker_url": "ftp://x"}, "outwork.E002", "Known schemes"),
        ("OutworkBackend", {"broker_ulr": "dummy:"}, "outwork.E001", "unknown option 'broker_ulr'"),
        ("OutworkBackend", {"broker_url": "dummy:?x=1"}, "outwork.E002", "unknown option x"),
        ("OutworkBackend", {"broker": "no.such:Class"}, "outwork.E002", "cannot be imported"),
        ("DatabaseBackend", {"database": "nowhere"}, "outwork.E004", "not in DATABASES"),
        ("DatabaseBackend", {"broker_url": "dummy:"}, "outwork.E002", "takes its database from"),
        ("DatabaseBackend", {"keep": "soon"}, "outwork.E002", "length of time"),
        ("ThreadPoolBackend", {}, "outwork.W001", "other threads"),
    ],
)
def test_system_checks(choose: Choose, backend: str, options: dict[str, Any], code: str, why: str) -> None:
    choose(backend, **options)
    messages = found()
    assert list(messages) == [code]
    assert why in messages[code]


@pytest.mark.parametrize(("name", "value"), [("OPTIONS", "dummy:"), ("QUEUES", "default")])
def test_settings_of_a_wrong_kind(choose: Choose, name: str, value: Any) -> None:
    choose("DummyBackend", others={"second": {"BACKEND": PREFIX + "DummyBackend", name: value}})
    [said] = found().values()
    assert said.startswith(f"OW130 TASKS['second']: {name} is '{value}'. Write a ")
    with pytest.raises(SettingsError, match=f"{name} is"):
        tasks.add.using(backend="second").enqueue(1)
    with pytest.raises(CommandError, match=f"{name} is") as caught:
        call_command("outwork_prune", backend="second", skip_checks=False)
    assert caught.value.returncode == 2


def test_a_backend_that_cannot_be_found(choose: Choose) -> None:
    """Django's check stops there; our own one does not, where Django has none."""
    choose("DatabaseBackend", others={"misspelt": {"BACKEND": PREFIX + "DatabaseBakend"}})
    with pytest.raises(CommandError, match="DatabaseBakend") as caught:
        call_command("outwork_worker", skip_checks=False)
    assert caught.value.returncode == 2
    messages = [message for message in check_backends() if message.id == "outwork.E006"]
    assert [message.msg.partition(":")[0] for message in messages] == ["TASKS['misspelt']"]
    assert list(check_databases()) == []


def test_the_application_is_not_installed(choose: Choose) -> None:
    choose("DatabaseBackend")
    with modify_settings(INSTALLED_APPS={"remove": ["outwork.contrib.django"]}):
        with pytest.raises(BrokerRefused, match=r"Add 'outwork\.contrib\.django' to INSTALLED_APPS"):
            tasks.add.enqueue(1)
        with pytest.raises(BrokerRefused, match="INSTALLED_APPS"):
            tasks.add.get_result("x")


def test_an_alias_of_no_database(choose: Choose) -> None:
    choose("DatabaseBackend", database="nowhere")
    with pytest.raises(SettingsError, match=r"names 'nowhere', which is not in DATABASES\. It has: default, other"):
        tasks.add.enqueue(1)
    for command in ("outwork_worker", "outwork_prune"):
        with pytest.raises(CommandError, match="nowhere") as caught:
            call_command(command)
        assert caught.value.returncode == 2


def test_nothing_to_prune(choose: Choose) -> None:
    choose("ThreadPoolBackend")
    with pytest.raises(CommandError, match="there is nothing to prune"):
        call_command("outwork_prune")


def test_checks_of_the_surroundings(choose: Choose) -> None:
    from django.db import connection

    choose("DatabaseBackend")
    assert found() == {}
    if connection.vendor == "sqlite":
        assert list(found(databases=["default"])) == ["outwork.W003"]
    with modify_settings(INSTALLED_APPS={"remove": ["outwork.contrib.django"]}):
        assert list(found()) == ["outwork.E003"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("ImmediateBackend", "tasks run in their callers"),
        ("DummyBackend", "recorded and never run"),
        ("ThreadPoolBackend", "inside the web process"),
        ("ProcessPoolBackend", "inside the web process"),
    ],
)
def test_a_backend_without_a_worker(choose: Choose, name: str, why: str) -> None:
    choose(name)
    with pytest.raises(CommandError, match=f"{name}.*{why}.*so a worker has nothing to do") as caught:
        call_command("outwork_worker")
    assert caught.value.returncode == 2


def test_unknown_aliases(choose: Choose) -> None:
    choose("DatabaseBackend", others={"misspelt": {"BACKEND": PREFIX + "DatabaseBakend"}})
    for command in ("outwork_worker", "outwork_prune"):
        with pytest.raises(CommandError, match=r"TASKS has no backend 'nope'\. It has: default, misspelt"):
            call_command(command, backend="nope")
        with pytest.raises(CommandError, match="Could not find backend"):
            call_command(command, backend="misspelt")


def test_another_packages_backend(choose: Choose) -> None:
    import django

    package = "django.tasks" if django.VERSION >= (6,) else "django_tasks"
    choose("DatabaseBackend", others={"foreign": {"BACKEND": f"{package}.backends.dummy.DummyBackend"}})
    with pytest.raises(CommandError, match="not one of Outwork's"):
        call_command("outwork_worker", backend="foreign")


def test_unknown_queues(choose: Choose) -> None:
    choose("DatabaseBackend", queues=["default", "mail"])
    with pytest.raises(CommandError, match=r"has no queue post\. It has: default, mail"):
        call_command("outwork_worker", "--queue-name", "post,mail")
    with pytest.raises(CommandError, match="no queue is left"):
        call_command("outwork_worker", "--exclude-queues", "default,mail")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--processes", "0"], "0 is less than 1"),
        (["--max-tasks", "some"], "some"),
        (["--grace", "soon"], "length of time"),
        (["--max-memory", "much"], "much"),
        (["--worker-id", "a/b"], "up to 64 letters"),
    ],
)
def test_wrong_numbers(choose: Choose, words: list[str], why: str) -> None:
    choose("DatabaseBackend")
    with pytest.raises(CommandError, match=f"invalid: .*{why}"):
        call_command("outwork_worker", *words)
