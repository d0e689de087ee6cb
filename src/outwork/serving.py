"""Wrappers for WSGI and ASGI applications that start the embedded worker in the serving process, and end it there.

    from outwork.serving import asgi, wsgi

    application = wsgi(application)          # gunicorn, waitress, mod_wsgi, ...
    application = asgi(application)          # uvicorn, hypercorn, daphne, ...

With a broker whose jobs run elsewhere they do nothing but pass on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from outwork.app import Outwork, default_app

StartResponse = Callable[..., Any]
WSGIApplication = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApplication = Callable[[Any, Receive, Send], Awaitable[None]]


def wsgi(application: WSGIApplication, app: Outwork = default_app) -> WSGIApplication:
    """A WSGI application that starts the embedded worker with its first request."""

    def serve(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        app.start_worker(serving=True)
        return application(environ, start_response)

    return serve


def asgi(application: ASGIApplication, app: Outwork = default_app) -> ASGIApplication:
    """An ASGI application that starts the embedded worker at start-up and drains it at shutdown. Async tasks run on
    the application's event loop. Where the server has no lifespan, the worker starts with the first request; where the
    application has none, it is served here."""

    async def serve(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            app.start_worker(asyncio.get_running_loop(), serving=True)
            await application(scope, receive, send)
            return
        lifespan = _Lifespan(app, receive, send)
        app.hold_worker()  # what the application enqueues while it starts waits until it has started
        try:
            await application(scope, lifespan.receive, lifespan.send)
        except Exception:
            if lifespan.heard:
                raise
        finally:
            app.release_worker()
        if not lifespan.heard:
            await lifespan.serve()

    return serve


class _Lifespan:
    """The lifespan of an application, listened to; or served, where the application knows of none."""

    def __init__(self, app: Outwork, receive: Receive, send: Send) -> None:
        self._app = app
        self._receive = receive
        self._send = send
        self.heard = False
        """Whether the application has asked what there is."""

    async def receive(self) -> Message:
        self.heard = True
        message = await self._receive()
        if message["type"] == "lifespan.shutdown":
            await asyncio.to_thread(self._app.stop_worker)  # before the application closes what its tasks use
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            self._app.release_worker()
            self._app.start_worker(asyncio.get_running_loop(), serving=True)
        await self._send(message)

    async def serve(self) -> None:
        """Answer in the place of the application."""
        while (await self.receive())["type"] != "lifespan.shutdown":
            await self.send({"type": "lifespan.startup.complete"})
        await self._send({"type": "lifespan.shutdown.complete"})
