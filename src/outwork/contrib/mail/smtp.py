"""One mail to one recipient, by SMTP: taken, refused for now, or refused for good."""

from __future__ import annotations

import logging
import re
import smtplib
import ssl
from contextlib import closing
from typing import Final, NoReturn

from outwork.contrib.mail.settings import MailSettings
from outwork.errors import GiveUp, TryAgain

logger = logging.getLogger("outwork.mail")

_FAREWELL: Final = 5.0
"""Seconds for the server's goodbye, which changes nothing any more."""
_DOT: Final = re.compile(rb"^\.", re.MULTILINE)


def deliver(settings: MailSettings, sender: str, recipient: str, message: bytes, *, international: bool) -> str:
    """The server's answer to a mail that it has taken.

    Raises TryAgain for an answer 4xx, for a server that cannot be reached, falls silent or speaks nonsense; GiveUp for
    an answer 5xx and for a server that lacks what is needed. Both have the answer in their text.
    """
    host, port = settings.address
    place = f"{host}:{port}"
    try:
        with closing(_connected(settings)) as server:
            answer = _hand_over(server, settings, place, sender, recipient, message, international=international)
            _leave(server)
            return answer
    # No causes: their text is in ours, and an outage is told often enough without a page of traceback each time.
    except smtplib.SMTPNotSupportedError as error:
        raise GiveUp(f"{place}: {error}") from None
    except smtplib.SMTPResponseException as error:
        if isinstance(error.smtp_error, str):  # smtplib's own words about a line without end: nonsense, no answer
            raise TryAgain(f"{place}: {error.smtp_error}") from None
        _refuse(place, error.smtp_code, error.smtp_error)
    except smtplib.SMTPException as error:
        lacks = type(error) is smtplib.SMTPException  # no way to log in that both sides know
        raise (GiveUp if lacks else TryAgain)(f"{place}: {type(error).__name__}: {error}") from None
    except (OSError, ValueError) as error:  # ValueError: what it said could not be decoded
        raise TryAgain(f"{place}: {type(error).__name__}: {error}") from None


def _connected(settings: MailSettings) -> smtplib.SMTP:
    """A session that has said hello, is encrypted and logged in as the settings want it."""
    host, port = settings.address
    hostname = settings.hostname or None
    context = ssl.create_default_context(cafile=settings.ca_file or None) if settings.security != "none" else None
    if settings.security == "ssl":
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, hostname, timeout=settings.timeout, context=context)
    else:
        server = smtplib.SMTP(host, port, hostname, timeout=settings.timeout)
    try:
        server.ehlo_or_helo_if_needed()
        if settings.security == "starttls":
            server.starttls(context=context)
            server.ehlo_or_helo_if_needed()
        if settings.user:
            server.login(settings.user, settings.password)
    except BaseException:
        server.close()
        raise
    return server


def _hand_over(
    server: smtplib.SMTP,
    settings: MailSettings,
    place: str,
    sender: str,
    recipient: str,
    message: bytes,
    *,
    international: bool,
) -> str:
    options: list[str] = []
    if international:
        options += ["SMTPUTF8", "BODY=8BITMIME"]
    if server.has_extn("size"):
        limit = server.esmtp_features["size"]
        if limit.isdecimal() and 0 < int(limit) < len(message):
            raise GiveUp(f"{place} takes mails up to {int(limit):,} bytes; this one has {len(message):,}")
        options.append(f"SIZE={len(message)}")
    for expected, (code, answer) in (
        (250, server.mail(sender, options)),
        (250, server.rcpt(recipient)),
        (354, server.docmd("DATA")),
    ):
        if code != expected and not (expected == 250 and code == 251):
            _refuse(place, code, answer)
    ending = b"" if message.endswith(b"\r\n") else b"\r\n"
    server.send(_DOT.sub(b"..", message) + ending + b".\r\n")
    assert server.sock is not None
    server.sock.settimeout(settings.answer_timeout)
    code, answer = server.getreply()
    if code != 250:
        _refuse(place, code, answer)
    return _text(answer)


def _leave(server: smtplib.SMTP) -> None:
    """Say goodbye. The mail is the server's now, so nothing that happens here may fail the attempt."""
    try:
        assert server.sock is not None
        server.sock.settimeout(_FAREWELL)
        server.quit()
    except (OSError, ValueError) as error:
        logger.debug("the mail was taken, the goodbye failed: %s", type(error).__name__)


def _refuse(place: str, code: int, answer: bytes) -> NoReturn:
    text = f"{place} answered: {code} {_text(answer)}" if code > 0 else f"{place} speaks no SMTP: {_text(answer)}"
    raise (GiveUp if 500 <= code <= 599 else TryAgain)(text) from None


def _text(answer: bytes) -> str:
    return " ".join(answer.decode(errors="replace").split())[:500]
