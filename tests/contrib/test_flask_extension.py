"""The Flask extension: its state, its settings, contexts of attempts, what is missing; and Quart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM

import pytest
from flask import Flask, current_app, g, url_for

import outwork
from outwork import TaskFailed
from outwork.contrib.flask import Outwork, read_config
from outwork.errors import DeclarationError, SettingsError
from outwork.testing import inline
from support.place import Place, get, place_in


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with place_in(tmp_path) as place:
        yield place


def make(**config: object) -> tuple[Flask, outwork.Outwork]:
    app, tasks = Flask(__name__), outwork.Outwork()
    app.config.from_mapping(config)
    Outwork(app, tasks=tasks)
    return app, tasks


def test_the_state_is_in_the_extensions() -> None:
    app, tasks = make(OUTWORK_BROKER_URL="dummy:")
    assert app.extensions["outwork"] is tasks
    assert tasks.settings.broker_url == "dummy:"
    with pytest.raises(DeclarationError, match="has an Outwork already"):
        Outwork(app, tasks=outwork.Outwork())


@pytest.mark.parametrize(
    ("prefix", "config", "expected"),
    [
        ("OUTWORK", {"OUTWORK_BROKER_URL": "dummy:"}, {"broker_url": "dummy:"}),
        ("OUTWORK", {"OUTWORK_WORKER__GRACE": "5s"}, {"worker.grace": "5s"}),
        ("OUTWORK", {"OUTWORK_WORKER": {"GRACE": 5}}, {"worker.grace": 5}),
        (
            "OUTWORK",
            {"OUTWORK": {"BROKER_URL": "dummy:", "WORKER": {"GRACE": 5}}},
            {"broker_url": "dummy:", "worker.grace": 5},
        ),
        ("OUTWORK", {"OUTWORK_QUEUES": "mail, default"}, {"queues": ["mail", "default"]}),
        ("OUTWORK", {"OUTWORK_WORKER": {"TYPE": "redis", "REDIS_DB": "2"}}, {"broker_url": "redis://127.0.0.1:6379/2"}),
        ("BROKER", {"BROKER_URL": "dummy:", "BROKER": "mine:Mine"}, {"broker_url": "dummy:", "broker": "mine:Mine"}),
        ("BROKER", {"BROKER_BROKER_URL": "dummy:", "BROKERS": 3}, {"broker_url": "dummy:"}),
        ("SHOP_TASKS", {"SHOP_TASKS_URL": "dummy:", "OUTWORK_URL": "no"}, {"broker_url": "dummy:"}),
    ],
)
def test_the_keys_of_a_configuration(prefix: str, config: dict[str, object], expected: dict[str, object]) -> None:
    assert read_config(config, prefix) == expected


def test_a_key_that_is_not_known_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r'worker.concurency.*did you mean "worker.concurrency"'):
        make(OUTWORK_WORKER__CONCURENCY=3)


def test_a_context_of_its_own_for_each_attempt() -> None:
    app, tasks = make(SITE="x")
    torn: list[object] = []
    app.teardown_appcontext(lambda error: torn.append(g.get("n")))

    @tasks.task(name="count")
    def count(fail: bool) -> str:
        g.n = g.get("n", 0) + 1
        if fail:
            raise ValueError("no")
        return f"{current_app.config['SITE']}{g.n}"

    with app.app_context():
        g.n = 41
        assert count.enqueue(False).get() == "x1"
        assert count.enqueue(False).get() == "x1"
        with pytest.raises(TaskFailed, match="no"):
            count.enqueue(True).get()
        assert g.n == 41
    assert torn == [1, 1, 1, 41]


def test_urls_need_a_server_name_and_are_made_of_it() -> None:
    app, tasks = Flask(__name__), outwork.Outwork()
    extension = Outwork(tasks=tasks, request_context=True)
    with pytest.raises(SettingsError, match="SERVER_NAME"):
        extension.init_app(app)
    app.config.from_mapping(SERVER_NAME="shop.example.org", PREFERRED_URL_SCHEME="https", APPLICATION_ROOT="/app")
    app.add_url_rule("/item", "item")
    extension.init_app(app)
    where = tasks.task(name="where")(lambda: f"{url_for('item')} {url_for('item', _external=True)}")
    assert where.enqueue().get() == "/app/item https://shop.example.org/app/item"


def test_without_a_request_context_urls_are_made_of_the_server_name_as_well() -> None:
    app, tasks = make(SERVER_NAME="shop.example.org")
    app.add_url_rule("/item", "item")
    where = tasks.task(name="where")(lambda: url_for("item"))
    assert where.enqueue().get() == "http://shop.example.org/item"


def test_an_application_for_each_test(caplog: pytest.LogCaptureFixture) -> None:
    """A suite creates its application anew for each test, with other settings, and enqueues meanwhile."""
    tasks = outwork.Outwork()
    extension = Outwork(tasks=tasks)
    name = tasks.task(name="name")(lambda: str(current_app.config["NAME"]))
    for number, url in enumerate(["immediate:", "immediate:", "immediate:?keep=60"]):
        app = Flask(__name__)
        app.config.from_mapping(NAME=number, OUTWORK_BROKER_URL=url)
        extension.init_app(app)
        assert name.enqueue().get() == str(number)
        assert tasks.settings.broker_url == url
        with inline(tasks):
            assert name.enqueue().get() == str(number)
    assert caplog.messages == []
    extension.init_app(Flask("another"))
    assert "give each an outwork.Outwork() of its own" in caplog.text


def test_a_task_that_misses_its_application_is_told_so() -> None:
    tasks = outwork.Outwork()
    Outwork(tasks=tasks)
    needs = tasks.task(name="needs")(lambda: current_app.name)
    needs_not = tasks.task(name="needs_not")(lambda: 3)
    with pytest.raises(TaskFailed, match="this process has created none"):
        needs.enqueue().get()
    assert needs_not.enqueue().get() == 3


def test_an_application_without_the_extension(place: Place) -> None:
    place.write(
        "bare.py",
        "from flask import Flask\nfrom outwork.contrib.flask import worker_command\napp = Flask('bare')\n"
        "app.cli.add_command(worker_command)\n",
    )
    assert "OW103 the application 'bare' has no Outwork" in place.ends(2, "flask", "--app", "bare", "worker")


def test_a_factory_without_a_name(place: Place) -> None:
    place.write(
        "anonymous.py",
        "from flask import Flask\nfrom flask.cli import FlaskGroup\n"
        "from outwork.contrib.flask import Outwork, worker_command\n"
        "def create():\n    app = Flask('a')\n    Outwork(app)\n    return app\n"
        "cli = FlaskGroup(create_app=lambda: create())\ncli.add_command(worker_command)\ncli()\n",
    )
    assert "set FLASK_APP=module:function" in place.ends(2, "anonymous", "worker")


def test_without_flask(place: Place) -> None:
    place.write("program.py", "import sys\nsys.modules['flask'] = None\nimport outwork.contrib.flask\n")
    assert "pip install flask" in place.ends(1, "program")


QUART = """
from quart import Quart, current_app
from outwork import task
from outwork.contrib.flask import Outwork

