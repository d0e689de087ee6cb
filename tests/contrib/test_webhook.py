"""Webhooks, on a receiver that is busy, refuses, goes away and comes back, or is where it must not be."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from outwork import Outwork, State
from outwork.contrib.webhook import Webhooks, WebhookSettings, new_secret
from outwork.contrib.webhook.addresses import permitted
from outwork.errors import InvalidMessage, SettingsError, TaskFailed
from outwork.result import TaskResult
from outwork.testing import LocalWorker
from support.certificate import certificate_in, server_context
from support.hook_server import HookServer, Reply
from support.mail_server import NonsenseServer

SECRET = new_secret()
HERE = ("127.0.0.0/8", "::1/128")


@pytest.fixture
def server() -> Iterator[HookServer]:
    server = HookServer()
    yield server
    server.stop()


def hooks(app: Outwork, **more: Any) -> Webhooks:
    name, secret_of = more.pop("name", "outwork.webhook"), more.pop("secret_of", None)
    values: dict[str, Any] = {"secret": SECRET, "allowed_networks": HERE, "allow_http": True, "timeout": 5.0, **more}
    return Webhooks(WebhookSettings(**values), app=app, name=name, secret_of=secret_of)


def said(result: TaskResult[Any]) -> str:
    """What the last attempt failed with."""
    result.refresh()
    return result.errors[-1].message


# ---- what arrives ----------------------------------------------------------------------------------------------------


def test_a_request_is_signed_as_the_standard_says(app: Outwork, worker: LocalWorker, server: HookServer) -> None:
    payload = {"type": "order.paid", "order": 7, "by": "Jörg"}
    result = hooks(app).send(f"{server.url}?to=a%20b", payload, headers={"X-Shop": "ada"})
    worker.drain()
    assert result.get() == 200
    [request] = server.requests
    assert request.path == "/hook?to=a%20b"
    assert Webhook(SECRET).verify(request.body, dict(request.headers)) == payload
    assert (request.headers["content-type"], request.headers["x-shop"]) == ("application/json", "ada")
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(request.body, dict(request.headers))


def test_an_event_keeps_its_id_and_its_bytes_over_all_attempts(
    app: Outwork, worker: LocalWorker, server: HookServer
) -> None:
    server.replies = [Reply(500), Reply(503)]
    result = hooks(app).send(server.url, b"<as it is/>", id="evt_7", headers={"Content-Type": "text/xml"})
    assert worker.drain() == 3
    assert result.get() == 200
    assert {request.headers["webhook-id"] for request in server.requests} == {"evt_7"}
    assert {request.body for request in server.requests} == {b"<as it is/>"}
    assert {request.headers["content-type"] for request in server.requests} == {"text/xml"}


def test_a_secret_of_each_endpoint_and_one_that_is_changed(
    app: Outwork, worker: LocalWorker, server: HookServer
) -> None:
    old, new = new_secret(), new_secret()
    secrets = {server.url: [new, old]}
    hooks(app, secret="", secret_of=secrets.__getitem__).send(server.url, {})
    hooks(app, previous_secret=old, name="other").send(server.url, {})
    worker.drain()
    first, second = server.requests
    for secret in (new, old):
        Webhook(secret).verify(first.body, dict(first.headers))
    for secret in (SECRET, old):
        Webhook(secret).verify(second.body, dict(second.headers))
    assert not any(secret.removeprefix("whsec_") in repr(worker.jobs) for secret in (old, new, SECRET))


# ---- a receiver in trouble -------------------------------------------------------------------------------------------


def test_a_receiver_that_is_away_and_comes_back(app: Outwork, worker: LocalWorker, server: HookServer) -> None:
    server.stop()
    result = hooks(app).send(server.url, {})
    for _ in range(3):
        worker.clock.move(timedelta(hours=2))
        worker.drain(retries=False)
    assert "ConnectError" in said(result)
    server.start()
    worker.clock.move(timedelta(hours=2))
    worker.drain(retries=False)
    assert result.get() == 200
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_asked_again(app: Outwork, worker: LocalWorker, server: HookServer, status: int) -> None:
    server.replies = [Reply(status, "not\nnow")]
    result = hooks(app).send(server.url, {})
    worker.drain(retries=False)
    assert f"127.0.0.1:{server.port} answered: {status} " in said(result)
    assert "not now" in said(result)
    worker.drain()
    assert result.get() == 200


@pytest.mark.parametrize("status", [301, 308, 400, 401, 404, 410, 422, 501])
def test_refused_for_good(app: Outwork, worker: LocalWorker, server: HookServer, status: int) -> None:
    server.replies = [Reply(status, "go away", {"Location": server.url} if status < 400 else {})]
    result = hooks(app).send(f"{server.url}/token-in-the-path", {})
    assert worker.drain() == 1
    with pytest.raises(TaskFailed, match=f"{status} .*go away"):
        result.get()
    assert len(server.requests) == 1
    assert "token-in-the-path" not in said(result)


def as_date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(("header", "seconds"), [("3000", 3000.0), ("date", 3000.0), ("9999999", 86_400.0)])
def test_retry_after(app: Outwork, worker: LocalWorker, server: HookServer, header: str, seconds: float) -> None:
    server.replies = [Reply(429, headers={"Retry-After": as_date(seconds) if header == "date" else header})]
    result = hooks(app).send(server.url, {})
    worker.drain(retries=False)
    worker.clock.move(seconds - 300)
    assert worker.drain(retries=False) == 0
    worker.clock.move(seconds * 0.1 + 301)
    assert worker.drain(retries=False) == 1
    assert result.get() == 200


@pytest.mark.parametrize("header", ["soon", "-5", "0", "a date that is over"])
def test_a_retry_after_that_says_nothing(app: Outwork, worker: LocalWorker, server: HookServer, header: str) -> None:
    server.replies = [Reply(503, headers={"Retry-After": as_date(-3000) if "date" in header else header})]
    result = hooks(app).send(server.url, {})
    worker.drain(retries=False)
    worker.clock.move(10.1)  # the first pause of the policy, at most
    worker.drain(retries=False)
    assert result.get() == 200


def test_a_connection_that_breaks_and_one_that_is_silent(app: Outwork, worker: LocalWorker, server: HookServer) -> None:
    server.replies = [Reply(drop=True)]
    broken = hooks(app).send(server.url, {})
    worker.drain(retries=False)
    assert "RemoteProtocolError" in said(broken)
    server.go_on.clear()
    silent = hooks(app, timeout=0.2, name="hasty").send(server.url, {})
    worker.drain(retries=False)
    assert "ReadTimeout" in said(silent)
    server.go_on.set()


@pytest.mark.parametrize(
    "words",
    [b"220 mail.test ESMTP\r\n", b"\xff" * 100, b"HTTP/1.1 many OK\r\n\r\n", b""],
    ids=["mail", "binary", "http", "nothing"],
)
def test_a_receiver_that_speaks_nonsense(app: Outwork, worker: LocalWorker, words: bytes) -> None:
    server = NonsenseServer(words)
    try:
        result = hooks(app).send(f"http://127.0.0.1:{server.port}/", {})
        assert worker.drain(retries=False) == 1
        result.refresh()
        assert result.state is State.SCHEDULED
    finally:
        server.close()


# ---- where requests may go -------------------------------------------------------------------------------------------

PRIVATE = (
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"),
    *("::1", "::", "fe80::1", "fd00::1", "ff02::1"),
    *("::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::", "::10.0.0.1"),  # an IPv4 address inside
)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused(app: Outwork, worker: LocalWorker, address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(InvalidMessage, match="private address"):
        hooks(app, allowed_networks=()).send(f"http://{host}/", {})
    assert worker.jobs == []


def test_public_addresses_and_those_that_are_allowed() -> None:
    assert all(permitted(address, ()) for address in ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"))
    assert permitted("10.1.2.3", ["10.1.0.0/16"])
    assert permitted("::ffff:10.1.2.3", ["10.1.0.0/16"])
    assert not permitted("10.2.2.3", ["10.1.0.0/16"])


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f000001", "2130706433"])
def test_names_of_private_addresses_are_refused_where_they_are_looked_up(
    app: Outwork, worker: LocalWorker, server: HookServer, host: str
) -> None:
    result = hooks(app, allowed_networks=()).send(f"http://{host}:{server.port}/", {})
    assert worker.drain() == 1
    with pytest.raises(TaskFailed, match="private address"):
        result.get()
    assert server.requests == []


def test_a_name_is_looked_up_once(
    app: Outwork, worker: LocalWorker, server: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that gives a good address to who judges and another one to who connects gets no second question."""
    real, asked = socket.getaddrinfo, []

    def answer(host: Any, *args: Any, **options: Any) -> Any:
        if host in ("hooks.example.org", b"hooks.example.org"):
            asked.append(host)
            return real("127.0.0.1" if len(asked) == 1 else "127.0.0.2", *args, **options)
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    result = hooks(app).send(f"http://hooks.example.org:{server.port}/hook", {})
    worker.drain(retries=False)
    assert result.get() == 200
    assert len(asked) == 1
    assert server.requests[0].headers["host"] == f"hooks.example.org:{server.port}"


