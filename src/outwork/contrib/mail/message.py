"""Mails: their parts, what is wrong with them, and the bytes that an SMTP server gets."""

from __future__ import annotations

import copy
import mimetypes
import os
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from email.errors import MessageError, NonASCIILocalPartDefect
from email.headerregistry import Address
from email.message import EmailMessage, Message
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from typing import Any, Final, TypeAlias, cast

from msgspec import Struct
from msgspec.structs import replace

from outwork.errors import GiveUp, InvalidMessage

Addresses: TypeAlias = str | Sequence[str]
"""One address or several: `ada@example.org`, or `Ada <ada@example.org>`."""
OpenReference: TypeAlias = Callable[[str], bytes]
"""Gives the content that a reference stands for."""

_HEADER: Final = re.compile(r"[!-9;-~]+")
_OURS: Final = frozenset(
    {"from", "to", "cc", "bcc", "reply-to", "subject", "date", "message-id", "mime-version", "sender"}
)


class Attachment(Struct, frozen=True, kw_only=True):
    """A file that goes with a mail. Its content is one of three:

    - content: the bytes. They travel with the job, so its `max_payload` is their limit
    - path: an absolute path, read where the mail is sent
    - reference: whatever the `open_reference` of the Mailer understands: a key in a store, a URL

    `media_type` follows from the file's name. With a `content_id` ("logo") it is an inline image, which the HTML shows
    by `<img src="cid:logo">`.
    """

    filename: str
    content: bytes | None = None
    path: str | None = None
    reference: str | None = None
    media_type: str | None = None
    content_id: str | None = None


class Mail(Struct, frozen=True, kw_only=True):
    """A mail by its parts: a text, an HTML version of it, or both. `sender` is by default that of the settings."""

    to: Addresses
    subject: str
    text: str | None = None
    html: str | None = None
    sender: str | None = None
    cc: Addresses = ()
    bcc: Addresses = ()
    reply_to: Addresses = ()
    headers: dict[str, str] = {}
    attachments: Sequence[Attachment] = ()


class Letter(Struct, frozen=True, kw_only=True):
    """A mail for one recipient: what a job carries. `mail`, or `whole`: a message that was given as such."""

    sender: str
    recipient: str
    message_id: str
    date: datetime
    mail: Mail | None = None
    whole: bytes | None = None

    @property
    def international(self) -> bool:
        """Whether only a server with SMTPUTF8 can take it: a domain has an ASCII form, the part before @ has none."""
        return not (self.sender.isascii() and self.recipient.isascii())


# ---- at the call -----------------------------------------------------------------------------------------------------


def letters(mail: Mail | Message[Any, Any], default_sender: str) -> list[Letter]:
    """One letter for each recipient, each of them once. Raises InvalidMessage."""
    if isinstance(mail, Mail):
        return _of_parts(mail, default_sender)
    return _of_message(mail, default_sender)


def _of_parts(mail: Mail, default_sender: str) -> list[Letter]:
    sender = _only(mail.sender or default_sender, "sender")
    recipients = [*parsed(mail.to, "to"), *parsed(mail.cc, "cc"), *parsed(mail.bcc, "bcc")]
    if mail.text is None and mail.html is None:
        raise InvalidMessage("the mail has neither text nor html. Nothing was enqueued")
    for attachment in mail.attachments:
        _check_attachment(attachment)
    kept = mail if mail.sender else replace(mail, sender=default_sender)
    date, message_id = datetime.now(UTC), make_msgid(domain=sender.domain)
    made = [
        Letter(sender=sender.addr_spec, recipient=one, message_id=message_id, date=date, mail=kept)
        for one in _each_once(recipients)
    ]
    compose(made[0], lambda one: b"")
    return made


def _of_message(message: Message[Any, Any], default_sender: str) -> list[Letter]:
    message = copy.deepcopy(message)
    sender = _only(str(message.get("Sender") or message.get("From") or default_sender), "From")
    recipients = [
        one for name in ("To", "Cc", "Bcc") for value in message.get_all(name, []) for one in parsed(str(value), name)
    ]
    if "From" not in message:
        message["From"] = str(sender)
    del message["Bcc"]
    date = datetime.now(UTC)
    if "Date" not in message:
        message["Date"] = format_datetime(date)
    if "Message-ID" not in message:
        message["Message-ID"] = make_msgid(domain=sender.domain)
    each = _each_once(recipients)
    international = not all(one.isascii() for one in (*each, sender.addr_spec))
    whole = _flat(message, international=international)
    message_id = str(message["Message-ID"])
    return [
        Letter(sender=sender.addr_spec, recipient=one, message_id=message_id, date=date, whole=whole) for one in each
    ]


def parsed(addresses: Addresses, what: str) -> list[Address]:
    """The addresses in a text or in several, their domains in ASCII. Raises InvalidMessage."""
    found: list[Address] = []
    for text in [addresses] if isinstance(addresses, str) else addresses:
        if not set(text).isdisjoint("\r\n"):
            raise InvalidMessage(f"{what}: an address has a line break in it. Nothing was enqueued")
        those = _addresses_in(text)
        if not those or not all(one.username and one.domain for one in those):
            raise InvalidMessage(
                f"{what} = {text!r} is no address of a mail. Write ada@example.org, or Ada <ada@example.org>. Nothing "
                "was enqueued"
            )
        found += (_in_ascii(one, what) for one in those)
    return found


def _addresses_in(text: str) -> tuple[Address, ...]:
    """The addresses in a text; none if there is anything wrong with one of them."""
    try:
        header = cast("Any", SMTP.header_factory("To", text))
    except (MessageError, IndexError, ValueError):  # IndexError: the parser's own, for "ada@"
        return ()
    wrong = [one for one in header.defects if not isinstance(one, NonASCIILocalPartDefect)]
    return () if wrong else header.addresses


