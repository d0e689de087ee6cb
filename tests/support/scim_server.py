"""A real SCIM 2 server (scim2-server) in a thread: with bearer tokens, and with trouble in front of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from scim2_models import Resource, ScimProvider
from scim2_server.memory import InMemoryStorage
from scim2_server.testserver.application import BearerTokenApplication
from scim2_server.utils import (
    load_default_resource_types,
    load_default_schemas,
    load_default_service_provider_config,
)

from support.ports import free_port
from support.waiting import until


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None: ...


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


class ScimServer:
    """Listens on a port of 127.0.0.1 that stays the same while it is stopped and started; it keeps its resources.

    - trouble: statuses, with headers, that the next requests are answered with
    - lose: do the next change, and lose its answer
    - before: called with the method and the path of each request, before it is done
    """

    def __init__(self, *tokens: str) -> None:
        self.storage = InMemoryStorage()
        self.trouble: list[tuple[str, list[tuple[str, str]]]] = []
        self.lose = False
        self.before: Callable[[str, str], None] = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        provider = ScimProvider.from_discovery(
            load_default_schemas().values(),
            load_default_resource_types().values(),
            config=load_default_service_provider_config(),
        )
        self._application = BearerTokenApplication(self.storage, provider, bearer_tokens=tokens)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v2"

    def start(self) -> None:
        """Listen."""
        self._server = make_server("127.0.0.1", self.port, self._answer, _Server, _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Be gone."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(30)
            self._server = self._thread = None

    def all(self, kind: str) -> list[dict[str, Any]]:
        """All resources of a kind ("User", "Group") as they are now."""
        each: Iterable[Resource[Any]] = self.storage.resources
        return [one.model_dump() for one in each if one.meta is not None and one.meta.resource_type == kind]

    def names(self, kind: str = "User") -> dict[str, str]:
        """The user or display names by external id."""
        name = "userName" if kind == "User" else "displayName"
        return {one.get("externalId", ""): one[name] for one in self.all(kind)}

    def wait_for(self, names: dict[str, str], kind: str = "User") -> None:
        """Wait until these are the names of all users or groups, by their external ids."""
        until(lambda: self.names(kind) == names, f"{names} on the SCIM server")

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        self.before(method, path)
        if self.trouble:
            status, headers = self.trouble.pop(0)
            start_response(status, [("Content-Type", "text/html"), *headers])
            return [b"<h1>something is in front of the server</h1>"]
        answer = self._application(environ, start_response)
        if self.lose and method in ("POST", "PUT", "DELETE"):
            self.lose = False
            b"".join(answer)
            with suppress(OSError):
                environ["wsgi.input"].raw._sock.shutdown(socket.SHUT_RDWR)
        return answer
