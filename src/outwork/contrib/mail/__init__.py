"""Mails, sent by a worker.

    mailer = Mailer()                     # [mail] of outwork.toml, OUTWORK_MAIL__HOST..., or Mailer(MailSettings(...))

    mailer.send(Mail(to="ada@example.org", subject="Welcome", text="Hello Ada"))

Each recipient is a job of its own. A server takes a mail for some recipients and refuses it for others; so who was
accepted has it once, and only the others are tried again, or given up with the server's answer. A server that is away,
or says 4xx, is asked again for about 24 hours; 5xx ends the job FAILED at once.
"""

from __future__ import annotations

from collections.abc import Callable
from email.message import Message
from typing import Any

from outwork.app import Outwork
from outwork.contrib.mail.message import Attachment, Letter, Mail, OpenReference, contents, letters
from outwork.contrib.mail.settings import MailSettings
from outwork.contrib.mail.smtp import deliver
from outwork.contrib.remote import FOR_A_DAY, Remote
from outwork.declaring.options import When
from outwork.errors import PayloadTooLarge
from outwork.job import DEFAULT_QUEUE
from outwork.result import TaskResult
from outwork.retry import Retry
from outwork.task import Call, Task

__all__ = ["Attachment", "Letter", "Mail", "MailSettings", "Mailer"]


class Mailer(Remote[MailSettings]):
    """Sends mails of an application (None: the default one). Make it where tasks are declared.

    `name` is that of its task; a second Mailer with other settings needs another one. `open_reference` gives the bytes
    of an attachment that is a reference; what it raises fails the attempt.
    """

    def __init__(
        self,
        settings: MailSettings | Callable[[], MailSettings] | None = None,
        *,
        app: Outwork | None = None,
        name: str = "outwork.mail",
        queue_name: str = DEFAULT_QUEUE,
        retry: Retry | None = FOR_A_DAY,
        open_reference: OpenReference | None = None,
    ) -> None:
        super().__init__("mail", MailSettings, settings, app)
        self.declared_as(name)
        self._open_reference = open_reference
        self.task: Task[[Letter], str] = self.app.task(name=name, queue_name=queue_name, retry=retry)(self._deliver)

    def send(
        self, mail: Mail | Message[Any, Any], *, run_after: When | None = None, connection: object | None = None
    ) -> list[TaskResult[str]]:
        """Enqueue a mail: by its parts, or a message of Python's `email` with its To, Cc and Bcc.

        One result for each recipient, in their order; its value is the server's answer. `run_after` and `connection`
        are those of `using`. Raises InvalidMessage, PayloadTooLarge, SettingsError, and what `enqueue` raises.
        """
        return self.app.enqueue_many(self.calls(mail, run_after), connection=connection)

    async def asend(
        self, mail: Mail | Message[Any, Any], *, run_after: When | None = None, connection: object | None = None
    ) -> list[TaskResult[str]]:
        """As `send`, without blocking the event loop."""
        return await self.app.aenqueue_many(self.calls(mail, run_after), connection=connection)

    def calls(self, mail: Mail | Message[Any, Any], run_after: When | None = None) -> list[Call[str]]:
        """The calls that `send` enqueues, to be enqueued together with others."""
        task = self.task.using(run_after=run_after)
        try:
            return [task.bind(letter) for letter in letters(mail, self.settings.sender)]
        except PayloadTooLarge as error:
            limit = self.app.max_payload
            raise PayloadTooLarge(
                f"the mail takes more than max_payload = {limit:,} bytes in a job. Give a large attachment as "
                "Attachment(path=...) or Attachment(reference=...). Nothing was enqueued"
            ) from error

    def _deliver(self, letter: Letter) -> str:
        settings = self.settings
        message = contents(letter, self._open_reference)
        return deliver(settings, letter.sender, letter.recipient, message, international=letter.international)
