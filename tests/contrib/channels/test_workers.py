"""Workers as processes, on every store: each message once, whatever is sent and whoever is stopped."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from signal import SIGKILL
from typing import Any, Final

import pytest
from channels.routing import ChannelNameRouter, ProtocolTypeRouter

from contrib.channels.conftest import Restartable
from contrib.channels.site_of_thumbs import Site, site_on
from outwork.contrib.channels import OutworkChannelLayer
from outwork.contrib.channels.running import read_channels
from support.waiting import until

IDLE: Final = float(os.environ.get("OUTWORK_TEST_IDLE", "6"))
"""Seconds for which a worker hears nothing: longer than it takes to look again; two minutes on demand."""
MANY: Final = 10_000


def test_three_workers_handle_each_of_ten_thousand_once(site: Site) -> None:
    workers = [site.worker("thumbnails-delete") for _ in range(3)]
    site.send("thumbnails-delete", *({"type": "delete", "number": number} for number in range(MANY)), at_once=50)
    site.until_handled(MANY, "delete", seconds=180)
    assert [worker.stop() for worker in workers] == [0, 0, 0]
    handled = site.handled("delete")
    assert len(handled) == MANY
    assert set(handled.values()) == {1}
    assert len({line[2] for line in site.lines()}) == 3
    assert site.unread("thumbnails-delete") == 0


@pytest.mark.timeout(300 + 2 * IDLE)
def test_a_worker_that_was_idle_is_not_deaf(sites: list[Site]) -> None:
    """Ours and that of Channels on every store, and a receiver in memory."""
    for site in sites:
        site.environ["PYTHONWARNINGS"] = "default"  # Channels' worker passes a lambda to async_to_sync
    ours = [site.manage("outwork_runworker", "thumbnails-generate") for site in sites]
    theirs = [site.manage("runworker", "thumbnails-delete") for site in sites]
    for number in range(2):
        for site in sites:
            site.send_prints(range(number, number + 1))
            site.send("thumbnails-delete", {"type": "delete", "number": number})
        for site in sites:
            site.until_handled(number + 1)
            site.until_handled(number + 1, "delete")
        if number == 0:
            asyncio.run(hear_after_silence())
    assert [worker.stop() for worker in ours] == [0, 0, 0]
    assert not any("ERROR" in worker.text() for worker in ours)
    assert all(worker.process.poll() is None for worker in theirs)


async def hear_after_silence() -> None:
    layer = OutworkChannelLayer("memory:")
    waiting = asyncio.ensure_future(layer.receive("channel"))
    await asyncio.sleep(IDLE)  # silence is what is tested
    await layer.send("channel", {"type": "x"})
    assert await asyncio.wait_for(waiting, 60) == {"type": "x"}


def test_the_store_is_restarted_while_workers_are_idle_and_busy(restartable: Restartable, tmp_path: Path) -> None:
    """At most once, also then: what was in flight may be lost, nothing is handled twice, and nobody stays deaf."""
    with site_on(tmp_path, url=restartable.url) as site:
        workers = [site.worker("thumbnails-generate") for _ in range(2)]
        site.send_prints(range(1))
        site.until_handled(1)
        restartable.restart()
        site.send_prints(range(1, 11))
        site.until_handled(11)
        site.send_prints(range(100, 3000))
        until(lambda: len(site.handled()) > 200, "the workers are at work")
        restartable.restart()
        site.send_prints(range(3000, 3100))
        until(lambda: sum(number >= 3000 for number in site.handled()) == 100, "what came afterwards is handled")
        until(lambda: site.unread() == 0, "nothing is left")
        assert [worker.stop() for worker in workers] == [0, 0]
        assert set(site.handled().values()) == {1}


def test_a_file_is_locked_while_a_worker_is_idle_and_busy(local: Site) -> None:
    """What a restart is to a server, a long transaction of somebody else is to a file."""
    worker = local.worker("thumbnails-generate")
    local.send_prints(range(1))
    local.until_handled(1)
    with locked(local):
        worker.wait_for("locked. Another process holds the file for long. Trying again")
    local.send_prints(range(1, 2001))
    until(lambda: len(local.handled()) > 200, "the worker is at work")
    with locked(local):
        worker.wait_for("Trying again", times=2)
    local.until_handled(2001)
    assert worker.stop() == 0
    assert "connected again" in worker.text()
    assert set(local.handled().values()) == {1}


@contextmanager
def locked(site: Site) -> Iterator[None]:
    with closing(sqlite3.connect(site.folder / "channels.db", timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_sigterm_leaves_a_thousand_unread(site: Site) -> None:
    worker = site.worker("thumbnails-generate")
    site.send("thumbnails-generate", {"type": "slow", "number": 0, "seconds": 1.0})
    until(lambda: ["begun", "0"] in site.lines(), "the handler runs")
    site.send_prints(range(1000))
    assert worker.stop() == 0
    assert list(site.handled("slow")) == [0]
    assert "stopped cleanly" in worker.text()
    done = len(site.handled())
    assert site.unread() == 1000 - done
    site.worker("thumbnails-generate")
    site.until_handled(1000)
    assert [int(line[1]) for line in site.lines() if line[0] == "print"] == list(range(1000))


def test_poison_of_every_kind(local: Site) -> None:
    worker = local.worker("thumbnails-generate", "thumbnails-delete:2", "thumbnails-nobody")
    for poison in (
        {"no type": "secret"},
        {"type": None},
        {"type": 7},
        {"type": ""},
        {"type": "_private"},
        {"type": "no.such.handler"},
        {"type": "test.print"},  # without the number that the handler needs
        {"type": "fail"},
        {"type": "leave"},
        {"type": "interrupt"},
        {"type": "cancel"},
    ):
        for channel in ("thumbnails-generate", "thumbnails-delete"):
            local.send(channel, poison)
    local.send("thumbnails-nobody", {"type": "test.print", "number": 9})
    for number in range(3):
        local.send_prints(range(number, number + 1))
        local.send("thumbnails-delete", {"type": "delete", "number": number})
    local.until_handled(3)
    local.until_handled(3, "delete")
    worker.wait_for("No application configured for channel name 'thumbnails-nobody'")
    assert worker.stop() == 0
    text = worker.text()
    assert text.count("a message of thumbnails-generate has no type") == 4
    assert text.count("message no.such.handler of thumbnails-generate failed, and is lost: ValueError") == 1
    assert "message leave of thumbnails-delete failed, and is lost: SystemExit: 3" in text
    assert "message interrupt of thumbnails-generate failed, and is lost: KeyboardInterrupt" in text
    assert "'secret'" not in text
    assert "(6 handled, 23 failed)" in text


def test_no_more_is_taken_than_is_in_hand(local: Site) -> None:
    """Back-pressure: with a slow handler all but one message stay in the layer, and another worker has them."""
    worker = local.worker("thumbnails-generate")
    free = local.folder / "free"
    local.send("thumbnails-generate", {"type": "hold", "number": 0, "until": str(free)})
    until(lambda: ["begun", "0"] in local.lines(), "the handler runs")
    local.send_prints(range(50))
    assert local.unread() == 50
    other = local.worker("thumbnails-generate")
    local.until_handled(50)
    assert local.handled("held") == {}
    free.touch()
    assert worker.stop() == 0
    assert other.stop() == 0
    assert list(local.handled("held")) == [0]


def test_lanes_handle_several_at_once(local: Site) -> None:
    worker = local.worker("thumbnails-delete:4")
    local.send("thumbnails-delete", *({"type": "nap", "number": number, "seconds": 2.0} for number in range(4)))
    until(lambda: sum(line[0] == "begun" for line in local.lines()) == 4, "all four have begun")
    assert local.handled("nap") == {}
    local.until_handled(4, "nap")
    assert worker.stop() == 0


def test_a_handler_that_does_not_end_is_given_up(local: Site) -> None:
    worker = local.worker("thumbnails-generate", "--grace", "0.5")
    local.send("thumbnails-generate", {"type": "slow", "number": 0, "seconds": 60.0})
    until(lambda: ["begun", "0"] in local.lines(), "the handler runs")
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 30
    assert "1 messages were still being handled" in worker.text()


def test_a_killed_worker_loses_what_it_had_in_hand_only(local: Site) -> None:
    worker = local.worker("thumbnails-generate")
    local.send("thumbnails-generate", {"type": "slow", "number": 0, "seconds": 60.0})
    until(lambda: ["begun", "0"] in local.lines(), "the handler runs")
    local.send_prints(range(20))
    worker.signal(SIGKILL)
    worker.wait()
    local.worker("thumbnails-generate")
    local.until_handled(20)
    assert sum(line == ["begun", "0"] for line in local.lines()) == 1


def test_channels_own_runworker(local: Site) -> None:
    local.environ["PYTHONWARNINGS"] = "default"  # it passes a lambda to async_to_sync
    worker = local.manage("runworker", "thumbnails-generate", "thumbnails-delete")
    local.send_prints(range(100))
    local.send("thumbnails-delete", {"type": "delete", "number": 1})
    local.until_handled(100)
    local.until_handled(1, "delete")
    assert set(local.handled().values()) == {1}
    assert worker.process.poll() is None


def test_the_command_line_finds_the_layer_of_django(local: Site) -> None:
    worker = local.start(sys.executable, "-m", "outwork", "runworker", "thumbs.asgi:application", "thumbnails-generate")
    local.send_prints(range(3))
    local.until_handled(3)
    worker.wait_for("channels thumbnails-generate")
    assert worker.stop() == 0


def test_many_threads_send_by_one_connection(site: Site) -> None:
    """The synchronous helper, from threads with and without an event loop."""
    from outwork.contrib.channels import asend, group_send, send

    async def inside(number: int) -> None:
        await asend("many", {"number": number}, layer=site.layer)
        send("many", {"number": number + 1000}, layer=site.layer)

    def outside(number: int) -> None:
        send("many", {"number": number + 2000}, layer=site.layer)
        asyncio.run(inside(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(outside, range(20)))
    group_send("nobody", {"type": "x"}, layer=site.layer)

    async def receive() -> list[int]:
        return sorted([(await asyncio.wait_for(site.layer.receive("many"), 10))["number"] for _ in range(60)])

    assert asyncio.run(receive()) == [*range(20), *range(1000, 1020), *range(2000, 2020)]


def test_row_H4_views_and_consumers_send(site: Site) -> None:
    """By Channels' `get_channel_layer()` and by ours: views of both kinds, on a server with an event loop and on one
    without, to consumers of both kinds, which send on to each other."""
    worker = site.worker("thumbnails-generate", "thumbnails-delete")
    ports = [
        site.serve("uvicorn", "thumbs.asgi:application", "--port", "PORT", "--lifespan", "off"),
        site.serve("gunicorn", "--bind", "127.0.0.1:PORT", "--no-control-socket", "thumbs.wsgi"),
    ]
    for place, port in enumerate(ports):
        for kind in ("sync", "async"):
            for number, how in enumerate(("channels", "ours"), start=2 * place):
                assert asked(port, f"/{kind}/{how}/{number}") == (200, "sent")
    for kind in ("delete", "print"):
        site.until_handled(4, kind)
    assert worker.stop() == 0
    assert site.handled("delete") == site.handled("print") == Counter(range(4))


def asked(port: int, path: str) -> tuple[int, str]:
    """The status and text of an answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    with closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_status_tells_of_channels(local: Site) -> None:
    local.send_prints(range(3))
    local.send("thumbnails-delete", {"type": "delete", "number": 1})
    local.worker("thumbnails-delete")
    local.until_handled(1, "delete")
    said = local.run(sys.executable, "-m", "django", "outwork", "status")
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.startswith("thumbnails-")}
    assert rows["thumbnails-generate"][:2] == ["3", "never"], said
    assert rows["thumbnails-delete"][0] == "0", said
    assert rows["thumbnails-delete"][2] == "ago", said


