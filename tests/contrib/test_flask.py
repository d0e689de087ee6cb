"""The Flask extension, and rows C1 to C6 and F1 to F3 of the mission: real servers, workers and requests."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path
from signal import SIGTERM

import pytest

from outwork.brokers import SCHEMES, open_broker
from outwork.errors import InvalidURL
from support.place import Place, get, place_in, post
from support.rabbitmq_server import need_rabbitmq, own_url
from support.redis_server import RedisServer
from support.sites import Site
from support.waiting import until

EXAMPLE = Path(__file__).parents[2] / "examples" / "flask-sum"
CONFIG = """
SITE = "sso.example.org"
DATABASE = "identity.db"
GATE = "gate"
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with place_in(tmp_path) as place:
        yield place


@pytest.fixture
def identity(tmp_path: Path) -> Iterator[Place]:
    """A place with the configuration of the identity server, which says nothing of a broker."""
    with place_in(tmp_path, IDENTITY_CONFIG="identity.toml") as place:
        configure(place, "")
        program = "import sqlite3; sqlite3.connect('identity.db').execute('create table sent (address text)')"
        place.write("prepare.py", program)
        place.run("prepare")
        yield place


def configure(place: Place, lines: str) -> None:
    place.write("identity.toml", CONFIG + lines)


def job_state(site: Site, job_id: str) -> str:
    return get(site, f"/job/{job_id}").text


def ended(site: Site, job_id: str) -> str:
    """The state of a job once it has ended."""
    until(lambda: job_state(site, job_id) not in ("READY", "RUNNING"), f"the end of job {job_id}")
    return job_state(site, job_id)


# ---- rows C1 to C6: an identity server -------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["", 'BROKER_URL = ""'])
def test_row_C1_inline_by_default(identity: Place, line: str) -> None:
    configure(identity, line)
    site = identity.gunicorn("contrib.identity:create_app()", "-w", "1")
    answer = post(site, "/mail", to="ada")
    assert answer.status == 202
    assert identity.ledger.count("S", "ada") == 1  # before the request returned
    assert job_state(site, answer.text) == "SUCCESSFUL sso.example.org: ada"
    failed = post(site, "/mail", to="flaky")  # one attempt; the request goes on, the error is in the result and the log
    assert (failed.status, job_state(site, failed.text)) == (202, "FAILED")
    assert "the mail server is down" in site.text()


URLS = {
    "redis://localhost:6379": "RedisBroker",
    "rediss://localhost": "RedisBroker",
    "redis://user:pw@host:6379/0": "RedisBroker",
    "unix:///run/redis.sock": "RedisBroker",
    "amqp://localhost": "RabbitBroker",
    "amqps://localhost": "RabbitBroker",
    "amqp://guest:guest@localhost:5672/?heartbeat=30&connection_timeout=10": "RabbitBroker",
    "sqlite://broker.sqlite": "SQLiteBroker",
    "sqlite:////srv/broker.sqlite": "SQLiteBroker",
}


@pytest.mark.parametrize("url", URLS)
def test_row_C2_the_url_picks_the_broker(url: str) -> None:
    scheme = url.partition(":")[0]
    if scheme not in SCHEMES:
        pytest.skip(f"no broker of this release has the scheme {scheme}")
    broker = open_broker(url)
    assert type(broker).__name__.startswith(URLS[url].removesuffix("Broker"))
    broker.close()
    with pytest.raises(InvalidURL, match=r"unknown option colour.*Known options"):
        open_broker(f"{url}{'&' if '?' in url else '?'}colour=red")


def test_row_C2_an_unknown_scheme_stops_the_application_before_its_first_request(identity: Place) -> None:
    configure(identity, 'BROKER_URL = "http://localhost"')
    said = identity.ends(2, "contrib.identity", "worker")
    assert "no broker for the scheme 'http'" in said
    assert re.search(r"Known schemes: .*redis, .*sqlite", said)
    assert "Traceback" not in said


def test_row_C2_on_a_file(identity: Place) -> None:
    configure(identity, 'BROKER_URL = "sqlite://broker.sqlite"')
    mails_are_sent(identity)
    assert (identity.folder / "broker.sqlite").exists()