def _in_ascii(address: Address, what: str) -> Address:
    try:
        domain = address.domain.encode("idna").decode() if not address.domain.isascii() else address.domain
    except UnicodeError as error:
        raise InvalidMessage(f"{what} = {address}: no such domain can be: {error}. Nothing was enqueued") from error
    return Address(address.display_name, address.username, domain)


def _only(text: str, what: str) -> Address:
    if not text.strip():
        raise InvalidMessage(
            'the mail has no sender. Give it one, or set one for all: sender = "..." in [mail]. Nothing was enqueued'
        )
    found = parsed(text, what)
    if len(found) != 1:
        raise InvalidMessage(f"{what} = {text!r}: a mail has one sender. Nothing was enqueued")
    return found[0]


def _each_once(recipients: Iterable[Address]) -> list[str]:
    each = list(dict.fromkeys(one.addr_spec for one in recipients))
    if not each:
        raise InvalidMessage("the mail has no recipients. Nothing was enqueued")
    return each


def _check_attachment(attachment: Attachment) -> None:
    given = [attachment.content is not None, attachment.path is not None, attachment.reference is not None]
    name = attachment.filename
    if sum(given) != 1:
        raise InvalidMessage(
            f"the attachment {name!r} needs one of content, path and reference, and no more. Nothing was enqueued"
        )
    if attachment.path is not None and not os.path.isabs(attachment.path):
        raise InvalidMessage(
            f"the attachment {name!r}: path = {attachment.path!r} is relative, and the worker may run elsewhere. Write "
            "an absolute path. Nothing was enqueued"
        )
    if attachment.media_type is not None and not re.fullmatch(r"[\w.+-]+/[\w.+-]+", attachment.media_type):
        raise InvalidMessage(
            f"the attachment {name!r}: media_type = {attachment.media_type!r}: write, for example, image/png. Nothing "
            "was enqueued"
        )


# ---- the bytes -------------------------------------------------------------------------------------------------------


def contents(letter: Letter, open_reference: OpenReference | None) -> bytes:
    """The message as the server gets it. Raises GiveUp where an attachment is not to be had any more."""
    if letter.whole is not None:
        return letter.whole

    def read(attachment: Attachment) -> bytes:
        if attachment.content is not None:
            return attachment.content
        if attachment.path is not None:
            try:
                with open(attachment.path, "rb") as file:
                    return file.read()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
                raise GiveUp(f"the attachment {attachment.filename!r} cannot be read: {error}") from error
        assert attachment.reference is not None
        if open_reference is None:
            raise GiveUp(f"the attachment {attachment.filename!r} is a reference: give Mailer(open_reference=...)")
        return open_reference(attachment.reference)

    return _flat(compose(letter, read), international=letter.international)


def compose(letter: Letter, read: Callable[[Attachment], bytes]) -> EmailMessage:
    """The message of a letter given by parts. Raises InvalidMessage for what no header can hold."""
    mail = letter.mail
    assert mail is not None
    assert mail.sender is not None
    message = EmailMessage(policy=SMTP)
    try:
        message["From"] = parsed(mail.sender, "sender")
        message["To"] = parsed(mail.to, "to")
        for name, addresses in (("Cc", mail.cc), ("Reply-To", mail.reply_to)):
            if addresses:
                message[name] = parsed(addresses, name)
        message["Subject"] = mail.subject
        message["Date"] = letter.date
        message["Message-ID"] = letter.message_id
        for name, value in mail.headers.items():
            if not _HEADER.fullmatch(name) or name.lower() in _OURS or name.lower().startswith("content-"):
                raise InvalidMessage(f"headers: {name!r} cannot be set here. Nothing was enqueued")
            message[name] = value
        _fill(message, mail, read)
    except InvalidMessage:
        raise
    except (ValueError, UnicodeError) as error:
        raise InvalidMessage(f"the mail cannot be written: {error}. Nothing was enqueued") from error
    return message


def _fill(message: EmailMessage, mail: Mail, read: Callable[[Attachment], bytes]) -> None:
    """Text, HTML with the images inside it, and attachments."""
    page: EmailMessage | None = None
    if mail.text is not None:
        message.set_content(mail.text)
        if mail.html is not None:
            message.add_alternative(mail.html, subtype="html")
            page = cast("list[EmailMessage]", message.get_payload())[-1]
    else:
        message.set_content(mail.html or "", subtype="html")
        page = message
    inline = [one for one in mail.attachments if one.content_id is not None and page is not None]
    for one in inline:
        assert page is not None
        main, _, sub = _media_type(one).partition("/")
        page.add_related(read(one), main, sub, cid=f"<{one.content_id}>", filename=one.filename, disposition="inline")
    for one in mail.attachments:
        if one not in inline:
            main, _, sub = _media_type(one).partition("/")
            message.add_attachment(read(one), main, sub, filename=one.filename)


def _media_type(attachment: Attachment) -> str:
    if attachment.media_type is not None:
        return attachment.media_type
    guessed, encoding = mimetypes.guess_type(attachment.filename)
    return guessed if guessed and not encoding else "application/octet-stream"


def _flat(message: Message[Any, Any], *, international: bool) -> bytes:
    """Lines end with CRLF; without SMTPUTF8 there is nothing but ASCII, so that any server can take it."""
    policy = SMTP.clone(utf8=True) if international else SMTP.clone(cte_type="7bit")
    return message.as_bytes(policy=policy)
