"""Text messages, on an SMPP server that throttles, refuses, goes away and comes back."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from datetime import timedelta

import pytest
from smpplib import gsm

from outwork import Outwork, State
from outwork.contrib.sms import Sms, SmsSettings, Texter
from outwork.contrib.sms.text import encode, split
from outwork.errors import InvalidMessage, SettingsError, TaskFailed
from outwork.testing import LocalWorker
from support.mail_server import NonsenseServer
from support.smpp_server import INVALID_DESTINATION, THROTTLED, UNBIND, SmppServer


@pytest.fixture
def server() -> Iterator[SmppServer]:
    server = SmppServer()
    yield server
    server.stop()


def settings_for(port: int, **more: object) -> SmsSettings:
    values: dict[str, object] = {"user": "shop", "password": "secret", "sender": "Shop", "timeout": 5.0, **more}
    return SmsSettings(host="127.0.0.1", port=port, **values)  # type: ignore[arg-type]


def sms(text: str = "Hello Ada", to: str = "+49 (170) 123-4567", **more: object) -> Sms:
    return Sms(to=to, text=text, **more)  # type: ignore[arg-type]


# ---- texts -----------------------------------------------------------------------------------------------------------


def test_the_coding_is_the_smaller_one_that_has_all_characters() -> None:
    assert split("Grüße @ 5 €") == ("gsm7", ["Grüße @ 5 €"])
    assert split("Ждём") == ("ucs2", ["Ждём"])
    assert encode("@ü^€", "gsm7") == b"\x00\x7e\x1b\x14\x1b\x65"
    assert encode("Ж😀", "ucs2") == b"\x04\x16\xd8\x3d\xde\x00"


def test_the_table_agrees_with_another_one() -> None:
    """smpplib's, which has a grave accent in the place of the section sign and none of the form feed."""
    for character in gsm.GSM_CHARACTER_TABLE.replace("`", "").replace("\x1b", ""):
        assert split(character)[0] == "gsm7"
        assert encode(character, "gsm7") == gsm.gsm_encode(character)


@pytest.mark.parametrize(
    ("text", "coding", "lengths"),
    [
        ("a" * 160, "gsm7", [160]),
        ("a" * 161, "gsm7", [153, 8]),
        ("a" * 307, "gsm7", [153, 153, 1]),
        ("€" * 80, "gsm7", [80]),
        ("a" * 152 + "€" * 10, "gsm7", [152, 10]),  # an escaped character is not torn
        ("ж" * 70, "ucs2", [70]),
        ("ж" * 71, "ucs2", [67, 4]),
        ("ж" * 66 + "😀" * 10, "ucs2", [66, 10]),  # nor one of two units
    ],
)
def test_long_texts_are_cut_between_characters(text: str, coding: str, lengths: list[int]) -> None:
    found, parts = split(text)
    assert (found, [len(part) for part in parts]) == (coding, lengths)
    assert "".join(parts) == text


# ---- what arrives ----------------------------------------------------------------------------------------------------


def test_a_message(app: Outwork, worker: LocalWorker, server: SmppServer) -> None:
    server.enquires = True
    [result] = Texter(settings_for(server.port), app=app).send(sms("Your code: 4711 €"))
    worker.drain()
    assert result.get() == "id-1"
    [message] = server.messages
    assert message.source == (5, 0, "Shop")
    assert message.destination == (1, 1, "491701234567")
    assert (message.esm_class, message.data_coding) == (0, 0)
    assert message.octets == b"Your code: 4711 \x1b\x65"
    assert server.commands[-1] == UNBIND


def test_a_message_in_another_alphabet(app: Outwork, worker: LocalWorker, server: SmppServer) -> None:
    Texter(settings_for(server.port), app=app).send(sms("Привет 😀", to="12345", sender="+4930123"))
    worker.drain()
    [message] = server.messages
    assert (message.source, message.destination) == ((1, 1, "4930123"), (0, 1, "12345"))
    assert message.data_coding == 8
    assert message.octets.decode("utf-16-be") == "Привет 😀"


