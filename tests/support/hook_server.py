"""A receiver of webhooks: an HTTP server in a thread, which answers as a test wants it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from support.ports import free_port
from support.waiting import until


class Heard(NamedTuple):
    """A request."""

    path: str
    headers: Mapping[str, str]
    """By their names in small letters."""
    body: bytes


class Reply(NamedTuple):
    """What the server says. `drop`: it closes the connection instead."""

    status: int = 200
    text: str = ""
    headers: Mapping[str, str] = {}
    drop: bool = False


class HookServer:
    """Listens on a port that stays the same while it is stopped and started. `replies` are given one after the other;
    when there are none left it is 200. While `go_on` is cleared it does not answer."""

    def __init__(self, host: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Heard] = []
        self.replies: list[Reply] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self._host = host
        self._tls = tls
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}/hook"

    def start(self) -> None:
        """Listen."""
        self._server = ThreadingHTTPServer((self._host, self.port), self._handler())
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Be gone."""
        self.go_on.set()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(30)
            self._server = self._thread = None

    def wait_for(self, count: int) -> list[Heard]:
        """So many requests, once they are there."""
        until(lambda: len(self.requests) >= count, f"{count} requests")
        return self.requests

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def setup(self) -> None:
                super().setup()
                self.request.settimeout(20)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                owner.requests.append(Heard(self.path, headers, body))
                reply = owner.replies.pop(0) if owner.replies else Reply()
                owner.go_on.wait(20)
                self.close_connection = True
                if reply.drop:
                    return
                with suppress(OSError):
                    self.send_response(reply.status)
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    content = reply.text.encode()
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def handle(self) -> None:
                with suppress(OSError):  # the client went away, or does not trust the certificate
                    super().handle()

            def log_message(self, format: str, *args: object) -> None: ...

        return Handler
