"""An SMPP 3.4 server on a socket, written from the specification alone: it binds, takes messages, throttles, refuses,
hangs up and goes away as a test wants it."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import Final, NamedTuple

from support.ports import free_port
from support.waiting import until

BIND: Final = 0x00000002
SUBMIT: Final = 0x00000004
UNBIND: Final = 0x00000006
ENQUIRE: Final = 0x00000015
REPLY: Final = 0x80000000
NACK: Final = 0x80000000

THROTTLED: Final = 0x58
INVALID_DESTINATION: Final = 0x0B
WRONG_PASSWORD: Final = 0x0E
WRONG_COMMAND: Final = 0x03
WRONG_STATE: Final = 0x04


class Submitted(NamedTuple):
    """A message that was taken."""

    source: tuple[int, int, str]
    """Type of number, numbering plan, address."""
    destination: tuple[int, int, str]
    esm_class: int
    data_coding: int
    octets: bytes

    @property
    def header(self) -> bytes:
        """The header before the text, where esm_class says that there is one."""
        return self.octets[: self.octets[0] + 1] if self.esm_class & 0x40 else b""

    @property
    def body(self) -> bytes:
        return self.octets[len(self.header) :]


class SmppServer:
    """Listens on a port of 127.0.0.1 that stays the same while it is stopped and started.

    - password: the one that a bind needs
    - statuses: what the next submits are answered with, one after the other; 0, or nothing left, takes the message
    - bind_statuses: the same of binds
    - hang_up: take the next message and close the connection in the place of an answer
    - silent: answer nothing
    - enquires: ask whether the client is there, before each answer to a submit
    """

    def __init__(self, password: str = "secret") -> None:
        self.password = password
        self.messages: list[Submitted] = []
        self.statuses: list[int] = []
        self.bind_statuses: list[int] = []
        self.hang_up = False
        self.silent = False
        self.enquires = False
        self.commands: list[int] = []
        """All commands that were heard."""
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self.port = free_port()
        self.start()

    def start(self) -> None:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._begin(self._accept, self._listener)

    def stop(self) -> None:
        """Be gone: connections are refused, those that are open break."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
        self._threads.clear()

    def wait_for(self, count: int) -> list[Submitted]:
        """So many messages, once they are there."""
        until(lambda: len(self.messages) >= count, f"{count} messages")
        return self.messages

    def _begin(self, work: object, argument: socket.socket) -> None:
        thread = threading.Thread(target=work, args=(argument,), daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.append(connection)
            self._begin(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        bound = False
        with connection, suppress(OSError, EOFError):
            while True:
                length, command, _, sequence = struct.unpack(">LLLL", _exactly(connection, 16))
                body = _exactly(connection, length - 16)
                self.commands.append(command)
                if self.silent:
                    continue
                if command == BIND:
                    status = self._bind_status(body)
                    bound = status == 0
                    _send(connection, BIND | REPLY, status, sequence, b"smsc\0" if bound else b"")
                elif command == SUBMIT:
                    if not self._take(connection, sequence, body, bound):
                        return
                elif command == UNBIND:
                    _send(connection, UNBIND | REPLY, 0, sequence)
                    return
                elif command != ENQUIRE | REPLY:
                    _send(connection, NACK, WRONG_COMMAND, sequence)
        with self._lock:
            self._connections.remove(connection)

    def _bind_status(self, body: bytes) -> int:
        if self.bind_statuses:
            return self.bind_statuses.pop(0)
        _user, password, _ = body.split(b"\0", 2)
        return 0 if password == self.password.encode() else WRONG_PASSWORD

    def _take(self, connection: socket.socket, sequence: int, body: bytes, bound: bool) -> bool:
        with self._lock:
            status = WRONG_STATE if not bound else self.statuses.pop(0) if self.statuses else 0
            if status == 0:
                self.messages.append(_read_submit(body))
            number = len(self.messages)
        if self.hang_up:
            return False
        if self.enquires:
            _send(connection, ENQUIRE, 0, 77)
        _send(connection, SUBMIT | REPLY, status, sequence, f"id-{number}\0".encode() if status == 0 else b"")
        return True


def _read_submit(body: bytes) -> Submitted:
    """SMPP 3.4, 4.4.1."""
    _service, rest = body.split(b"\0", 1)
    source_kind, rest = (rest[0], rest[1]), rest[2:]
    source, rest = rest.split(b"\0", 1)
    destination_kind, rest = (rest[0], rest[1]), rest[2:]
    destination, rest = rest.split(b"\0", 1)
    esm_class, rest = rest[0], rest[3:]
    _schedule, rest = rest.split(b"\0", 1)
    _validity, rest = rest.split(b"\0", 1)
    _registered, _replace, data_coding, _default, length = rest[:5]
    assert len(rest) == 5 + length, "the length of the message is not what it says"
    return Submitted(
        (*source_kind, source.decode()), (*destination_kind, destination.decode()), esm_class, data_coding, rest[5:]
    )


def _exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        part = connection.recv(count - len(received))
        if not part:
            raise EOFError
        received += part
    return received


def _send(connection: socket.socket, command: int, status: int, sequence: int, body: bytes = b"") -> None:
    connection.sendall(struct.pack(">LLLL", 16 + len(body), command, status, sequence) + body)
