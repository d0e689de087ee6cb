"""Real supervisors with the files of docs/deployment.md: they start a worker that was killed again, and end it in good
order. The paths and the user are those of this machine."""

from __future__ import annotations

import getpass
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest

from docs.deployed import BIN, PAGE, RUNIT, RUNIT_LOG, SUPERVISORD, TEXTS, Machine
from support.programs import find
from support.waiting import until
from support.workers import Running, alive, descendants, send

BASE = """\
[unix_http_server]
file={folder}/sock

[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{folder}/sock

"""
"""What a distribution's supervisord.conf has around the files of conf.d."""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path).shop()


def killed_and_back(machine: Machine, supervisor: Running, worker: int, log: Path) -> None:
    """Kill the worker: another one comes, does what was enqueued meanwhile, and has a job in hand."""
    machine.enqueue("shop.tasks.pack", "first")
    until(lambda: machine.ledger.count("S", "first"), "the first job")
    assert worker in supervisor.descendants()
    killed = [worker, *descendants(worker)]
    send(worker, SIGKILL)
    machine.enqueue("shop.tasks.pack", "second")
    until(lambda: log.read_text().count("slots · worker ") == 2, "a second worker")
    until(lambda: machine.ledger.count("S", "second"), "the job that was enqueued meanwhile")
    until(lambda: not any(map(alive, killed)), "the end of all that the first one started")
    machine.enqueue("shop.tasks.carry", "last", "1.0")
    until(lambda: machine.ledger.count("S", "last"), "a job that runs")


def supervised(machine: Machine, program: str) -> tuple[list[str], Callable[..., str]]:
    """The command of a supervisord with this program, and its supervisorctl."""
    config = machine.folder / "supervisord.conf"
    config.write_text(BASE.format(folder=machine.folder) + program.replace("user=shop", f"user={getpass.getuser()}"))

    def control(*words: str, code: int = 0) -> str:
        return machine.run(str(BIN / "supervisorctl"), "-c", str(config), *words, code=code)

    return [str(BIN / "supervisord"), "-c", str(config)], control


def test_supervisord(machine: Machine) -> None:
    words, control = supervised(machine, machine.here(TEXTS[SUPERVISORD]))
    log = machine.folder / "log" / "shop-worker.log"
    with machine.running(words, {}) as supervisor:
        until(lambda: log.exists() and "slots · worker " in log.read_text(), "a worker that is ready")
        supervisor.wait_for_line("shop-worker entered RUNNING state")
        killed_and_back(machine, supervisor, int(control("pid", "shop-worker")), log)
        assert control("stop", "shop-worker") == "shop-worker: stopped\n"
        assert "stopped: shop-worker (exit status 0)" in supervisor.text()
        assert machine.ledger.count("E", "last") == 1, "it was let end"
        assert "done, 0 failed)" in log.read_text().splitlines()[-1]
        assert "STOPPED" in control("status", "shop-worker", code=3)
        assert supervisor.stop() == 0


def test_supervisord_in_a_container_passes_the_log_on(machine: Machine) -> None:
    lines = re.findall(r"`(stdout_logfile\S+)`", PAGE.read_text())
    text = re.sub(r"stdout_logfile=.*", "\n".join(lines), machine.here(TEXTS[SUPERVISORD]))
    words, _ = supervised(machine, text)
    with machine.running(["sh", "-c", f"{shlex.join(words)} | cat"], {}) as piped:
        piped.ready()
        send(int((machine.folder / "supervisord.pid").read_text()), SIGTERM)
        assert piped.wait() == 0
        assert "stopped cleanly" in piped.text()


@pytest.mark.skipif(find("runsv") is None, reason="runit is not installed")
def test_runit(machine: Machine) -> None:
    runsv, sv, svlogd = (found for name in ("runsv", "sv", "svlogd") if (found := find(name)))
    shutil.copy(svlogd, machine.folder / "bin")
    service = machine.folder / "sv" / "shop-worker"
    for name, path in ((RUNIT, "run"), (RUNIT_LOG, "log/run")):
        machine.script(service / path, machine.here(TEXTS[name]))
    log = machine.folder / "log" / "shop-worker" / "current"
    with machine.running([runsv, str(service)], {}) as supervisor:
        until(lambda: log.exists() and "slots · worker " in log.read_text(), "a worker that is ready")
        killed_and_back(machine, supervisor, int((service / "supervise" / "pid").read_text()), log)
        assert machine.run(sv, "-w", "35", "stop", str(service)).startswith("ok: down: ")
        assert machine.ledger.count("E", "last") == 1, "it was let end"
        until(lambda: "done, 0 failed)" in log.read_text().splitlines()[-1], "the last line of the worker")
        machine.run(sv, "-w", "35", "exit", str(service))
        assert supervisor.wait() == 0
