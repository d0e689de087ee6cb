"""Webhooks: signed HTTP requests to endpoints that others have named, sent by a worker.

    webhooks = Webhooks()                 # [webhook] of outwork.toml, OUTWORK_WEBHOOK__SECRET..., or by code

    webhooks.send("https://example.org/hooks", {"type": "order.paid", "order": 7})

The headers are those of https://www.standardwebhooks.com: `webhook-id`, which stays the same over all attempts,
`webhook-timestamp` and `webhook-signature`. A receiver that is away or busy is asked again for about 24 hours, after as
long a time as its Retry-After says; another answer than 2xx ends the job FAILED at once. Endpoints may not lead to
private addresses: a name is looked up once, and the request goes to the very address that was judged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final, TypeAlias, TypedDict, Unpack
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Struct

from outwork.app import Outwork
from outwork.contrib.remote import FOR_A_DAY, Remote, need
from outwork.contrib.webhook.addresses import permitted
from outwork.contrib.webhook.settings import WebhookSettings
from outwork.contrib.webhook.signature import headers_of, key_of, new_secret
from outwork.declaring.options import When
from outwork.errors import GiveUp, InvalidMessage, SettingsError
from outwork.ids import new_job_id
from outwork.job import DEFAULT_QUEUE
from outwork.result import TaskResult
from outwork.retry import Retry
from outwork.task import Call, Task

__all__ = ["Event", "Sending", "WebhookSettings", "Webhooks", "new_secret"]

SecretOf: TypeAlias = Callable[[str], str | Sequence[str]]
"""The secret of an endpoint, by its URL; several while receivers learn a new one."""

TIME_LIMIT: Final = 300.0
"""Seconds for an attempt, whatever a receiver does to make it longer, such as sending its answer byte by byte."""
_OURS: Final = re.compile(r"host|content-length|transfer-encoding|connection|webhook-.*", re.IGNORECASE)
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ID: Final = re.compile(r"[!-~]{1,256}")


class Event(Struct, frozen=True, kw_only=True):
    """What a job carries: where to, and the very bytes that are sent in all attempts."""

    url: str
    id: str
    body: bytes
    headers: dict[str, str] = {}


class Sending(TypedDict, total=False):
    """How a request is sent. `id` is how the receiver knows an event again that it has got twice, by default a new one;
    `headers` are added; `run_after` is that of `using`."""

    id: str | None
    headers: Mapping[str, str] | None
    run_after: When | None


class Webhooks(Remote[WebhookSettings]):
    """Sends webhooks of an application (None: the default one). Make it where tasks are declared.

    `secret_of` gives the secret of an endpoint where the request is sent, so that it does not travel with the job;
    without it all are signed with the settings' `secret`. `name` is that of its task; a second Webhooks with other
    settings needs another one.
    """

    def __init__(
        self,
        settings: WebhookSettings | Callable[[], WebhookSettings] | None = None,
        *,
        app: Outwork | None = None,
        name: str = "outwork.webhook",
        queue_name: str = DEFAULT_QUEUE,
        retry: Retry | None = FOR_A_DAY,
        secret_of: SecretOf | None = None,
    ) -> None:
        need("httpx2", "webhook", "outwork.contrib.webhook")
        super().__init__("webhook", WebhookSettings, settings, app)
        self.declared_as(name)
        self._secret_of = secret_of
        declare = self.app.task(name=name, queue_name=queue_name, retry=retry, timeout=TIME_LIMIT)
        self.task: Task[[Event], int] = declare(self._post)

    def send(
        self, url: str, payload: Any, *, connection: object | None = None, **how: Unpack[Sending]
    ) -> TaskResult[int]:
        """Enqueue a request with this payload as JSON; bytes are sent as they are. Its result is the answer's status.

        Further keywords are those of `Sending`, `connection` is that of `using`. Raises InvalidMessage, SettingsError,
        and what `enqueue` raises.
        """
        [result] = self.app.enqueue_many([self.call(url, payload, **how)], connection=connection)
        return result

    async def asend(
        self, url: str, payload: Any, *, connection: object | None = None, **how: Unpack[Sending]
    ) -> TaskResult[int]:
        """As `send`, without blocking the event loop."""
        [result] = await self.app.aenqueue_many([self.call(url, payload, **how)], connection=connection)
        return result

    def call(
        self,
        url: str,
        payload: Any,
        *,
        id: str | None = None,
        headers: Mapping[str, str] | None = None,
        run_after: When | None = None,
    ) -> Call[int]:
        """The call that `send` enqueues, to be enqueued together with others."""
        settings = self.settings
        if self._secret_of is None and not settings.secret:
            raise SettingsError(
                "webhooks are signed, and there is no secret. Set secret in [webhook] (new_secret() makes one), or "
                "give Webhooks(secret_of=...)"
            )
        _check_url(url, settings)
        if id is not None and not _ID.fullmatch(id):
            raise InvalidMessage(f"id = {id!r}: write 1 to 256 visible ASCII characters. Nothing was enqueued")
        for name, value in (headers or {}).items():
            if not _NAME.fullmatch(name) or _OURS.fullmatch(name) or not value.isascii() or not value.isprintable():
                raise InvalidMessage(f"headers: {name!r} cannot be set here. Nothing was enqueued")
        event = Event(url=url, id=id or f"msg_{new_job_id()}", body=_encoded(payload), headers=dict(headers or {}))
        return self.task.using(run_after=run_after).bind(event)

    def _post(self, event: Event) -> int:
        from outwork.contrib.webhook.request import now, post  # loads httpx2, which a web process does not need

        settings = self.settings
        headers = {"content-type": "application/json", **{name.lower(): value for name, value in event.headers.items()}}
        headers |= headers_of(event.id, now(), event.body, self._keys(event.url, settings))
        return post(settings, event.url, headers, event.body)

    def _keys(self, url: str, settings: WebhookSettings) -> list[bytes]:
        if self._secret_of is not None:
            found = self._secret_of(url)
            secrets = [found] if isinstance(found, str) else list(found)
        else:
            secrets = [secret for secret in (settings.secret, settings.previous_secret) if secret]
        try:
            keys = [key_of(secret) for secret in secrets]
        except ValueError as error:
            raise GiveUp(f"the request cannot be signed: {error}") from None
        if not keys:
            raise GiveUp("the request cannot be signed: the endpoint has no secret")
        return keys


def _check_url(url: str, settings: WebhookSettings) -> None:
    try:
        parts = urlsplit(url)
        _check_parts(parts, settings)
    except ValueError as error:
        if isinstance(error, InvalidMessage):
            raise
        raise InvalidMessage(f"the endpoint is no URL: {error}. Nothing was enqueued") from error
    if not url.isprintable() or " " in url:
        raise InvalidMessage("the endpoint's URL has spaces or control characters in it. Nothing was enqueued")


def _check_parts(parts: SplitResult, settings: WebhookSettings) -> None:
    if parts.scheme not in (("https", "http") if settings.allow_http else ("https",)):
        hint = " (allow_http = true in [webhook] allows http)" if parts.scheme == "http" else ""
        raise InvalidMessage(f"an endpoint begins with https://, not {parts.scheme!r}{hint}. Nothing was enqueued")
    if not parts.hostname or parts.port == 0:
        raise InvalidMessage("the endpoint's URL names no host. Nothing was enqueued")
    if parts.username is not None:
        raise InvalidMessage("the endpoint's URL has a user in it. Send a header instead. Nothing was enqueued")
    try:
        ip_address(parts.hostname)
    except ValueError:
        return  # a name: judged where it is looked up
    if not permitted(parts.hostname, settings.allowed_networks):
        raise InvalidMessage(
            f"{parts.hostname} is a private address. If it is meant, add its network to allowed_networks of [webhook]. "
            "Nothing was enqueued"
        )


def _encoded(payload: Any) -> bytes:
    if isinstance(payload, bytes):
        return payload
    try:
        return msgspec.json.encode(payload)
    except (TypeError, ValueError) as error:
        raise InvalidMessage(f"the payload cannot be written as JSON: {error}. Nothing was enqueued") from error
