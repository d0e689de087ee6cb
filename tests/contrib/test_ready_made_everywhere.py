"""Row C7 of the mission on every broker, in Django and in FastAPI: mail, text messages and provisioning are tried again
while the other side is away, done once when it is back, and given up at once when it refuses for good."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from contrib.three_kinds import Kinds
from outwork import Outwork
from support.mail_server import MailServer
from support.mariadb_server import shared_mariadb
from support.place import Place, place_in, post
from support.postgres_server import shared_postgres
from support.rabbitmq_server import own_url
from support.redis_server import RedisServer
from support.scim_server import ScimServer
from support.smpp_server import INVALID_DESTINATION, SmppServer
from support.waiting import until

NAMES = {"outwork.mail", "outwork.sms", "outwork.provisioning"}


class World(NamedTuple):
    """A place for programs, and the servers on the other side, which are away."""

    place: Place
    mail: MailServer
    texts: SmppServer
    wiki: ScimServer


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    mail, texts, wiki = MailServer(), SmppServer(), ScimServer("a-token")
    ports = {"MAIL_PORT": str(mail.port), "SMS_PORT": str(texts.port), "SCIM_URL": wiki.url}
    for name, value in ports.items():
        monkeypatch.setenv(name, value)
    for server in (mail, texts, wiki):
        server.stop()
    try:
        with place_in(tmp_path, **ports) as place:
            yield World(place, mail, texts, wiki)
    finally:
        for server in (mail, texts, wiki):
            server.stop()


def all_three(world: World, tell: Callable[[str], object], said: Callable[[], str]) -> None:
    """`tell` enqueues one job of each kind, `said` is what the worker has logged."""

    def of(what: str) -> list[str]:
        """The tasks of which the worker has said this, one name for each time."""
        return re.findall(rf"(?:✗|✓) (outwork\.\w+) \S+ .*{what}", said())

    tell("ada")
    until(lambda: set(of("attempt 1 failed")) == NAMES, "a first attempt of all that fails", seconds=60)
    for server in (world.mail, world.texts, world.wiki):
        server.start()
    until(lambda: sorted(of("waited")) == sorted(NAMES), "the good end of all", seconds=60)
    world.mail.answers["bob@example.org"] = "550 5.1.1 no such user"
    world.texts.statuses = [INVALID_DESTINATION]
    world.wiki.trouble = [("403 Forbidden", [])]
    tell("bob")
    until(lambda: set(of("FAILED after 1 attempt: ")) == NAMES, f"refusals for good:\n{said()}")
    assert "refused" in said()
    assert sorted(of("FAILED")) == sorted(NAMES)
    assert "550 5.1.1 no such user" in said()
    assert [mail.recipients for mail in world.mail.mails] == [("ada@example.org",)]
    assert [text.octets for text in world.texts.messages] == [b"Hello ada"]
    assert world.wiki.names() == {"ada": "ada"}
    assert "secret" not in said()
    assert "a-token" not in said()


def on(world: World, broker_url: str, store_url: str | None = None) -> None:
    """The three kinds, enqueued here, on a worker of these URLs."""
    urls = {"OUTWORK_BROKER_URL": broker_url} | ({} if store_url is None else {"OUTWORK_STORE_URL": store_url})
    worker = world.place.worker("outwork", "worker", "contrib.kinds_for_a_worker", **urls)
    with closing(Outwork(broker_url=broker_url, store_url=store_url)) as app:
        all_three(world, Kinds(app).tell, worker.text)
    assert worker.stop() == 0, worker.text()
    assert re.search(r"stopped cleanly \(\d+ done, 3 failed", worker.text())


def test_row_C7_on_redis(world: World, tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    try:
        on(world, server.url())
    finally:
        server.stop()


def test_row_C7_on_postgresql(world: World) -> None:
    on(world, shared_postgres().url())


def test_row_C7_on_mariadb(world: World) -> None:
    on(world, shared_mariadb().url())


def test_row_C7_on_rabbitmq(world: World, tmp_path: Path) -> None:
    """Alone, and with a store beside it."""
    on(world, own_url())
    world.mail.mails.clear()
    world.texts.messages.clear()
    world.wiki.storage.resources.clear()
    for side in (world.mail, world.texts, world.wiki):
        side.stop()
    on(world, own_url(), f"sqlite:///{tmp_path}/store.db")


DJANGO = """
import django
SECRET_KEY = "only for tests"
USE_TZ = True
INSTALLED_APPS = ["outwork.contrib.django", "shop", *([] if django.VERSION >= (6,) else ["django_tasks"])]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3",
    "OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"}}}
TASKS = {"default": {"BACKEND": "outwork.contrib.django.DatabaseBackend"}}
"""


def test_row_C7_in_django(world: World) -> None:
    place = world.place
    place.write("shop/__init__.py", "")
    place.write(
        "shop/tasks.py",
        "from contrib.three_kinds import Kinds\nfrom outwork.contrib.django import app_of\nkinds = Kinds(app_of())\n",
    )
    place.write("site_settings.py", DJANGO)
    chosen = {"DJANGO_SETTINGS_MODULE": "site_settings"}
    place.run("django", "migrate", "-v0", **chosen)
    place.write(
        "tell.py",
        "import sys, django\ndjango.setup()\nfrom django.db import transaction\nfrom shop.tasks import kinds\n"
        "with transaction.atomic():\n    kinds.tell(sys.argv[1])\n",
    )
    worker = place.worker("django", "outwork_worker", **chosen)
    all_three(world, lambda who: place.run("tell", who, **chosen), worker.text)
    assert worker.stop() == 0, worker.text()
    assert "Traceback" not in re.sub(r"(?s)✗ .*?\n(?=\d\d:\d\d:\d\d )", "", worker.text())


FASTAPI = """
import logging
from fastapi import FastAPI
from outwork import Outwork
from outwork.contrib.fastapi import lifespan_of
from contrib.three_kinds import Kinds

logging.basicConfig(level=logging.INFO)
tasks = Outwork(broker_url="sqlite:///tasks.db?embedded=true")
kinds = Kinds(tasks)
app = FastAPI(lifespan=lifespan_of(tasks))


@app.post("/people", status_code=202)
async def sign_up(name: str) -> str:
    await kinds.atell(name)
    return name
"""


def test_row_C7_in_fastapi(world: World) -> None:
    """By the worker inside the web process."""
    world.place.write("people.py", FASTAPI)
    site = world.place.uvicorn("people:app")

    def tell(who: str) -> None:
        assert post(site, f"/people?name={who}").status == 202, site.text()

    all_three(world, tell, site.text)
