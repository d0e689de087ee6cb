"""The service files of docs/deployment.md and of the examples, also with Django's worker in them: what each of them
starts is started, and ended as the file says."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from docs.deployed import (
    DJANGO,
    EXAMPLE,
    OPENRC,
    PAGE,
    ROOT,
    RUNIT,
    RUNIT_LOG,
    SUPERVISORD,
    SYSTEMD,
    TEXTS,
    Machine,
    for_django,
)
from docs.runner import blocks
from outwork.settings import WorkerSettings
from support.redis_server import RedisServer
from support.service_files import (
    DOCKER_STOP,
    Service,
    compose,
    dockerfile,
    kubernetes,
    openrc,
    sections,
    supervisord,
    systemd,
)

ENOUGH: Final = WorkerSettings().grace + 10
"""Seconds that whatever stops a worker has to wait."""
UNIT: Final = EXAMPLE / "deploy" / "alarms-worker.service"
COMPOSE: Final = EXAMPLE / "deploy" / "compose.yaml"

READERS: Final[dict[str, Callable[[str], Service]]] = {
    SYSTEMD: systemd,
    OPENRC: openrc,
    SUPERVISORD: supervisord,
    "Dockerfile": dockerfile,
    "worker.yaml": kubernetes,
}
STOP_TIMEOUT: Final = {
    RUNIT: re.compile(r"`sv -w (\d+) stop"),
    "Dockerfile": re.compile(r"`docker run --stop-timeout (\d+)`"),
}
"""Where the page says how long they wait of which the file cannot say it."""

Change = Callable[[str], str]
both = pytest.mark.parametrize("change", [str, for_django], ids=["shop", "django"])


def read(machine: Machine, name: str, change: Change) -> Service:
    """What the file of this name starts, on this machine."""
    text = machine.here(change(TEXTS[name]))
    if name == RUNIT:
        script = machine.script(machine.folder / "sv" / "run", text)
        return Service([str(script)], said(name))
    service = READERS[name](text)
    return service._replace(patience=said(name)) if name in STOP_TIMEOUT else service


def said(name: str) -> float:
    [seconds] = STOP_TIMEOUT[name].findall(PAGE.read_text())
    return float(seconds)


def works_and_ends(machine: Machine, service: Service, **environ: str) -> str:
    """Start it, end it when it is ready; its log."""
    assert service.patience >= ENOUGH
    with machine.running(service.words, {**service.environ, **environ}) as running:
        running.ready().signal(service.stop)
        assert running.wait(service.patience) == 0
        assert "stopped cleanly" in running.text()
        return running.text()


# ---- what there is ---------------------------------------------------------------------------------------------------


def test_the_page_shows_them_all() -> None:
    assert set(TEXTS) == {*READERS, RUNIT, RUNIT_LOG, "compose.yaml", "wsgi.py"}


def test_the_examples_have_no_others() -> None:
    assert sorted(ROOT.glob("examples/*/deploy/*")) == [UNIT, COMPOSE]


def test_the_lines_for_django_have_a_place_in_each_file() -> None:
    page = PAGE.with_name("django.md").read_text()
    table = [line for line in page.splitlines() if line.startswith("| [") and "deployment.md#" in line]
    shown = {span for line in table for span in re.findall(r"`([^`]+)`", line)}
    files = [for_django(text) for name, text in TEXTS.items() if name not in ("wsgi.py", RUNIT_LOG)]
    assert shown == {
        line.strip() for text in files for line in text.splitlines() if any(new in line for _, new in DJANGO)
    }
    assert all("outwork_worker" in text for text in files)


def test_everybody_waits_as_long_as_the_page_says() -> None:
    page = PAGE.read_text()
    [told] = re.findall(r"must wait longer than `--grace`: (\d+) s below", page)
    waits = re.findall(
        r"(?:TimeoutStopSec=|stopwaitsecs=|SIGTERM/|grace_period: |GracePeriodSeconds: |sv -w |-timeout )(\d+)", page
    )
    assert waits == [told] * 7
    assert float(told) == ENOUGH


# ---- each of them ----------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("name", [*READERS, RUNIT], ids=lambda name: Path(name).name)
def test_what_a_file_starts_works_and_ends_as_it_says(name: str, change: Change, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine = machine.shop() if change is str else machine.alarms()
    environ = {"OUTWORK_BROKER_URL": machine.url} if name in ("Dockerfile", "worker.yaml") and change is str else {}
    text = works_and_ends(machine, read(machine, name, change), **environ)
    if change is str:
        has_variables = "outwork.env" in TEXTS[name]
        assert ("3 slots" in text) is has_variables, "what /etc/shop/outwork.env says"


def test_the_command_of_the_page(tmp_path: Path) -> None:
    [text] = [block.text for block in blocks(PAGE) if block.text.startswith("outwork worker ")]
    machine = Machine(tmp_path).shop()
    said = works_and_ends(machine, Service(shlex.split(text), ENOUGH), OUTWORK_BROKER_URL=machine.url)
    assert said.count("20 slots · worker ") == 2


def test_the_services_of_the_compose_file(tmp_path: Path) -> None:
    machine = Machine(tmp_path).shop()
    services = compose(TEXTS["compose.yaml"])
    assert set(services) == {"worker", "redis"}
    program, *options = services["redis"].words
    assert program == "redis-server"
    settings = {name.removeprefix("--"): value for name, value in zip(options[::2], options[1::2], strict=True)}
    assert settings == {"appendonly": "yes"}
    with redis_in(tmp_path / "redis", **settings) as server:
        works_and_ends(machine, at(server, services["worker"]))


def test_the_compose_file_for_django(tmp_path: Path) -> None:
    worker = compose(for_django(TEXTS["compose.yaml"]))["worker"]
    works_and_ends(Machine(tmp_path).alarms(), worker._replace(environ={}))


def test_the_compose_file_of_the_example(tmp_path: Path) -> None:
    [(name, worker)] = compose(COMPOSE.read_text()).items()
    assert name == "worker"
    with redis_in(tmp_path / "redis") as server:
        text = works_and_ends(Machine(tmp_path).alarms(), at(server, worker))
        assert f"127.0.0.1:{server.port}" in text


@contextmanager
def redis_in(folder: Path, appendonly: str = "no") -> Iterator[RedisServer]:
    server = RedisServer(folder, appendonly=appendonly)
    try:
        yield server
    finally:
        server.kill()


def at(server: RedisServer, worker: Service) -> Service:
    """The worker with a server of our own in the place of the service `redis`."""
    environ = {
        name: re.sub(r"^redis://redis(:6379)?/", f"{server.url()}/", value) for name, value in worker.environ.items()
    }
    assert environ != worker.environ
    return worker._replace(environ=environ)


# ---- systemd ---------------------------------------------------------------------------------------------------------


def hear(ear: socket.socket, word: str) -> tuple[str, int]:
    """Wait until systemd is told something that begins with this word: all of it, and which process says it."""
    while True:
        text, extra, *_ = ear.recvmsg(4096, socket.CMSG_SPACE(12))
        if text.startswith(word.encode()):
            pid, _, _ = struct.unpack("3i", extra[0][2])
            return text.decode(), pid


@pytest.mark.parametrize("name", ["page", "page for django", "example"])
def test_systemd_hears_what_the_unit_says(name: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine = machine.shop() if name == "page" else machine.alarms()
    text = UNIT.read_text() if name == "example" else (for_django if "django" in name else str)(TEXTS[SYSTEMD])
    service, keys = systemd(machine.here(text)), sections(machine.here(text))["Service"]
    assert service.patience >= ENOUGH
    assert keys["WorkingDirectory"] == str(machine.folder)
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    if "WatchdogSec" in keys:
        environ["WATCHDOG_USEC"] = f"{keys['WatchdogSec']}000000"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        ear.bind(environ["NOTIFY_SOCKET"])
        ear.settimeout(60)
        with machine.running(service.words, {**service.environ, **environ}) as worker:
            assert hear(ear, "READY=1")[1] == worker.pid, "NotifyAccess=main: it hears nobody else"
            if "WATCHDOG_USEC" in environ:
                assert hear(ear, "WATCHDOG=1")[1] == worker.pid
            machine.run(*keys["ExecReload"].replace("$MAINPID", str(worker.pid)).split())
            assert hear(ear, "RELOADING=1")[1] == worker.pid
            hear(ear, "READY=1")
            worker.signal(service.stop)
            assert hear(ear, "STOPPING=1")[1] == worker.pid
            assert worker.wait(service.patience) == 0


def test_systemd_does_not_restart_what_cannot_work(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for text in (TEXTS[SYSTEMD], UNIT.read_text()):
        keys = sections(machine.here(text))["Service"]
        assert keys["RestartPreventExitStatus"] == "2"
    machine.run(*systemd(machine.here(TEXTS[SYSTEMD])).words, code=2)  # there are no tasks


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("text", [TEXTS[SYSTEMD], for_django(TEXTS[SYSTEMD]), UNIT.read_text()])
def test_systemd_takes_the_unit(text: str, tmp_path: Path) -> None:
    unit = tmp_path / "shop-worker.service"
    text = re.sub(r"/srv/\w+/.venv/bin/\w+", sys.executable, text)
    unit.write_text(re.sub(r"User=\w+", "User=root", text))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    about_it = [line for line in done.stderr.splitlines() if unit.name in line]
    assert about_it == []


# ---- the others ------------------------------------------------------------------------------------------------------


def test_openrc_reloads_by_a_signal(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    script = machine.script(tmp_path / "shop-worker", TEXTS[OPENRC])
    assert machine.run("sh", "-c", f". {script}; reload") == "shop-worker --signal HUP\n"


def test_docker_alone_does_not_wait_long_enough() -> None:
    assert dockerfile(TEXTS["Dockerfile"]).patience == DOCKER_STOP < ENOUGH <= said("Dockerfile")