def test_row_C2_on_redis(identity: Place, tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    try:
        configure(identity, f'BROKER_URL = "{server.url(path="/3")}"')
        mails_are_sent(identity)
        assert server.ask("INFO", "keyspace").keys() == {"db3"}
    finally:
        server.stop()


def test_row_C2_on_rabbitmq(identity: Place) -> None:
    with_rabbitmq()
    configure(identity, f'BROKER_URL = "{own_url()}"')
    worker = identity.worker("contrib.identity", "worker")
    site = identity.gunicorn("contrib.identity:create_app()", "-w", "1")
    assert post(site, "/mail", to="ada").status == 202
    until(lambda: identity.ledger.count("S", "ada"), "the mail")
    assert worker.stop() == 0


def with_rabbitmq() -> None:
    if "amqp" not in SCHEMES:
        pytest.skip("no broker of this release has the scheme amqp")
    need_rabbitmq()


def mails_are_sent(identity: Place) -> None:
    """The application enqueues and answers at once; a worker of its own command line does the rest, also a retry."""
    site = identity.gunicorn("contrib.identity:create_app()", "-w", "1")
    jobs = {to: post(site, "/mail", to=to).text for to in ("ada", "flaky")}
    jobs["bob"] = post(site, "/mail", to="bob", how="async").text
    assert identity.ledger.count("S") == 0
    assert job_state(site, jobs["ada"]) == "READY"
    worker = identity.worker("contrib.identity", "worker")
    for to, job_id in jobs.items():
        assert ended(site, job_id) == f"SUCCESSFUL sso.example.org: {to}"
    assert identity.ledger.keys("S") == {"ada": 1, "flaky": 2, "bob": 1}
    assert worker.stop() == 0
    assert site.stop() == 0


MINE = """
from pathlib import Path
from outwork.brokers.sql.sqlite import SQLiteBroker

class Mine(SQLiteBroker):
    @classmethod
    def from_url(cls, url, terms=None):
        Path("chosen").write_text(url)
        return super().from_url("sqlite:///mine.db", terms)
"""


def test_row_C3_a_class_beats_the_guess(identity: Place) -> None:
    identity.write("mine.py", MINE)
    configure(identity, 'BROKER = "mine:Mine"\nBROKER_URL = "redis://nowhere"')
    mails_are_sent(identity)
    assert (identity.folder / "chosen").read_text() == "redis://nowhere"
    assert (identity.folder / "mine.db").exists()


@pytest.mark.parametrize(
    ("driver", "url", "extra"),
    [
        ("redis", "redis://localhost", "redis"),
        ("pika", "amqp://localhost", "rabbitmq"),
        ("psycopg", "postgresql://localhost/shop", "postgres"),
        ("pymysql", "mysql://localhost/shop", "mysql"),
    ],
)
def test_row_C4_a_missing_driver_names_its_extra(identity: Place, driver: str, url: str, extra: str) -> None:
    if url.partition(":")[0] not in SCHEMES:
        pytest.skip(f"no broker of this release for {url}")
    identity.write(f"{driver}.py", f"raise ModuleNotFoundError('no {driver}', name='{driver}')")
    configure(identity, f'BROKER_URL = "{url}"')
    said = identity.ends(2, "contrib.identity", "worker")
    assert f"pip install 'outwork[{extra}]'" in said
    assert extra in (metadata("outwork").get_all("Provides-Extra") or [])


def test_row_C5_the_worker_of_an_application(identity: Place) -> None:
    configure(identity, 'BROKER_URL = "sqlite:///tasks.db"')
    worker = identity.worker(
        *("contrib.identity", "worker", "--processes", "2", "--threads", "4", "--queues", "mail,default", "--verbose")
    ).ready(2)
    for line in ("queues mail, default", "contrib.identity.send_mail(to", "contrib.identity.provision("):
        worker.wait_for_line(line, times=2)
    assert len(worker.worker_pids()) == 2
    flask = ("flask", "--app", "contrib.identity", "outwork")
    job_id = identity.run(*flask, "enqueue", "provision", "ada").split()[1]
    until(lambda: identity.ledger.count("S", "ada"), "the start of the job")
    worker.signal(SIGTERM)
    identity.write("gate", "")
    assert worker.wait() == 0
    assert identity.ledger.count("E", "ada") == 1
    assert '"SUCCESSFUL"' in identity.run(*flask, "jobs", "show", job_id, "--json")


def test_row_C5_the_processes_that_the_configuration_says(identity: Place) -> None:
    configure(identity, 'BROKER_URL = "sqlite:///tasks.db"\nBROKER_WORKER = { PROCESSES = 2, GRACE = "3s" }')
    worker = identity.worker("contrib.identity", "worker").ready(2)
    assert len(worker.worker_pids()) == 2
    assert worker.stop() == 0


def test_row_C5_a_configuration_that_is_missing(identity: Place) -> None:
    said = identity.ends(2, "contrib.identity", "worker")
    assert "OW132 no broker is configured" in said


def test_row_C6_the_application_context(identity: Place) -> None:
    """Each attempt has one of its own: `g` is empty, the database is opened and closed, whatever the end."""
    configure(identity, 'BROKER_URL = "sqlite:///tasks.db"')
    flask = ("flask", "--app", "contrib.identity", "outwork")
    for to in ("ada", "bob", "flaky"):
        identity.run(*flask, "enqueue", "send_mail", to)
    identity.run(*flask, "enqueue", "send_later", "eve")
    identity.run(*flask, "worker", "--drain")
    until(lambda: identity.run(*flask, "worker", "--drain"), "the retry")
    assert identity.ledger.keys("S") == {"ada": 1, "bob": 1, "flaky": 2, "eve": 1}
    notes = [entry.note for entry in identity.ledger.entries() if entry.key == "teardown"]
    assert sorted(notes) == ["the mail server is down", "well", "well", "well", "well"]


@pytest.mark.parametrize("broker", ["thread:", "process:?children=1", "sqlite:///tasks.db?embedded=true"])
def test_row_C6_inside_the_web_server(identity: Place, broker: str) -> None:
    configure(identity, f'BROKER_URL = "{broker}"')
    site = identity.gunicorn("contrib.identity:create_app()", "-w", "1", "--preload")
    jobs = {to: post(site, "/mail", to=to).text for to in ("ada", "bob", "flaky")}
    for to, job_id in jobs.items():
        assert ended(site, job_id) == f"SUCCESSFUL sso.example.org: {to}"
    assert site.stop() == 0


def test_row_C6_a_worker_without_the_application_says_what_to_do(identity: Place) -> None:
    configure(identity, 'BROKER_URL = "sqlite:///tasks.db"')
    identity.run("flask", "--app", "contrib.identity", "outwork", "enqueue", "send_mail", "ada")
    worker = identity.worker("outwork", "worker", "contrib.identity", "--broker", "sqlite:///tasks.db")
    worker.wait_for_line("outwork worker shop:create_app")
    assert worker.stop() == 0
    again = identity.worker("outwork", "worker", "contrib.identity:create_app")
    until(lambda: identity.ledger.count("S", "ada"), "the mail, after the pause for its failures", seconds=100)
    assert again.stop() == 0


# ---- rows F1 to F3: Flask --------------------------------------------------------------------------------------------


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Place]:
    for path in EXAMPLE.glob("*.py"):
        shutil.copy(path, tmp_path)
    with place_in(tmp_path) as place:
        yield place


