"""What a RabbitMQ URL may say, read and checked."""

from __future__ import annotations

import re
import ssl
from typing import Final, Literal, NamedTuple, Self, cast

from outwork.brokers.url import BrokerURL, boolean, number, seconds
from outwork.errors import InvalidURL
from outwork.job import Terms

QueueType = Literal["quorum", "classic"]

PORTS: Final = {"amqp": 5672, "amqps": 5671}
CONSUMER_TIMEOUT: Final = 1800.0
"""How long a RabbitMQ that nobody configured waits for an acknowledgement."""
PUT_TIMEOUT: Final = 10.0


class Options(NamedTuple):
    """A URL taken apart."""

    shown: str
    terms: Terms
    hosts: tuple[tuple[str, int], ...]
    user: str
    password: str
    vhost: str
    tls: ssl.SSLContext | None
    heartbeat: int
    connection_timeout: float
    put_timeout: float
    consumer_timeout: float
    queue_type: QueueType
    prefix: str
    confirm: bool
    embedded: bool

    @classmethod
    def from_url(cls, url: str, terms: Terms | None) -> Self:
        parts = BrokerURL(url)
        made = cls(
            shown=parts.shown,
            terms=parts.terms(terms or Terms()),
            hosts=tuple(_address(host, parts) for host in parts.hosts or ("localhost",)),
            user=parts.username if parts.username is not None else "guest",
            password=parts.password if parts.password is not None else "guest",
            vhost=_vhost(parts),
            tls=_tls(parts),
            heartbeat=parts.option("heartbeat", number, 30),
            connection_timeout=parts.option("connection_timeout", seconds, 5.0),
            put_timeout=parts.option("put_timeout", seconds, PUT_TIMEOUT),
            consumer_timeout=parts.option("consumer_timeout", seconds, CONSUMER_TIMEOUT),
            queue_type=parts.option("queue_type", _queue_type, "quorum"),
            prefix=parts.option("prefix", _prefix, "outwork"),
            confirm=parts.option("confirm", boolean, True),
            embedded=parts.option("embedded", boolean, False),
        )
        parts.done()
        return made


def _vhost(parts: BrokerURL) -> str:
    """`amqp://host` and `amqp://host/` mean the virtual host `/`, as most users take them."""
    return parts.path.removeprefix("/") or "/"


def _address(host: str, parts: BrokerURL) -> tuple[str, int]:
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        return host.strip("[]"), PORTS.get(parts.scheme, PORTS["amqp"])
    if not port.isdecimal():
        raise InvalidURL(f"{parts.shown}: {host!r} has no port that is a number")
    return name.strip("[]"), int(port)


def _queue_type(text: str) -> QueueType:
    if text not in ("quorum", "classic"):
        raise ValueError("write quorum or classic")
    return cast("QueueType", text)


def _prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", text):
        raise ValueError("up to 40 letters, digits, hyphens and underscores are needed")
    return text


def _tls(parts: BrokerURL) -> ssl.SSLContext | None:
    """The TLS context of `amqps`; its options are refused without TLS."""
    if parts.scheme != "amqps":
        return None
    authority = parts.option("cafile", str, "")
    certificate, key = parts.option("certfile", str, ""), parts.option("keyfile", str, "")
    verify = parts.option("verify", boolean, True)
    try:
        context = ssl.create_default_context(cafile=authority or None)
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate:
            context.load_cert_chain(certificate, key or None)
    except OSError as error:
        raise InvalidURL(
            f"{parts.shown}: the certificates cannot be read ({error}). Check cafile, certfile and keyfile"
        ) from error
    return context
