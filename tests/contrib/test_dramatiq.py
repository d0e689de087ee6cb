"""Dramatiq applications on our brokers: the same as on Dramatiq's own, and nothing is lost by `kill -9`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import dramatiq
import pytest
from dramatiq.rate_limits import ConcurrentRateLimiter
from dramatiq.results import Results

from outwork.contrib.dramatiq import BarrierBackend, OutworkBackend, OutworkBroker
from support.mariadb_server import shared_mariadb
from support.place import Place, place_in, post
from support.postgres_server import shared_postgres
from support.rabbitmq_server import RabbitServer
from support.redis_server import RedisServer
from support.waiting import until
from support.workers import Running

OURS: Final = {
    "BROKER": "outwork.contrib.dramatiq:OutworkBroker",
    "RESULTS": "outwork.contrib.dramatiq:OutworkBackend",
    "BARRIERS": "outwork.contrib.dramatiq:BarrierBackend",
}
THEIRS: Final = {
    "BROKER": "dramatiq.brokers.redis:RedisBroker",
    "RESULTS": "dramatiq.results.backends.redis:RedisBackend",
    "BARRIERS": "dramatiq.rate_limits.backends.redis:RedisBackend",
}
SEEN: Final = {
    "result": 3,
    "too early": True,
    "still too early": True,
    "delayed": 7,
    "async": 42,
    "retried": 2,
    "asked again": "again",
    "broken": ["ValueError", "vase is broken"],
    "refused": ["KeyError", "'door'"],
    "endless": ["TimeLimitExceeded", ""],
    "pipeline": 26,
    "pipeline's results": [2, 4],
    "group": [2 * n for n in range(20)],
    "completed": [True, 20],
    "group of pipelines": [2 * (n + 1) for n in range(5)],
}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def rabbitmq_url(tmp_path: Path) -> Iterator[str]:
    server = RabbitServer(tmp_path / "rabbitmq")
    yield server.url()
    server.close()


def url_of(name: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """An empty broker."""
    if name in ("dramatiq's redis", "redis"):
        server: RedisServer = request.getfixturevalue("redis")
        server.ask("FLUSHALL")
        return server.url()
    if name == "sqlite":
        return f"sqlite:///{folder}/tasks.db"
    if name == "rabbitmq":
        rabbitmq_url: str = request.getfixturevalue("rabbitmq_url")
        return rabbitmq_url
    database = shared_postgres() if name == "postgresql" else shared_mariadb()
    database.empty()
    return database.url()


def configured(url: str, results: str = "", classes: dict[str, str] = OURS) -> dict[str, str]:
    """The configuration of the application: which broker it has."""
    return {**classes, "BROKER_URL": url, "RESULTS_URL": results or url}


def start(place: Place, application: str = "contrib.counting") -> Running:
    """Dramatiq's own worker."""
    running = place.worker("dramatiq", application, "-p", "1", "-t", "4")
    running.wait_for_line("Worker process is ready for action")
    return running