@pytest.mark.parametrize("text", ["abc " * 120, "жук " * 60])
def test_a_long_message(app: Outwork, worker: LocalWorker, server: SmppServer, text: str) -> None:
    results = Texter(settings_for(server.port), app=app).send(sms(text))
    worker.drain()
    assert [result.get() for result in results] == [f"id-{number}" for number in range(1, len(results) + 1)]
    assert {message.esm_class for message in server.messages} == {0x40}
    headers = [tuple(message.header) for message in server.messages]
    reference = headers[0][3]
    assert headers == [(5, 0, 3, reference, len(results), number) for number in range(1, len(results) + 1)]
    assert all(len(message.octets) <= 160 for message in server.messages)
    bodies = [message.body for message in server.messages]
    coding = "ascii" if server.messages[0].data_coding == 0 else "utf-16-be"
    assert "".join(body.decode(coding) for body in bodies) == text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (sms(to="Ada"), "no telephone number"),
        (sms(to="+1"), "no telephone number"),
        (sms(""), "no text"),
        (sms("x" * 40_000), "there can be 255"),
        (sms(sender="A sender too long"), "up to 11"),
        (sms("\ud800"), "cannot be sent"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_sent_is_refused_at_the_call(app: Outwork, worker: LocalWorker, wrong: Sms, said: str) -> None:
    with pytest.raises(InvalidMessage, match=said):
        Texter(settings_for(1), app=app).send(wrong)
    assert worker.jobs == []


# ---- a server in trouble ---------------------------------------------------------------------------------------------


def test_a_server_that_is_away_and_comes_back(app: Outwork, worker: LocalWorker, server: SmppServer) -> None:
    server.stop()
    [result] = Texter(settings_for(server.port), app=app).send(sms())
    for _ in range(3):
        worker.clock.move(timedelta(hours=2))
        worker.drain(retries=False)
    result.refresh()
    assert (result.state, result.attempts) == (State.SCHEDULED, 3)
    server.start()
    worker.clock.move(timedelta(hours=2))
    worker.drain(retries=False)
    assert result.get() == "id-1"
    assert len(server.messages) == 1


def test_throttling_repeats_only_what_was_not_taken(app: Outwork, worker: LocalWorker, server: SmppServer) -> None:
    server.statuses = [0, THROTTLED, 0]
    results = Texter(settings_for(server.port), app=app).send(sms("x" * 400))
    worker.drain(retries=False)
    assert len(server.messages) == 2
    results[1].refresh()
    assert "0x00000058" in results[1].errors[0].message
    worker.clock.move(60)
    worker.drain(retries=False)
    assert [result.get() for result in results] == ["id-1", "id-3", "id-2"]
    assert sorted(message.header[5] for message in server.messages) == [1, 2, 3]


@pytest.mark.parametrize("where", ["bind", "submit"])
def test_refused_for_good(app: Outwork, worker: LocalWorker, server: SmppServer, where: str) -> None:
    if where == "submit":
        server.statuses = [INVALID_DESTINATION]
    password = "secret" if where == "submit" else "wrong"
    [result] = Texter(settings_for(server.port, password=password), app=app).send(sms())
    assert worker.drain() == 1
    with pytest.raises(TaskFailed, match="0x0000000B" if where == "submit" else "0x0000000E") as caught:
        result.get()
    assert len(caught.value.failures) == 1
    assert server.messages == []


def test_no_session_is_free(app: Outwork, worker: LocalWorker, server: SmppServer) -> None:
    server.bind_statuses = [0x05, 0x0D]
    [result] = Texter(settings_for(server.port), app=app).send(sms())
    assert worker.drain() == 3
    assert result.get() == "id-1"


def test_a_connection_that_breaks(app: Outwork, worker: LocalWorker, server: SmppServer) -> None:
    server.hang_up = True
    [result] = Texter(settings_for(server.port), app=app).send(sms())
    worker.drain(retries=False)
    result.refresh()
    assert "closed the connection" in result.errors[0].message
    server.hang_up = False
    worker.clock.move(60)
    worker.drain(retries=False)
    assert result.get() == "id-2"


def test_a_server_that_is_silent(app: Outwork, worker: LocalWorker, server: SmppServer) -> None:
    server.silent = True
    [result] = Texter(settings_for(server.port, timeout=0.2), app=app).send(sms())
    worker.drain(retries=False)
    result.refresh()
    assert (result.state, "timed out" in result.errors[0].message) == (State.SCHEDULED, True)


NONSENSE = {
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "too short": struct.pack(">LLLL", 4, 0x80000002, 0, 1),
    "an unknown command": struct.pack(">LLLL", 16, 0x00ABCDEF, 0, 1),
    "a torn unit": struct.pack(">LLLL", 20, 0x80000002, 0, 1) + b"\x02\x10\x00\x09",
    "nothing": b"",
}


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE)
def test_a_server_that_speaks_nonsense(app: Outwork, worker: LocalWorker, said: bytes) -> None:
    server = NonsenseServer(said)
    try:
        [result] = Texter(settings_for(server.port), app=app).send(sms())
        assert worker.drain(retries=False) == 1
        result.refresh()
        assert result.state is State.SCHEDULED
        assert f"127.0.0.1:{server.port}" in result.errors[0].message
    finally:
        server.close()


# ---- settings --------------------------------------------------------------------------------------------------------


def test_secrets_stay_where_they_are(
    app: Outwork, worker: LocalWorker, server: SmppServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.password = "hunter2"
    Texter(settings_for(server.port, password="hunter2"), app=app).send(sms())
    worker.drain()
    assert len(server.messages) == 1
    for shown in (caplog.text, repr(settings_for(1, password="hunter2")), repr(worker.jobs)):
        assert "hunter2" not in shown
        assert b"hunter2".hex() not in shown


def test_settings_that_cannot_be(app: Outwork) -> None:
    with pytest.raises(ValueError, match="room for 8"):
        settings_for(1, password="too long for it")
    with pytest.raises(ValueError, match="1 to 65535"):
        settings_for(70_000)
    with pytest.raises(SettingsError, match=r"OUTWORK_SMS__"):
        Texter(app=app).send(sms())
