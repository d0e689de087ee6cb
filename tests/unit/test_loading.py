"""From names on a command line to the application: what is found, and what is said when it is not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import outwork.app
from outwork.errors import CannotLoad, NoBroker, SettingsError
from outwork.loading import check_for_worker, load_app

Write = Callable[[str, str], Path]

TASKS = "from outwork import task\n\n\n@task\ndef greet(name: str) -> str:\n    return name\n"
APPLICATION = "from outwork import Outwork\n\napp = Outwork('memory:')\n\n\n@app.task\ndef greet() -> None: ...\n"


def refused(targets: Sequence[str] = ()) -> str:
    with pytest.raises(CannotLoad) as caught:
        load_app(targets)
    return str(caught.value)


# ---- what a target means --------------------------------------------------------------------------------------------


def test_a_module_without_an_application_means_the_default_one(write: Write) -> None:
    write("shop/tasks.py", TASKS)
    app = load_app(["shop.tasks"])
    assert app is outwork.app.default_app
    assert list(app.tasks) == ["shop.tasks.greet"]


def test_a_module_with_one_application_means_that_one(write: Write) -> None:
    write("shop.py", APPLICATION + "again = app\n")
    assert list(load_app(["shop"]).tasks) == ["shop.greet"]


def test_a_module_with_several_applications_lists_them(write: Write) -> None:
    write("shop.py", "from outwork import Outwork\none = Outwork()\ntwo = Outwork()\n")
    assert "shop has several applications. Name one of them:  shop:one, shop:two" in refused(["shop"])
    assert load_app(["shop:two"]) is sys.modules["shop"].two


def test_an_object_may_be_a_factory_or_an_attribute_of_one(write: Write) -> None:
    write("shop.py", APPLICATION + "def make():\n    return app\n\n\nclass holder:\n    inner = app\n")
    app = sys.modules["shop"].app if "shop" in sys.modules else load_app(["shop"])
    assert load_app(["shop:make"]) is app
    assert load_app(["shop:holder.inner"]) is app


def test_a_file_name_is_understood(write: Write) -> None:
    write("shop/tasks.py", TASKS)
    assert list(load_app(["./shop/tasks.py"]).tasks) == ["shop.tasks.greet"]


def test_several_targets_are_all_imported(write: Write) -> None:
    write("shop.py", APPLICATION)
    write("mail.py", "from shop import app\n\n\n@app.task\ndef send() -> None: ...\n")
    write("other.py", "")
    assert list(load_app(["mail", "shop:app", "other"]).tasks) == ["shop.greet", "mail.send"]
    assert "other" in sys.modules


def test_two_applications_are_too_many(write: Write) -> None:
    write("shop.py", APPLICATION)
    write("mail.py", APPLICATION)
    assert "the targets shop, mail mean different applications" in refused(["shop", "mail"])


# ---- without a target -----------------------------------------------------------------------------------------------


def test_the_environment_names_the_application(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("shop.py", APPLICATION)
    write("tasks.py", "raise RuntimeError('not this one')\n")
    monkeypatch.setenv("OUTWORK_APP", "shop:app")
    assert list(load_app().tasks) == ["shop.greet"]


def test_configured_modules_come_next(write: Write) -> None:
    write("outwork.toml", 'modules = ["jobs.one", "jobs.two"]\n')
    write("jobs/one.py", TASKS)
    write("jobs/two.py", TASKS)
    write("tasks.py", "raise RuntimeError('not this one')\n")
    assert list(load_app().tasks) == ["jobs.one.greet", "jobs.two.greet"]


def test_configured_modules_are_imported_beside_targets(write: Write) -> None:
    write("outwork.toml", 'modules = ["jobs"]\n')
    write("jobs.py", TASKS)
    write("more.py", TASKS)
    assert set(load_app(["more"]).tasks) == {"jobs.greet", "more.greet"}


@pytest.mark.parametrize("name", ["tasks.py", "tasks/__init__.py", "app.py", "main.py"])
def test_then_what_is_here(write: Write, name: str) -> None:
    write(name, TASKS)
    assert len(load_app().tasks) == 1


def test_nothing_to_load_says_what_to_do(project: Path) -> None:
    answer = refused()
    assert "OW103 nothing says where the tasks are" in answer
    assert str(project) in answer
    assert "-A shop.tasks" in answer
    assert answer.endswith("outwork init")
    (project / "store.py").write_text("from outwork import task")
    assert "Name the module (-A store)" in refused()
    (project / "manage.py").touch()
    assert refused().endswith("In a Django project:  python manage.py outwork_worker")


def test_nothing_need_be_there_where_only_the_broker_is_wanted(project: Path) -> None:
    assert load_app(need_tasks=False) is outwork.app.default_app


def test_nothing_is_imported_where_the_broker_is_configured(write: Write) -> None:
    write("outwork.toml", 'broker_url = "memory:"\n')
    write("tasks.py", "raise RuntimeError('not needed')\n")
    assert load_app(need_tasks=False).broker.url == "memory:"


# ---- settings -------------------------------------------------------------------------------------------------------


def test_the_command_line_reaches_the_application(write: Write) -> None:
    write("shop.py", APPLICATION)
    write("tasks.py", TASKS)
    app = load_app(["shop"], command_line={"worker.concurrency": 3})
    assert (app.settings.worker.concurrency, app.origins["worker.concurrency"]) == (3, "command line")
    assert load_app(["tasks"], command_line={"broker_url": "dummy:"}).broker.url == "dummy:"


def test_the_file_reaches_the_application(write: Write) -> None:
    write("shop.py", "from outwork import Outwork\n\napp = Outwork()\n")
    path = write("etc/shop.toml", "lease = 12\n")
    assert load_app(["shop"], config=path).settings.lease == 12.0


def test_a_wrong_setting_is_said_before_anything_is_imported(write: Write) -> None:
    write("tasks.py", "raise RuntimeError('not needed')\n")
    write("outwork.toml", "laese = 12\n")
    with pytest.raises(SettingsError, match="laese"):
        load_app()


# ---- what goes wrong ------------------------------------------------------------------------------------------------


def test_a_wrong_name_is_answered_with_the_nearest(write: Write, project: Path) -> None:
    write("shop/tasks.py", TASKS)
    answer = refused(["shop.taks"])
    assert "cannot load \"shop.taks\": No module named 'shop.taks' (did you mean shop.tasks?)" in answer
    assert f"Looked in {project}" in answer
    assert "--app" in answer


def test_the_last_part_of_a_name_is_enough_to_be_understood(write: Write) -> None:
    write("shop/receipts.py", TASKS)
    assert "(did you mean shop.receipts?)" in refused(["receipts"])


def test_a_project_below_src_is_explained(write: Write) -> None:
    write("src/shop/jobs.py", TASKS)
    assert "PYTHONPATH=src" in refused(["shop.jobs"])


def test_a_module_that_fails_shows_its_own_traceback(write: Write, project: Path) -> None:
    write("shop/__init__.py", "")
    write("shop/tasks.py", "def configure():\n    return {}['url']\n\n\nconfigure()\n")
    answer = refused(["shop.tasks"])
    assert 'cannot load "shop.tasks": it fails while it is imported' in answer
    assert f'File "{project}/shop/tasks.py", line 2, in configure' in answer
    assert "KeyError: 'url'" in answer
    assert "importlib" not in answer
    assert "loading.py" not in answer


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import shop_that_is_missing\n", "ModuleNotFoundError: No module named 'shop_that_is_missing'"),
        ("from outwork import tusk\n", "ImportError: cannot import name 'tusk'"),
        ("def (:\n", "SyntaxError"),
        ("import sys\nsys.exit('no database')\n", "SystemExit: no database"),
        ("from outwork import task\n\n@task(priority=1000)\ndef f(): ...\n", "OW110 priority=1000"),
    ],
)
def test_every_failure_inside_is_the_modules_own(write: Write, text: str, said: str) -> None:
    write("tasks.py", text)
    answer = refused(["tasks"])
    assert "it fails while it is imported" in answer
    assert said in answer


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("shop:ap", "shop has no 'ap' (did you mean app?)"),
        ("shop:zzz", "shop has no 'zzz'. For the tasks in it the module is enough:  shop"),
        ("shop:pack", '"shop:pack" is a task. Its module is enough:  shop'),
        ("shop:number", '"shop:number" is a int, not an Outwork'),
        ("shop:number_of", '"shop:number_of" returned a int, not an Outwork'),
        ("shop:needs", "fails when it is called without arguments"),
        ("shop:", "shop has no ''"),
        ("shop tasks", "is not the name of a module"),
        ("", "is not the name of a module"),
    ],
)
def test_objects_that_are_no_application(write: Write, target: str, said: str) -> None:
    write(
        "shop.py",
        APPLICATION
        + "@app.task\ndef pack(): ...\n\nnumber = 5\n\n"
        + "def number_of():\n    return 5\n\ndef needs(x):\n    return app\n",
    )
    assert said in refused([target])


# ---- whether a worker has something to do ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "no broker is configured: tasks run immediately in their callers"),
        ("immediate:", "the broker is immediate:: tasks run immediately"),
        ("dummy:", "jobs are recorded and never run"),
        ("memory:", "jobs stay in the memory of the process"),
    ],
)
def test_a_worker_needs_a_broker_that_processes_share(project: Path, url: str, reason: str) -> None:
    with pytest.raises(NoBroker) as caught:
        check_for_worker(load_app(need_tasks=False, command_line={"broker_url": url}))
    assert reason in str(caught.value)
    assert "OUTWORK_BROKER_URL" in str(caught.value)
