"""Mails, on a real SMTP server that refuses, is slow, goes away and comes back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from random import Random

import pytest

from outwork import Outwork, State
from outwork.contrib.mail import Attachment, Mail, Mailer, MailSettings
from outwork.contrib.remote import FOR_A_DAY
from outwork.errors import DuplicateTask, GiveUp, InvalidMessage, PayloadTooLarge, SettingsError, TaskFailed, TryAgain
from outwork.retry import next_delay
from outwork.testing import LocalWorker
from support.certificate import certificate_in, server_context
from support.mail_server import MailServer, NonsenseServer
from support.ports import free_port
from support.waiting import until

SENDER = "shop@example.org"
SUBJECT = "Grüße\u2026 " + " ".join(["long"] * 40)
PNG = bytes(range(256))


@pytest.fixture
def server() -> Iterator[MailServer]:
    server = MailServer()
    yield server
    server.stop()


def settings_for(port: int, **more: object) -> MailSettings:
    return MailSettings(host="127.0.0.1", port=port, sender=SENDER, **more)  # type: ignore[arg-type]


def mail(to: str | list[str] = "ada@example.org", **more: object) -> Mail:
    return Mail(to=to, **{"subject": "Hello", "text": "Hello Ada", **more})  # type: ignore[arg-type]


# ---- what arrives ----------------------------------------------------------------------------------------------------


def test_a_mail_by_its_parts(app: Outwork, worker: LocalWorker, server: MailServer) -> None:
    mailer = Mailer(settings_for(server.port), app=app)
    [result] = mailer.send(
        mail(
            "Ada Lovelace <ada@example.org>",
            subject=SUBJECT,
            text="Hello Ada\n.a line with a dot\n" + "x" * 2000,
            html='<p>Hello <b>Ada</b></p><img src="cid:logo">',
            reply_to="help@example.org",
            headers={"List-Unsubscribe": "<https://example.org/out>"},
            attachments=[
                Attachment(filename="logo.png", content=PNG, content_id="logo"),
                Attachment(filename="Rechnung März.pdf", content=b"%PDF", media_type="application/pdf"),
                Attachment(filename="notes.unknown", content="grün".encode()),
            ],
        )
    )
    worker.drain()
    assert result.get() == "2.0.0 queued as 1"
    [received] = server.mails
    assert (received.sender, received.recipients) == (SENDER, ("ada@example.org",))
    message = received.message
    assert message["To"] == "Ada Lovelace <ada@example.org>"
    assert message["From"] == SENDER
    assert message["Subject"] == SUBJECT
    assert message["Reply-To"] == "help@example.org"
    assert message["List-Unsubscribe"] == "<https://example.org/out>"
    assert message["Date"].datetime.tzinfo is not None
    text = message.get_body(("plain",))
    assert text is not None
    assert text.get_content().replace("\r\n", "\n") == "Hello Ada\n.a line with a dot\n" + "x" * 2000 + "\n"
    page = message.get_body(("related",))
    assert page is not None
    html, image = page.iter_parts()
    assert html.get_content().strip() == '<p>Hello <b>Ada</b></p><img src="cid:logo">'
    assert (image.get_content(), image["Content-ID"], image.get_content_type()) == (PNG, "<logo>", "image/png")
    invoice, notes = message.iter_attachments()
    assert (invoice.get_filename(), invoice.get_content()) == ("Rechnung März.pdf", b"%PDF")
    assert (notes.get_content_type(), notes.get_content()) == ("application/octet-stream", "grün".encode())
    assert received.raw.isascii()


def test_html_alone(app: Outwork, worker: LocalWorker, server: MailServer) -> None:
    image = Attachment(filename="logo.png", content=PNG, content_id="logo")
    Mailer(settings_for(server.port), app=app).send(mail(text=None, html="<p>Hi</p>", attachments=[image]))
    worker.drain()
    message = server.mails[0].message
    body = message.get_body(("html",))
    assert body is not None
    assert body.get_content().strip() == "<p>Hi</p>"
    assert [part.get_content_type() for part in message.walk() if not part.is_multipart()] == ["text/html", "image/png"]


def test_a_message_of_the_standard_library(app: Outwork, worker: LocalWorker, server: MailServer) -> None:
    message = EmailMessage()
    message["From"] = "Boss <boss@example.org>"
    message["To"] = "ada@example.org, Bob <bob@example.org>"
    message["Bcc"] = "eve@example.org"
    message["Subject"] = "Grüße"
    message.set_content("Grün", cte="8bit")
    message.add_attachment(PNG, "image", "png", filename="logo.png")
    results = Mailer(settings_for(server.port), app=app).send(message)
    worker.drain()
    assert [result.get() for result in results] == [f"2.0.0 queued as {number}" for number in (1, 2, 3)]
    assert [one.recipients for one in server.mails] == [
        ("ada@example.org",),
        ("bob@example.org",),
        ("eve@example.org",),
    ]
    for received in server.mails:
        assert received.sender == "boss@example.org"
        assert "Bcc" not in received.message
        assert received.message["Message-ID"] == server.mails[0].message["Message-ID"]
        assert next(received.message.iter_attachments()).get_content() == PNG
    assert message["Bcc"] == "eve@example.org"  # the caller's own is as it was
    assert "Message-ID" not in message


def test_attachments_by_path_and_by_reference(
    app: Outwork, worker: LocalWorker, server: MailServer, tmp_path: Path
) -> None:
    large = bytes(2_000_000)
    (tmp_path / "large.bin").write_bytes(large)
    store = {"s3://bucket/plan": b"the plan"}
    mailer = Mailer(settings_for(server.port), app=app, open_reference=store.__getitem__)
    mailer.send(
        mail(
            attachments=[
                Attachment(filename="large.bin", path=str(tmp_path / "large.bin")),
                Attachment(filename="plan.txt", reference="s3://bucket/plan", media_type="application/x-plan"),
            ]
        )
    )
    worker.drain()
    first, second = server.mails[0].message.iter_attachments()
    assert (first.get_content(), second.get_content()) == (large, b"the plan")


def test_an_attachment_that_is_gone(app: Outwork, worker: LocalWorker, server: MailServer, tmp_path: Path) -> None:
    file = Attachment(filename="gone", path=str(tmp_path / "gone"))
    [result] = Mailer(settings_for(server.port), app=app).send(mail(attachments=[file]))
    assert worker.drain() == 1
    with pytest.raises(TaskFailed, match="the attachment 'gone' cannot be read"):
        result.get()


@pytest.mark.parametrize("utf8", [True, False])
def test_addresses_that_are_not_ascii(app: Outwork, worker: LocalWorker, utf8: bool) -> None:
    server = MailServer(utf8=utf8)
    try:
        results = Mailer(settings_for(server.port), app=app).send(
            mail(["Jörg <info@bücher.example>", "jörg@example.org"])
        )
        assert worker.drain() == 2
        assert results[0].get() == "2.0.0 queued as 1"
        assert server.mails[0].recipients == ("info@xn--bcher-kva.example",)
        if utf8:
            assert server.mails[1].recipients == ("jörg@example.org",)
        else:
            with pytest.raises(TaskFailed, match="SMTPUTF8"):
                results[1].get()
    finally:
        server.stop()


# ---- refused at the call ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (mail([]), "no recipients"),
        (mail("ada"), "is no address"),
        (mail("ada@"), "is no address"),
        (mail("a@example.org\r\nBcc: eve@example.org"), "line break"),
        (mail(text=None), "neither text nor html"),
        (mail(subject="Hello\r\nBcc: eve@example.org"), "cannot be written"),
        (mail(headers={"X-One": "1\r\nBcc: eve@example.org"}), "cannot be written"),
        (mail(headers={"Bcc": "eve@example.org"}), "cannot be set here"),
        (mail(headers={"X One": "1"}), "cannot be set here"),
        (mail(sender="a@example.org, b@example.org"), "one sender"),
        (mail(attachments=[Attachment(filename="x")]), "needs one of content, path and reference"),
        (mail(attachments=[Attachment(filename="x", path="here/x")]), "relative"),
        (mail(attachments=[Attachment(filename="x", content=b"", media_type="png")]), "image/png"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_sent_is_refused_at_the_call(app: Outwork, worker: LocalWorker, wrong: Mail, said: str) -> None:
    with pytest.raises(InvalidMessage, match=said):
        Mailer(settings_for(25), app=app).send(wrong)
    assert worker.jobs == []


def test_a_mail_without_a_sender(app: Outwork, worker: LocalWorker) -> None:
    with pytest.raises(InvalidMessage, match=r"no sender.*\[mail\]"):
        Mailer(MailSettings(), app=app).send(mail())


def test_an_attachment_over_the_limit(app: Outwork, worker: LocalWorker) -> None:
    file = Attachment(filename="large", content=bytes(1_000_000))
    with pytest.raises(PayloadTooLarge, match=r"Attachment\(path=...\)"):
        Mailer(settings_for(25), app=app).send(mail(attachments=[file]))
    assert worker.jobs == []


# ---- a server in trouble ---------------------------------------------------------------------------------------------


def test_the_retries_take_about_a_day() -> None:
    def total(chance: Callable[[], float]) -> float:
        waited, failed = 0.0, 0
        while (delay := next_delay(FOR_A_DAY, failed := failed + 1, OSError(), chance())) is not None:
            waited += delay
        return waited / 3600

    assert 23 < total(lambda: 0.5) < 25
    dice = Random(1)
    assert 23 < sum(total(dice.random) for _ in range(200)) / 200 < 26


def test_a_server_that_is_away_and_comes_back(app: Outwork, worker: LocalWorker, server: MailServer) -> None:
    server.stop()
    [result] = Mailer(settings_for(server.port), app=app).send(mail())
    for hours in (0, 1, 2, 5):
        worker.clock.move(timedelta(hours=hours))
        worker.drain(retries=False)
    result.refresh()
    assert (result.state, result.attempts) == (State.SCHEDULED, 4)
    assert "Connection refused" in result.errors[-1].message
    server.start()
    worker.clock.move(timedelta(hours=2))
    worker.drain(retries=False)
    assert result.get() == "2.0.0 queued as 1"
    assert len(server.mails) == 1


def test_a_server_that_stays_away(app: Outwork, worker: LocalWorker) -> None:
    [result] = Mailer(settings_for(free_port()), app=app).send(mail())
    assert worker.drain() == 34
    result.refresh()
    assert result.state is State.FAILED


def test_a_slow_server(app: Outwork, worker: LocalWorker, server: MailServer) -> None:
    server.go_on.clear()
    [result] = Mailer(settings_for(server.port, timeout=0.2), app=app).send(mail())
    assert worker.drain(retries=False) == 1
    result.refresh()
    assert result.state is State.SCHEDULED
    assert "timed out" in result.errors[0].message
    server.go_on.set()
    worker.clock.move(60)
    worker.drain(retries=False)
    assert result.get() == "2.0.0 queued as 1"
    assert len(server.mails) == 1


def test_a_server_that_is_slow_but_not_too_slow(app: Outwork, worker: LocalWorker, server: MailServer) -> None:
    server.go_on.clear()
    [result] = Mailer(settings_for(server.port), app=app).send(mail())
    drained = threading.Thread(target=worker.drain)
    drained.start()
    until(lambda: server.asked, "a recipient")
    server.go_on.set()
    drained.join(30)
    result.refresh()
    assert (result.state, result.attempts) == (State.SUCCESSFUL, 1)


def test_refused_for_now(app: Outwork, worker: LocalWorker, server: MailServer) -> None:
    server.answers["ada@example.org"] = "451 4.7.1 greylisted, come back"
    [result] = Mailer(settings_for(server.port), app=app).send(mail())
    worker.drain(retries=False)
    result.refresh()
    assert result.state is State.SCHEDULED
    assert "451 4.7.1 greylisted, come back" in result.errors[0].message
    server.answers.clear()
    server.data_answer = "452 4.3.1 disk full"
    worker.clock.move(3600)
    worker.drain(retries=False)
    server.data_answer = ""
    worker.clock.move(3600)
    worker.drain(retries=False)
    assert result.get() == "2.0.0 queued as 1"


@pytest.mark.parametrize("where", ["recipient", "data"])
def test_refused_for_good(app: Outwork, worker: LocalWorker, server: MailServer, where: str) -> None:
    answer = "550 5.1.1 no such user"
    if where == "recipient":
        server.answers["ada@example.org"] = answer
    else:
        server.data_answer = answer
    [result] = Mailer(settings_for(server.port), app=app).send(mail())
    assert worker.drain() == 1
    with pytest.raises(TaskFailed, match="no such user") as caught:
        result.get()
    [failure] = caught.value.failures
    assert failure.exception == f"{GiveUp.__module__}.GiveUp"
    assert answer in failure.message


def test_some_recipients_are_refused(app: Outwork, worker: LocalWorker, server: MailServer) -> None:
    """Who was accepted has the mail once; only the others are tried again, or given up."""
    server.answers = {"bob@example.org": "450 4.2.1 mailbox busy", "eve@example.org": "550 5.1.1 no such user"}
    mailer = Mailer(settings_for(server.port), app=app)
    ada, bob, eve = mailer.send(
        mail(["ada@example.org", "bob@example.org"], cc="eve@example.org", bcc="ada@example.org")
    )
    worker.drain(retries=False)
    for result in (ada, bob, eve):
        result.refresh()
    assert (ada.state, bob.state, eve.state) == (State.SUCCESSFUL, State.SCHEDULED, State.FAILED)
    assert "550 5.1.1 no such user" in eve.errors[0].message
    server.answers.clear()
    worker.clock.move(3600)
    worker.drain(retries=False)
    bob.refresh()
    assert bob.state is State.SUCCESSFUL
    assert [one.recipients for one in server.mails] == [("ada@example.org",), ("bob@example.org",)]
    assert {one.message["To"] for one in server.mails} == {"ada@example.org, bob@example.org"}
    assert {one.message["Cc"] for one in server.mails} == {"eve@example.org"}


def test_a_mail_larger_than_the_server_takes(app: Outwork, worker: LocalWorker) -> None:
    server = MailServer(size_limit=1000)
    try:
        [result] = Mailer(settings_for(server.port), app=app).send(mail(text="x" * 2000))
        assert worker.drain() == 1
        with pytest.raises(TaskFailed, match="takes mails up to 1,000 bytes"):
            result.get()
        assert server.asked == []
    finally:
        server.stop()


def test_an_answer_that_is_lost(app: Outwork, worker: LocalWorker, server: MailServer) -> None:
    """Nobody can know whether the mail was taken: it is sent again, as the same mail."""
    server.hang_up = True
    [result] = Mailer(settings_for(server.port), app=app).send(mail())
    worker.drain(retries=False)
    result.refresh()
    assert result.state is State.SCHEDULED
    server.hang_up = False
    worker.clock.move(60)
    worker.drain(retries=False)
    first, second = server.mails
    assert first.raw == second.raw
    assert first.message["Message-ID"]


NONSENSE = {
    "http": (b"HTTP/1.1 400 Bad Request\r\n\r\n",),
    "binary": (bytes(range(128, 256)) * 10 + b"\r\n",),
    "a line without end": (b"5" * 10_000,),
    "nothing": (b"",),
    "nonsense after hello": (b"220 mail.test\r\n", b"\xff\xfe\r\n", b"what?\r\n"),
    "too many lines": (b"220 mail.test\r\n", b"250-" + b"x" * 9000 + b"\r\n"),
    "nonsense to the sender": (b"220 mail.test\r\n", b"250 mail.test\r\n", b"yes\r\n"),
    "a size that is none": (b"220 mail.test\r\n", b"250-mail.test\r\n250 SIZE \xb2\r\n", b"421 bye\r\n"),
}


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE)
def test_a_server_that_speaks_nonsense(app: Outwork, worker: LocalWorker, said: tuple[bytes, ...]) -> None:
    server = NonsenseServer(*said)
    try:
        [result] = Mailer(settings_for(server.port, timeout=5.0), app=app).send(mail())
        assert worker.drain(retries=False) == 1
        result.refresh()
        assert result.state is State.SCHEDULED
        [failure] = result.errors
        assert failure.exception_class_path == f"{TryAgain.__module__}.TryAgain"
        assert f"127.0.0.1:{server.port}" in failure.message
    finally:
        server.close()


def test_nonsense_after_the_mail_was_taken(app: Outwork, worker: LocalWorker) -> None:
    greeting = (b"220 mail.test\r\n", b"250 mail.test\r\n", b"250 OK\r\n", b"250 OK\r\n", b"354 go\r\n")
    server = NonsenseServer(*greeting, b"250 queued\r\n", b"\xff\xff\r\n")
    try:
        [result] = Mailer(settings_for(server.port), app=app).send(mail())
        assert worker.drain() == 1
        assert result.get() == "queued"
        assert server.connections == 1
    finally:
        server.close()


# ---- encryption and login --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("security", ["starttls", "ssl"])
def test_encrypted_and_logged_in(
    app: Outwork, worker: LocalWorker, tmp_path: Path, security: str, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = certificate_in(tmp_path)
    tls = server_context(certificate, key)
    server = MailServer(tls=tls, implicit=security == "ssl", login=("shop", "correct horse"))
    caplog.set_level(logging.DEBUG, "outwork")
    more = {"security": security, "user": "shop", "password": "correct horse"}
    try:
        Mailer(settings_for(server.port, ca_file=str(certificate), **more), app=app).send(mail())
        worker.drain()
        assert len(server.wait_for(1)) == 1
        assert server.logins == [("shop", "correct horse")]
        wrong = Mailer(
            settings_for(server.port, ca_file=str(certificate), **{**more, "password": "battery staple"}),
            app=app,
            name="wrong",
        )
        [refused] = wrong.send(mail())
        assert worker.drain() == 1
        with pytest.raises(TaskFailed, match=r"535 5\.7\.8") as caught:
            refused.get()
        assert "staple" not in str(caught.value.failures)
        [mistrusted] = Mailer(settings_for(server.port, **more), app=app, name="mistrusting").send(mail())
        worker.drain(retries=False)
        mistrusted.refresh()
        assert "CERTIFICATE_VERIFY_FAILED" in mistrusted.errors[0].message
        assert len(server.mails) == 1
        assert not any("horse" in repr(job) for job in worker.jobs)
    finally:
        server.stop()
    assert "horse" not in caplog.text
    assert "staple" not in caplog.text


def test_a_server_without_what_is_wanted(app: Outwork, worker: LocalWorker, server: MailServer) -> None:
    [plain] = Mailer(settings_for(server.port, security="starttls"), app=app, name="a").send(mail())
    [stranger] = Mailer(settings_for(server.port, user="shop", password="x"), app=app, name="b").send(mail())
    assert worker.drain() == 2
    for result, lacks in ((plain, "STARTTLS"), (stranger, "authentication method")):
        with pytest.raises(TaskFailed, match=lacks):
            result.get()
    assert server.mails == []


# ---- settings --------------------------------------------------------------------------------------------------------


def test_settings_that_cannot_be() -> None:
    for wrong, said in (
        ({"port": 0}, "1 to 65535"),
        ({"host": " "}, "name of the mail server"),
        ({"timeout": 0.0}, "longer than nothing"),
        ({"host": "mail.example.org", "user": "me", "password": "x"}, "unencrypted"),
    ):
        with pytest.raises(ValueError, match=said):
            MailSettings(**wrong)
    assert MailSettings(host="mail.example.org", user="me", security="ssl").address == ("mail.example.org", 465)
    assert "hunter2" not in repr(MailSettings(user="me", password="hunter2"))


def test_settings_by_a_function(app: Outwork, worker: LocalWorker, server: MailServer) -> None:
    chosen = [settings_for(1)]
    Mailer(lambda: chosen[0], app=app).send(mail())
    worker.drain(retries=False)
    chosen[0] = settings_for(server.port)  # the operator has mended it
    worker.drain()
    assert len(server.mails) == 1


def test_two_mailers_in_an_application(app: Outwork) -> None:
    Mailer(settings_for(1), app=app)
    Mailer(settings_for(1), app=app)
    with pytest.raises(DuplicateTask, match="name="):
        Mailer(settings_for(2), app=app)


def test_settings_of_the_file(tmp_path: Path, server: MailServer) -> None:
    file = tmp_path / "outwork.toml"
    file.write_text(f'[mail]\nhost = "127.0.0.1"\nport = {server.port}\nsender = "{SENDER}"\ntimeout = "5s"\n')
    app = Outwork(config=file)
    [result] = Mailer(app=app).send(mail())  # without a broker: at once
    assert result.get() == "2.0.0 queued as 1"
    file.write_text('[mail]\nhots = "127.0.0.1"\n')
    with pytest.raises(SettingsError, match=r'outwork.toml:2 \[mail\] hots: unknown key \(did you mean "host"\?\)'):
        Mailer(app=Outwork(config=file)).send(mail())