@pytest.mark.parametrize("name", ["dramatiq's redis", "sqlite", "postgresql", "mysql", "redis", "rabbitmq"])
def test_row_C8_an_application_of_dramatiq_sees_no_difference(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = url_of(name, request, tmp_path)
    results = f"sqlite:///{tmp_path}/results.db" if name == "rabbitmq" else ""
    classes = THEIRS if name == "dramatiq's redis" else OURS
    with place_in(tmp_path, **configured(url, results, classes)) as place:
        running = start(place)
        assert json.loads(place.run("contrib.counting").splitlines()[-1]) == SEEN
        ledger = place.ledger
        until(lambda: sum(ledger.keys("E")[f"note-{n}"] for n in range(50)) == 50, "the end of all notes")
        until(lambda: ledger.count("E", "callback"), "the callback")
        until(lambda: ledger.count("E", "group"), "the callback of the group")
        assert all(ledger.count("E", f"member-{n}") == 1 for n in range(8))
        assert [entry.note for entry in ledger.entries() if entry.key == "callback"] == ["42"]
        assert [entry.note for entry in ledger.entries() if entry.key == "vase" and entry.event == "E"] == ["1 of 1"]
        assert (ledger.count("S", "vase"), ledger.count("S", "door"), ledger.count("E", "endless")) == (2, 1, 1)
        assert len({entry.note for entry in ledger.entries() if entry.key == "flaky"}) == 1  # one message id
        until(lambda: "exceeded its age limit" in running.text(), "the message that is too old")
        assert ledger.count("S", "stale") == 0
        assert running.stop() == 0


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "redis", "rabbitmq"])
def test_row_C8_nothing_is_lost_when_its_worker_is_killed(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    program = """
from contrib.counting import broker, chore
for n in range(40):
    chore.send(f"chore-{n}", 0.15)
for n in range(40, 50):
    chore.send_with_options(args=(f"chore-{n}", 0.05), delay=300)
broker.close()
"""
    url = f"{url_of(name, request, tmp_path)}?lease=300"  # so that no lease runs out: the death itself is noticed
    results = f"sqlite:///{tmp_path}/results.db" if name == "rabbitmq" else ""
    with place_in(tmp_path, **configured(url, results)) as place:
        place.write("produce.py", program)
        place.run("produce")
        ledger = place.ledger
        for killed in range(1, 3):
            running = start(place)
            _in_the_middle(place, ended=6 * killed)
            running.kill_all()
        running = start(place)
        until(lambda: len(ledger.keys("E")) == 50, "the end of all chores", seconds=60)
        assert running.stop() == 0
        at_most = 2 * 4  # killed twice, with four threads
        assert sum(times - 1 for times in ledger.twice().values()) <= at_most
        if name != "rabbitmq":  # which keeps no records
            place.write("look.py", "from contrib.counting import broker\nbroker.join('chores', timeout=60_000)")
            place.run("look")


def _in_the_middle(place: Place, ended: int) -> None:
    """Wait until so many chores have ended, and others run."""
    until(lambda: place.ledger.count("E") >= ended and place.ledger.in_flight(), "work in the middle")


# ---- by configuration alone ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sqlite", "redis"])
def test_row_C8_configuration_alone_moves_an_application(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with place_in(tmp_path, SIGNUP_CONFIG="signup.toml") as place:
        lines = (
            'BROKER = "outwork.contrib.dramatiq:OutworkBroker"',
            f'BROKER_URL = "{url_of(name, request, tmp_path)}"',
            'SITE = "sso.example.org"',
            "SECONDS = 0.2",
        )
        place.write("signup.toml", "\n".join(lines))
        site = place.gunicorn("contrib.signup_site:app", "-w", "2")
        names = [f"user-{n}" for n in range(20)]
        assert {post(site, "/mail", to=name).status for name in names} == {202}
        running = start(place, "contrib.signup_site")
        _in_the_middle(place, ended=4)
        running.kill_all()
        running = start(place, "contrib.signup_site")
        until(lambda: set(place.ledger.keys("E")) == set(names), "the end of all mails")
        assert {entry.note for entry in place.ledger.entries() if entry.event == "E"} == {"sso.example.org"}
        assert running.stop() == 0


def test_workers_of_both_kinds_leave_each_other_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tasks.db"
    with place_in(tmp_path, **configured(url), OUTWORK_BROKER_URL=url) as place:
        place.write("produce.py", "from contrib.counting import note\nnote.send('message')")
        place.write("tasks.py", "import outwork\n@outwork.task\ndef work() -> None: ...")
        place.run("produce")
        place.run("outwork", "enqueue", "tasks.work")
        assert "(1 done, 0 failed, nothing left)" in place.run("outwork", "worker", "tasks", "--drain")
        status = json.loads(place.run("outwork", "status", "--json"))
        assert status["queues"]["dramatiq:default"]["ready"] == 1
        [job] = json.loads(place.run("outwork", "jobs", "ls", "--json", "--task", "dramatiq.note"))["jobs"]
        assert (job["state"], job["queue"]) == ("READY", "dramatiq:default")
        place.run("outwork", "enqueue", "tasks.work")
        running = start(place)
        until(lambda: place.ledger.count("E", "message"), "the message")
        until(lambda: "dramatiq:chores, dramatiq:default" in place.run("outwork", "status"), "its worker in the list")
        assert running.stop() == 0
        status = json.loads(place.run("outwork", "status", "--json"))
        assert status["queues"]["default"]["ready"] == 1
        assert status["workers"] == []


def test_a_worker_lives_through_an_outage_of_its_broker(redis: RedisServer, tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "other", appendonly="yes", appendfsync="always")
    try:
        with place_in(tmp_path, **configured(server.url())) as place:
            place.write(
                "produce.py", "from contrib.counting import chore\nchore.send('before', 2)\nchore.send('also', 2)"
            )
            place.write("more.py", "from contrib.counting import chore\nchore.send('after', 0)")
            running = start(place)
            place.run("produce")
            until(lambda: place.ledger.count("S") == 2, "both chores run")
            server.kill()
            running.wait_for_line("connection error")
            server.start()
            place.run("more")
            until(lambda: place.ledger.count("E", "after"), "what was sent after the outage", seconds=60)
            place.write("look.py", "from contrib.counting import broker\nbroker.join('chores', timeout=30000)")
            place.run("look")
            assert place.ledger.keys("E") == {"before": 1, "also": 1, "after": 1}
            assert running.stop() == 0
    finally:
        server.kill()


def test_a_store_beside_rabbitmq(rabbitmq_url: str, tmp_path: Path) -> None:
    """Results, barriers, `join`, and a flush of what is delayed."""
    broker = OutworkBroker(rabbitmq_url, store_url=f"sqlite:///{tmp_path}/store.db")
    broker.add_middleware(Results(backend=OutworkBackend(broker=broker)))
    mutex = ConcurrentRateLimiter(BarrierBackend(broker=broker), "mutex")
    done: list[int] = []

    @dramatiq.actor(broker=broker, store_results=True)
    def count(n: int) -> int:
        with mutex.acquire():
            done.append(n)
        return n

    worker = dramatiq.Worker(broker, worker_timeout=100, worker_threads=1)
    worker.start()
    try:
        count.send_with_options(args=(9,), delay=900_000)
        broker.flush("default")
        count.send(1)
        message = count.send_with_options(args=(2,), delay=300)
        broker.join("default", timeout=60_000)
        assert done == [1, 2]
        assert message.get_result(backend=broker.get_results_backend()) == 2
    finally:
        worker.stop()
        broker.close()