@task
async def greet(name: str) -> str:
    return f"{current_app.name} greets {name}"

@task
def plain(name: str) -> str:
    return f"hello {name}"

def create_app():
    app = Quart("site")
    app.config.from_prefixed_env()
    Outwork(app)
    return app

app = create_app()

@app.get("/<how>/<name>")
async def enqueue(how, name):
    result = await (greet if how == "greet" else plain).aenqueue(name)
    return await result.aget(timeout=60)
"""


def test_quart(place: Place) -> None:
    """The application context for `async def` tasks, the embedded worker at start-up, the command line."""
    pytest.importorskip("quart")
    place.write("site_.py", QUART)
    site = place.uvicorn("site_:app", QUART_OUTWORK_BROKER_URL="thread:")
    assert get(site, "/greet/Ada").text == "site greets Ada"
    assert get(site, "/plain/Ada").text == "hello Ada"
    assert site.stop() == -SIGTERM  # as uvicorn ends, once all is shut down
    environ = {"QUART_OUTWORK_BROKER_URL": "sqlite:///tasks.db"}
    place.run("quart", "--app", "site_", "outwork", "enqueue", "greet", "Bob", **environ)
    worker = place.worker("quart", "--app", "site_", "outwork", "worker", "--drain", **environ)
    assert worker.wait() == 0
    assert "1 done, 0 failed" in worker.text()
