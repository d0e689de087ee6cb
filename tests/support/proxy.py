"""A TCP proxy that treats connections as networks do: cuts them, refuses them, freezes, or loses a reply."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self


class Proxy:
    """Listens on a port of its own and passes everything on to the port `target`, until told otherwise."""

    def __init__(self, target: int) -> None:
        self.target = target
        """Where new connections lead."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._to_eat = 0
        self.eaten = 0
        self.delay = 0.0
        """Seconds by which everything is late."""
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def open(self) -> int:
        """How many connections there are."""
        with self._lock:
            self._pairs = [pair for pair in self._pairs if pair[0].fileno() != -1]
            return len(self._pairs)

    def cut(self) -> None:
        """Break all connections."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _close(*pair)

    def refuse(self, refusing: bool = True) -> None:
        """Break all connections and every new one at once."""
        self._refusing = refusing
        if refusing:
            self.cut()

    def freeze(self, frozen: bool = True) -> None:
        """Pass nothing on, in either direction, and keep the connections."""
        self._flowing.clear() if frozen else self._flowing.set()

    def eat_replies(self, count: int) -> None:
        """Swallow the next replies of the server, and break the connection of each."""
        self._to_eat = count

    def close(self) -> None:
        self._listener.close()
        self._flowing.set()
        self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((client, server))
            threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_reply: bool) -> None:
        try:
            while data := source.recv(65536):
                self._flowing.wait()
                time.sleep(self.delay)
                if is_reply and self._eats():
                    return
                target.sendall(data)
        except OSError:
            return
        finally:
            _close(source, target)

    def _eats(self) -> bool:
        with self._lock:
            if self._to_eat == 0:
                return False
            self._to_eat -= 1
            self.eaten += 1
            return True


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):  # the other side was faster
            one.shutdown(socket.SHUT_RDWR)
        one.close()
