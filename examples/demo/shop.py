"""The shop: a web application (plain WSGI). An order is answered at once; its receipt is sent by a worker, later.

Run as a program it answers a number of orders without a socket, and prints the id of the first job.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs
from wsgiref.util import setup_testing_defaults

from tasks import send_receipt


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    query = parse_qs(environ["QUERY_STRING"])
    result = send_receipt.enqueue(int(query["order"][0]), query["to"][0])
    start_response("202 Accepted", [("Content-Type", "text/plain")])
    return [result.id.encode()]


def answer(order: int) -> bytes:
    """One request, as a web server would pass it on."""
    environ: dict[str, Any] = {"QUERY_STRING": f"order={order}&to=customer{order}@example.com"}
    setup_testing_defaults(environ)
    statuses: list[str] = []
    body = b"".join(application(environ, lambda status, headers: statuses.append(status)))
    assert statuses == ["202 Accepted"]
    return body


if __name__ == "__main__":
    ids = [answer(order) for order in range(1, int(sys.argv[1]) + 1)]
    print(ids[0].decode())
