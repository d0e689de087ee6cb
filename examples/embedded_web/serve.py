"""Serves the guestbook with the standard library's server: `python serve.py [PORT]`. Any WSGI server does as well."""

from __future__ import annotations

import logging
import signal
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from guestbook import application


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each request."""

    daemon_threads = True


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))  # so that the worker can be drained
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    with make_server("127.0.0.1", port, application, Server) as server:
        print(f"http://127.0.0.1:{server.server_port}/sign?name=Ada", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopping")


if __name__ == "__main__":
    main()
