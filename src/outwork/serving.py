"""Wrappers for WSGI and ASGI applications that start the embedded worker in the serving process, and end it there.

    application = outwork.wsgi(application)          # gunicorn, waitress, ...
    application = outwork.asgi(application)          # uvicorn, hypercorn, ...

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
        app.start_worker()
        return application(environ, start_response)

    return serve


def asgi(application: ASGIApplication, app: Outwork = default_app) -> ASGIApplication:
    """An ASGI application that starts the embedded worker at start-up and drains it at shutdown. Async tasks run on
    the application's event loop. Where the server has no lifespan, the worker starts with the first request."""

    async def serve(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            app.start_worker(asyncio.get_running_loop())
            await application(scope, receive, send)
            return

        async def receive_and_drain() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await asyncio.to_thread(app.stop_worker)  # before the application closes what its tasks use
            return message

        async def start_and_send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                app.start_worker(asyncio.get_running_loop())
            await send(message)

        await application(scope, receive_and_drain, start_and_send)

    return serve