def test_one_private_address_among_others_is_enough(
    app: Outwork, worker: LocalWorker, server: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, server.port)) for ip in ("127.0.0.1", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: entries)
    result = hooks(app).send(f"http://hooks.example.org:{server.port}/hook", {})
    worker.drain()
    with pytest.raises(TaskFailed, match=r"10\.0\.0\.1"):
        result.get()
    assert server.requests == []


def test_no_proxy_of_the_environment_is_asked(
    app: Outwork, worker: LocalWorker, server: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    result = hooks(app).send(server.url, {})
    worker.drain(retries=False)
    assert result.get() == 200


def test_the_next_address_where_one_does_not_answer(
    app: Outwork, worker: LocalWorker, server: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, server.port)) for ip in ("127.0.0.2", "127.0.0.1")]
    names = {"hooks.example.org": entries}
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *args, **options: names.get(host) or real(host, *args, **options)
    )
    result = hooks(app).send(f"http://hooks.example.org:{server.port}/hook", {})
    worker.drain(retries=False)
    assert result.get() == 200


def test_tls_is_checked_by_the_name(
    app: Outwork, worker: LocalWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *args, **options: real("127.0.0.1" if host == "hooks.example.org" else host, *args, **options),
    )
    certificate, key = certificate_in(tmp_path)
    server = HookServer(tls=server_context(certificate, key))
    try:
        trusting = {"ca_file": str(certificate), "allow_http": False}
        result = hooks(app, **trusting).send(f"https://localhost:{server.port}/hook", {})
        worker.drain(retries=False)
        assert result.get() == 200
        other_name = hooks(app, **trusting).send(f"https://hooks.example.org:{server.port}/hook", {})
        no_trust = hooks(app, name="mistrusting").send(f"https://localhost:{server.port}/hook", {})
        worker.drain(retries=False)
        assert "CERTIFICATE_VERIFY_FAILED" in said(no_trust)
        assert "Hostname mismatch" in said(other_name)
        assert len(server.requests) == 1
    finally:
        server.stop()


