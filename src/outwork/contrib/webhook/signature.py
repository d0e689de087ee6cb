"""Signatures as https://www.standardwebhooks.com describes them: HMAC-SHA256 over id, time and body."""

from __future__ import annotations

import binascii
import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Final

PREFIX: Final = "whsec_"
SHORTEST: Final = 24
LONGEST: Final = 64


def new_secret() -> str:
    """A secret for an endpoint, to be given to its receiver."""
    return PREFIX + b64encode(secrets.token_bytes(32)).decode()


def key_of(secret: str) -> bytes:
    """The key that a secret stands for. Raises ValueError, which does not show it."""
    try:
        key = b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"a secret is {PREFIX} and base64; new_secret() makes one") from None
    if not SHORTEST <= len(key) <= LONGEST:
        raise ValueError(f"a secret has {SHORTEST} to {LONGEST} bytes; new_secret() makes one")
    return key


def headers_of(message_id: str, moment: int, body: bytes, keys: Iterable[bytes]) -> dict[str, str]:
    """The headers of a request sent at `moment` (Unix seconds), with a signature by each key."""
    signed = f"{message_id}.{moment}.".encode() + body
    signatures = (b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(moment),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
