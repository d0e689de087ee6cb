"""Ports for the servers that tests start: below those that the system gives to connections, each for one process."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import Final

RANGE: Final = range(10_240, 20_480)
"""Linux gives connections those from 32,768 on. The bus of a Redis cluster, 10,000 above its port, is below, too."""

_claims = os.open(Path(tempfile.gettempdir()) / f"outwork-ports-{os.geteuid()}", os.O_RDWR | os.O_CREAT, 0o600)
"""A byte for each port, locked by the process that has it: until the server listens nothing else shows it to others."""
_mine: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on, and that no other process of ours is given while this one lives."""
    while True:
        port = secrets.choice(RANGE)
        if port not in _mine and _claim(port) and _is_free(port) and _is_free(port + 10_000):
            _mine.add(port)
            return port


def _claim(port: int) -> bool:
    try:
        fcntl.lockf(_claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True