def test_row_F1_form_values_are_summed(example: Place) -> None:
    environ = {"OUTWORK_BROKER_URL": "sqlite:///tasks.db", "PYTHONPATH": "."}
    site = example.site("-m", "flask", "--app", "app", "run", "--port", "PORT", **environ)
    assert post(site, "/", x=1, y=2) == (202, "Deferred")
    assert post(site, "/mail", to="ada@example.org") == (202, "Deferred")
    worker = example.worker("outwork", "worker", "tasks", **environ)
    worker.wait_for_line("The sum of 1 and 2 is 12.")
    worker.wait_for_line("attempt 1 failed")  # its mail server does not answer the first time
    worker.wait_for_line("Mail to ada@example.org sent.")
    assert worker.stop() == 0


def test_row_F2_redis_with_reload(example: Place, tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    try:
        reloads(example, OUTWORK_BROKER_URL=server.url())
    finally:
        server.stop()


def test_row_F2_rabbitmq_by_a_variable_of_the_application(example: Place) -> None:
    with_rabbitmq()
    reloads(example, RABBITMQ_URL=own_url())


def reloads(example: Place, **environ: str) -> None:
    """A worker for development takes the code as it is after a change."""
    site = example.site("-m", "flask", "--app", "app", "run", "--port", "PORT", **environ)
    worker = example.worker("flask", "--app", "app", "outwork", "worker", "--reload", **environ).ready()
    assert post(site, "/", x=1, y=2) == (202, "Deferred")
    worker.wait_for_line("The sum of 1 and 2 is 12.")
    source = (example.folder / "tasks.py").read_text()
    example.write("tasks.py", source.replace("The sum of", "Behold: the sum of"))
    worker.ready(2)
    worker.wait_for_line("stopped cleanly")  # until then the one with the old code may take a job
    assert post(site, "/", x=3, y=4) == (202, "Deferred")
    worker.wait_for_line("Behold: the sum of 3 and 4 is 34.")
    assert worker.stop() == 0


SHOP = """
from flask import Flask, current_app
from outwork import Outwork as Tasks
from outwork.contrib.flask import Outwork

tasks = Tasks()
queue = Outwork(tasks=tasks)

@tasks.task
def greet(name: str) -> str:
    print(f"{current_app.config['GREETING']} {name}", flush=True)
    return current_app.name

def create_app(greeting="Hello"):
    app = Flask("shop", root_path=".")
    app.config.from_prefixed_env()
    app.config["GREETING"] = greeting
    queue.init_app(app)
    app.add_url_rule("/<name>", view_func=lambda name: (greet.enqueue(name).id, 202))
    return app
"""


@pytest.mark.parametrize("named", ["shop", "shop:create_app", "shop:create_app('Salut')", "./shop.py"])
def test_row_F3_flask_names_its_application_as_it_likes(place: Place, named: str) -> None:
    place.write("shop.py", SHOP)
    environ = {"FLASK_OUTWORK__BROKER_URL": "sqlite:///tasks.db", "FLASK_OUTWORK_WORKER__CONCURRENCY": "3"}
    site = place.site("-m", "flask", "--app", named, "run", "--port", "PORT", **environ)
    job_id = get(site, "/Ada").text
    assert "sqlite:///tasks.db" not in place.run("flask", "--app", named, "outwork", "tasks", **environ)
    status = place.run("flask", "--app", named, "outwork", "status", **environ)
    assert f"flask --app {shlex.quote(named)} outwork worker\n" in status
    assert "flask outwork worker\n" in place.run("flask", "outwork", "status", FLASK_APP=named, **environ)
    worker = place.worker("flask", "--app", named, "outwork", "worker", "--drain", **environ)
    assert worker.wait() == 0
    assert "3 slots" in worker.text()
    assert f"{'Salut' if 'Salut' in named else 'Hello'} Ada" in worker.text()
    shown = place.run("flask", "outwork", "jobs", "show", job_id, "--payload", FLASK_APP=named, **environ)
    assert "shop" in shown


def test_row_F3_two_applications_in_one_process(place: Place) -> None:
    for name in ("one", "two"):
        place.write(f"{name}.py", SHOP.replace('"shop"', f'"{name}"'))
    place.write(
        "both.py",
        "import one, two\n"
        "from werkzeug.middleware.dispatcher import DispatcherMiddleware\n"
        "first = one.create_app('Hello'); second = two.create_app('Salut')\n"
        "app = DispatcherMiddleware(first, {'/two': second})\n",
    )
    site = place.gunicorn("both:app", "-w", "1", FLASK_OUTWORK_BROKER_URL="thread:")
    get(site, "/Ada")
    get(site, "/two/Bob")
    until(lambda: "Hello Ada" in site.text() and "Salut Bob" in site.text(), "both greetings")
    assert site.stop() == 0
