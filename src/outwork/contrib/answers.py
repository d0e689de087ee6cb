"""What the answer of an HTTP server means for a job: taken, to be repeated, or refused for good; and requests that are
kept out of the log."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx2

from outwork.errors import GiveUp, TryAgain

FOR_NOW: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, *range(520, 531)})
"""The statuses after which it is worth trying again (520 to 530: a proxy could not reach the server)."""
LONGEST_WAIT: Final = 86_400.0
"""Seconds: a server that asks for a longer pause is asked again after a day."""
_SHOWN: Final = 300
_READ: Final = 2048

_unlogged: Final[ContextVar[bool]] = ContextVar("outwork_requests_are_not_logged", default=False)


def _is_not_ours(record: logging.LogRecord) -> bool:
    return not _unlogged.get()


logging.getLogger("httpx2").addFilter(_is_not_ours)


@contextmanager
def unlogged() -> Iterator[None]:
    """httpx2 logs the whole URL of each request. That of a webhook is often a secret, and one of SCIM names people."""
    token = _unlogged.set(True)
    try:
        yield
    finally:
        _unlogged.reset(token)


def judge(place: str, answer: httpx2.Response) -> None:
    """Let an answer 2xx pass. Its body may not have been read yet; of another one the beginning is read.

    Raises TryAgain, after as long a time as the server asks for, or GiveUp; with the answer in their text.
    """
    if answer.is_success:
        return
    status = answer.status_code
    text = f"{place} answered: {status} {answer.reason_phrase} {_beginning(answer)}".strip()
    if answer.has_redirect_location:
        raise GiveUp(f"{text} (redirects are not followed: the URL has to be changed)")
    if status in FOR_NOW:
        raise TryAgain(text, after=_wanted_pause(answer.headers.get("retry-after")))
    raise GiveUp(text)


def _beginning(answer: httpx2.Response) -> str:
    """What the server says, for people; no more than a few lines of it are read."""
    read = bytearray()
    try:
        for part in answer.iter_bytes(_READ):
            read += part
            if len(read) >= _READ:
                break
    except httpx2.HTTPError:
        return ""
    return " ".join(read.decode(errors="replace").split())[:_SHOWN]


def _wanted_pause(header: str | None) -> float | None:
    """Seconds from a Retry-After: a number, or a date. A little more, so that not all jobs come back at one moment."""
    if not header:
        return None
    try:
        seconds = float(int(header))
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp()
    return min(seconds, LONGEST_WAIT) * random.uniform(1.0, 1.1) if seconds > 0 else None