# ---- refused at the call, and settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.org/", "begins with https"),
        ("example.org/hook", "begins with https"),
        ("https:///hook", "no host"),
        ("https://user:pw@example.org/", "a user in it"),
        ("https://example.org:99999/", "no URL"),
        ("https://exa mple.org/", "spaces"),
        ("https://example.org/\r\nX: 1", "spaces|no URL"),
    ],
)
def test_what_is_no_endpoint_is_refused_at_the_call(app: Outwork, worker: LocalWorker, url: str, words: str) -> None:
    with pytest.raises(InvalidMessage, match=words):
        hooks(app).send(url, {})
    assert worker.jobs == []


def test_other_bad_input_is_refused_at_the_call(app: Outwork, worker: LocalWorker) -> None:
    url = "https://example.org/"
    with pytest.raises(InvalidMessage, match="http"):
        hooks(app, allow_http=False).send("http://example.org/", {})
    for headers in ({"Host": "a"}, {"webhook-id": "a"}, {"X": "a\r\nY: b"}, {"X Y": "a"}):
        with pytest.raises(InvalidMessage, match="cannot be set"):
            hooks(app, name="other").send(url, {}, headers=headers)
    with pytest.raises(InvalidMessage, match="visible"):
        hooks(app, name="other").send(url, {}, id="a b")
    with pytest.raises(InvalidMessage, match="as JSON"):
        hooks(app, name="other").send(url, object())
    with pytest.raises(SettingsError, match="no secret"):
        hooks(app, secret="", name="unsigned").send(url, {})
    assert worker.jobs == []


def test_settings_that_cannot_be() -> None:
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"secret": "whsec_hunter2!"}, "whsec_ and base64"),
        ({"secret": "whsec_aHVudGVyMg=="}, "24 to 64 bytes"),
        ({"allowed_networks": ("10.0.0.1/8",)}, "host bits"),
        ({"timeout": 0}, "longer than nothing"),
    )
    for wrong, words in cases:
        with pytest.raises(ValueError, match=words) as caught:
            WebhookSettings(**wrong)
        assert "hunter2" not in str(caught.value)


def test_secrets_stay_where_they_are(
    app: Outwork, worker: LocalWorker, server: HookServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    hooks(app).send(f"{server.url}/T024/hunter2", {"a": 1})
    worker.drain()
    shown = caplog.text + repr(worker.jobs) + repr(WebhookSettings(secret=SECRET))
    assert SECRET.removeprefix("whsec_") not in shown
    assert server.requests[0].path.endswith("hunter2")
    assert "hunter2" not in caplog.text  # of the endpoint's URL only the host is said
    assert json.loads(server.requests[0].body) == {"a": 1}
