"""Text messages, sent by a worker over SMPP 3.4.

    texter = Texter()                     # [sms] of outwork.toml, OUTWORK_SMS__HOST..., or Texter(SmsSettings(...))

    texter.send(Sms(to="+49 170 1234567", text="Your code is 4711"))

A long text goes in parts, and each part is a job of its own: the server takes or refuses each of them. So a part that
was taken is not sent again when another one has to wait. A server that is away, or has no room, is asked again for
about 24 hours; any other refusal ends the job FAILED at once.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from outwork.app import Outwork
from outwork.contrib.remote import FOR_A_DAY, Remote, need
from outwork.contrib.sms.settings import SmsSettings
from outwork.contrib.sms.text import MOST_PARTS, Coding, encode, header, split
from outwork.declaring.options import When
from outwork.errors import InvalidMessage
from outwork.job import DEFAULT_QUEUE
from outwork.result import TaskResult
from outwork.retry import Retry
from outwork.task import Call, Task

__all__ = ["Sms", "SmsSettings", "TextPart", "Texter"]

_IGNORED: Final = re.compile(r"[\s().\-/]")
_NUMBER: Final = re.compile(r"\+?\d{3,20}")
_NAME: Final = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 ._&+-]{1,11}")

UDHI: Final = 0x40
"""esm_class: the text begins with a header."""
_CODINGS: Final = {"gsm7": 0, "ucs2": 8}
"""data_coding, of SMPP 3.4, 5.2.19."""
_INTERNATIONAL: Final = (1, 1)
_LOCAL: Final = (0, 1)
_ALPHANUMERIC: Final = (5, 0)
"""Type of number and numbering plan (5.2.5, 5.2.6)."""


class Sms(Struct, frozen=True, kw_only=True):
    """A text message. `to` is a number, best with its country (`+49...`); `sender` a number or a name of up to 11
    characters, by default that of the settings."""

    to: str
    text: str
    sender: str | None = None


class TextPart(Struct, frozen=True, kw_only=True):
    """A part of a text message: what a job carries. `reference` is the same in all parts of a message, `number` counts
    from 1."""

    to: str
    sender: str
    text: str
    coding: Coding
    reference: int = 0
    total: int = 1
    number: int = 1


class Texter(Remote[SmsSettings]):
    """Sends text messages of an application (None: the default one). Make it where tasks are declared.

    `name` is that of its task; a second Texter with other settings needs another one.
    """

    def __init__(
        self,
        settings: SmsSettings | Callable[[], SmsSettings] | None = None,
        *,
        app: Outwork | None = None,
        name: str = "outwork.sms",
        queue_name: str = DEFAULT_QUEUE,
        retry: Retry | None = FOR_A_DAY,
    ) -> None:
        need("smpplib", "sms", "outwork.contrib.sms")
        super().__init__("sms", SmsSettings, settings, app)
        self.declared_as(name)
        self.task: Task[[TextPart], str] = self.app.task(name=name, queue_name=queue_name, retry=retry)(self._submit)

    def send(
        self, message: Sms, *, run_after: When | None = None, connection: object | None = None
    ) -> list[TaskResult[str]]:
        """Enqueue a text message. One result for each part; its value is the id that the server gave to the part.

        `run_after` and `connection` are those of `using`. Raises InvalidMessage, SettingsError, and what `enqueue`
        raises.
        """
        return self.app.enqueue_many(self.calls(message, run_after), connection=connection)

    async def asend(
        self, message: Sms, *, run_after: When | None = None, connection: object | None = None
    ) -> list[TaskResult[str]]:
        """As `send`, without blocking the event loop."""
        return await self.app.aenqueue_many(self.calls(message, run_after), connection=connection)

    def calls(self, message: Sms, run_after: When | None = None) -> list[Call[str]]:
        """The calls that `send` enqueues, to be enqueued together with others."""
        task = self.task.using(run_after=run_after)
        return [task.bind(part) for part in _parts(message, self.settings.sender)]

    def _submit(self, part: TextPart) -> str:
        from outwork.contrib.sms.smpp import submit  # loads smpplib, which a web process does not need

        ton, npi = _kind_of(part.sender)
        to_ton, to_npi = _kind_of(part.to)
        udh = header(part.reference, part.total, part.number) if part.total > 1 else b""
        return submit(
            self.settings,
            source_addr_ton=ton,
            source_addr_npi=npi,
            source_addr=part.sender.removeprefix("+"),
            dest_addr_ton=to_ton,
            dest_addr_npi=to_npi,
            destination_addr=part.to.removeprefix("+"),
            esm_class=UDHI if udh else 0,
            data_coding=_CODINGS[part.coding],
            short_message=udh + encode(part.text, part.coding),
        )


def _parts(message: Sms, default_sender: str) -> list[TextPart]:
    to = _IGNORED.sub("", message.to)
    if not _NUMBER.fullmatch(to):
        raise InvalidMessage(f"to = {message.to!r} is no telephone number. Write +491701234567. Nothing was enqueued")
    sender = (message.sender or default_sender).strip()
    if not sender:
        raise InvalidMessage(
            'the message has no sender. Give it one, or set one for all: sender = "..." in [sms]. Nothing was enqueued'
        )
    bare = _IGNORED.sub("", sender)
    if _NUMBER.fullmatch(bare):
        sender = bare
    elif not _NAME.fullmatch(sender):
        raise InvalidMessage(
            f"sender = {sender!r}: write a number, or a name of up to 11 letters, digits and spaces. Nothing was "
            "enqueued"
        )
    if not message.text:
        raise InvalidMessage("the message has no text. Nothing was enqueued")
    try:
        message.text.encode("utf-16-be")
    except UnicodeEncodeError as error:
        raise InvalidMessage(f"the text cannot be sent: {error}. Nothing was enqueued") from error
    coding, texts = split(message.text)
    if len(texts) > MOST_PARTS:
        raise InvalidMessage(f"the text takes {len(texts)} parts; there can be {MOST_PARTS}. Nothing was enqueued")
    reference = random.randrange(256)  # equal ones meet only in two messages to one telephone at one time
    return [
        TextPart(to=to, sender=sender, text=text, coding=coding, reference=reference, total=len(texts), number=number)
        for number, text in enumerate(texts, start=1)
    ]


def _kind_of(address: str) -> tuple[int, int]:
    if address.startswith("+"):
        return _INTERNATIONAL
    return _LOCAL if address.isdecimal() else _ALPHANUMERIC