def test_at_least_once(local: Site, tmp_path: Path) -> None:
    """The same consumer, on a channel whose messages are jobs: a failure, and the death of a worker, cost nothing."""
    config = {**local.config, "at_least_once": ["thumbnails-delete"], "broker_url": f"sqlite:///{tmp_path}/jobs.db"}
    folder = tmp_path / "durable"
    folder.mkdir()
    good = tmp_path / "good"
    with site_on(folder, **config) as durable:
        durable.send("thumbnails-delete", {"type": "flaky", "number": 1, "until": str(good)})
        assert durable.unread("thumbnails-delete") == 0
        worker = durable.worker("thumbnails-generate", "thumbnails-delete")
        until(lambda: ["attempt", "1"] in durable.lines(), "a first attempt")
        good.touch()
        durable.until_handled(1, "flaky")
        durable.send("thumbnails-delete", {"type": "nap", "number": 2, "seconds": 60.0})
        until(lambda: ["begun", "2"] in durable.lines(), "the handler runs")
        worker.signal(SIGKILL)
        worker.wait()
        again = durable.worker("thumbnails-generate", "thumbnails-delete", "--grace", "0.5")
        until(lambda: durable.lines().count(["begun", "2"]) == 2, "it is handled again", seconds=90)
        durable.send_prints(range(1))
        durable.until_handled(1)
        assert again.stop() == 0
    assert len(durable.handled("attempt")) == 1
    assert durable.handled("attempt")[1] >= 2


def test_a_channel_that_is_not_routed_is_said_at_once(caplog: pytest.LogCaptureFixture) -> None:
    consumer: Any = None
    application = ProtocolTypeRouter({"channel": ChannelNameRouter({"thumbnails-delete": consumer})})
    assert read_channels(["thumbnails-delete:4"], application) == {"thumbnails-delete": 4}
    assert not caplog.records
    assert read_channels(["thumbs"], application) == {"thumbs": 1}
    assert "the application routes no channel thumbs" in caplog.text
    assert "It routes thumbnails-delete" in caplog.text
