"""Frames over a socket pair, between a worker and its child processes: four bytes of length, then the body."""

from __future__ import annotations

import socket
import struct
from typing import Final

_HEADER: Final = struct.Struct(">I")


def send(pipe: socket.socket, body: bytes) -> None:
    """Send one frame."""
    pipe.sendall(_HEADER.pack(len(body)) + body)


def receive(pipe: socket.socket) -> bytes | None:
    """Receive one frame; None when the other end is gone. Raises TimeoutError as the socket's timeout says."""
    header = _exactly(pipe, _HEADER.size)
    if header is None:
        return None
    return _exactly(pipe, _HEADER.unpack(header)[0])


def _exactly(pipe: socket.socket, size: int) -> bytes | None:
    parts: list[bytes] = []
    while size:
        try:
            part = pipe.recv(min(size, 1 << 20))
        except ConnectionError:
            return None
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
