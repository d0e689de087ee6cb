"""A TCP proxy that treats connections as networks do: cuts or refuses them, freezes, loses a reply, or takes time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Self


class Proxy:
    """Listens on a port of its own and passes everything on to the port `target`, until told otherwise. What is sent
    arrives `delay` seconds later, either way: a round trip takes twice as long."""

    def __init__(self, target: int, delay: float = 0.0) -> None:
        self.target = target
        """Where new connections lead."""
        self.delay = delay
        """Seconds by which everything is late; what is said on a connection that began without, one after the other."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._to_eat = 0
        self._eaten_are = b""
        self.eaten = 0
        self.said = b""
        """The last that clients said."""
        self._answering = threading.Event()
        self._answering.set()
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

    def hold_replies(self, held: bool = True) -> None:
        """Pass on what clients say, and no answers."""
        self._answering.clear() if held else self._answering.set()

    def eat_replies(self, count: int, holding: bytes = b"") -> None:
        """Swallow the next replies of the server (that hold these bytes), and break the connection of each."""
        self._to_eat, self._eaten_are = count, holding

    def close(self) -> None:
        self._listener.close()
        self._flowing.set()
        self._answering.set()
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
        road = _Road(target, self.delay) if self.delay else None
        send: Callable[[bytes], None] = road.send if road else target.sendall
        try:
            while data := source.recv(65536):
                self._flowing.wait()
                if not road:
                    time.sleep(self.delay)
                if is_reply:
                    self._answering.wait()
                else:
                    self.said = (self.said + data)[-4096:]
                if is_reply and self._eats(data):
                    return
                send(data)
        except OSError:
            return
        finally:
            if road:
                road.end()
            _close(source, target)

    def _eats(self, data: bytes) -> bool:
        with self._lock:
            if self._to_eat == 0 or self._eaten_are not in data:
                return False
            self._to_eat -= 1
            self.eaten += 1
            return True


class _Road:
    """The way to one end of a connection: all that is sent arrives in its order, and late."""

    def __init__(self, target: socket.socket, delay: float) -> None:
        self._target = target
        self._delay = delay
        self._under_way: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
        self._thread = threading.Thread(target=self._arrive, daemon=True)
        self._thread.start()

    def send(self, data: bytes) -> None:
        self._under_way.put((time.monotonic() + self._delay, data))

    def end(self) -> None:
        """What is on its way still arrives."""
        self._under_way.put((0.0, b""))
        self._thread.join()

    def _arrive(self) -> None:
        with suppress(OSError):  # a reset, or the connection was cut
            while True:
                due, data = self._under_way.get()
                if not data:
                    return
                time.sleep(max(0.0, due - time.monotonic()))
                self._target.sendall(data)


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):  # the other side was faster
            one.shutdown(socket.SHUT_RDWR)
        one.close()
