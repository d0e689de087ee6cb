"""What systemd hears of a worker, a restart with new code on SIGHUP, and the end of a terminal."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE = 60.0


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that systemd would listen on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.settimeout(PATIENCE)
        yield ear


def hear(ear: socket.socket, word: str) -> bytes:
    """Wait until systemd is told something that begins with this word."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:  # the watchdog's words come for ever
        text = ear.recv(4096)
        if text.startswith(word.encode()):
            return text
    raise AssertionError(f"systemd was not told {word}")


def test_systemd_is_told_and_hup_renews_the_processes(systemd: socket.socket, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("from outwork import task\n\n@task\ndef nothing() -> None: ...\n")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OUTWORK_")}
    environ |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"}
    command = [sys.executable, "-m", "outwork", "worker", "--broker", "sqlite:///jobs.db", "--processes", "2"]
    worker = subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=subprocess.DEVNULL)
    try:
        hear(systemd, "READY=1")
        assert b"2 of 2 processes" in hear(systemd, "STATUS=")
        hear(systemd, "WATCHDOG=1")
        worker.send_signal(signal.SIGHUP)
        assert b"MONOTONIC_USEC=" in hear(systemd, "RELOADING=1")
        hear(systemd, "READY=1")
        worker.send_signal(signal.SIGTERM)
        hear(systemd, "STOPPING=1")
        assert worker.wait(PATIENCE) == 0
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()


ON_A_TERMINAL = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run below nohup
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Becomes a program whose standard input is its controlling terminal."""


def test_a_worker_stops_with_its_terminal(systemd: socket.socket, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("from outwork import task\n\n@task\ndef nothing() -> None: ...\n")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OUTWORK_")}
    environ |= {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    command = [sys.executable, "-c", ON_A_TERMINAL, "-m", "outwork", "worker", "--broker", "sqlite:///jobs.db"]
    window, terminal = pty.openpty()
    log = tmp_path / "log"
    with log.open("wb") as said:
        worker = subprocess.Popen(
            command, cwd=tmp_path, env=environ, stdin=terminal, stderr=said, start_new_session=True
        )
    os.close(terminal)
    try:
        hear(systemd, "READY=1")
        worker.send_signal(signal.SIGHUP)  # the terminal is there: new code
        hear(systemd, "RELOADING=1")
        hear(systemd, "READY=1")
        os.close(window)
        hear(systemd, "STOPPING=1")
        assert worker.wait(PATIENCE) == 0
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
    assert "stopped cleanly" in log.read_text()
