"""A message and its bytes: MessagePack, encrypted if there are keys."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgspec

from outwork.errors import InvalidChannel, MissingDriver, SettingsError, Undecodable

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

MOST_BYTES: Final = 16 * 1024 * 1024
"""Bytes of an encoded message. The specification wants 1 MB to pass; the field's layers have no limit."""
SLACK: Final = 10
"""Seconds that an encrypted message may be older than its expiry: clocks differ."""

PLAIN: Final = frozenset({str, int, bool, type(None), float, bytes})


class Codec:
    """Turns messages into bytes and back. `keys`: the first one encrypts, each may decrypt."""

    def __init__(self, keys: Sequence[str | bytes] | None, expiry: float) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder()
        self._crypter = _crypter(keys) if keys else None
        self._oldest = int(expiry) + SLACK

    def encode(self, message: object, too_large: Callable[[str], Exception]) -> bytes:
        """Raises InvalidChannel for what may not be in a message, `too_large` where it is too long."""
        if not isinstance(message, dict):
            raise InvalidChannel(f"a message is a dict with a 'type', not {type(message).__name__}")
        _check(message)
        try:
            body = self._encoder.encode(message)
        except (ValueError, OverflowError, RecursionError) as error:
            raise InvalidChannel(f"the message cannot be sent: {error}. Integers have 64 bits at most") from error
        if len(body) > MOST_BYTES:
            raise too_large(
                f"the message has {len(body):,} bytes, and {MOST_BYTES:,} is the most. Store it, and send where it is"
            )
        return body if self._crypter is None else self._crypter.encrypt(body)

    def decode(self, body: bytes) -> dict[str, Any]:
        """Raises Undecodable."""
        if self._crypter is not None:
            from cryptography.fernet import InvalidToken

            try:
                body = self._crypter.decrypt(body, self._oldest)
            except InvalidToken as error:
                raise Undecodable("it is encrypted with none of symmetric_encryption_keys") from error
        try:
            message = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Undecodable(str(error)) from error
        if not isinstance(message, dict):
            raise Undecodable("it is not a dict")
        return message


def _check(value: Any) -> None:
    """Only what arrives as what it was: MessagePack would turn a set into a list."""
    left = [value]
    while left:
        value = left.pop()
        kind = type(value)
        if kind in PLAIN:
            continue
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    raise InvalidChannel(f"a message has the key {key!r:.80}; keys are strings")
            left.extend(value.values())
        elif isinstance(value, list | tuple):
            left.extend(value)
        elif not isinstance(value, str | int | float | bytes) or isinstance(value, bytearray):
            raise InvalidChannel(
                f"a message holds a {kind.__name__}; it may hold str, bytes, int, float, bool, None, lists and dicts "
                "of these. Write a model's primary key, and a datetime's isoformat()"
            )


def _crypter(keys: Sequence[str | bytes]) -> MultiFernet:
    """As the field's Redis layer makes it, so that the same keys may stay in the settings."""
    if isinstance(keys, str | bytes):
        raise SettingsError("symmetric_encryption_keys is a list of keys: the first one encrypts, each may decrypt")
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ImportError as error:
        raise MissingDriver(
            f"symmetric_encryption_keys needs cryptography ({error}):  pip install cryptography"
        ) from error
    secrets = [key.encode() if isinstance(key, str) else key for key in keys]
    return MultiFernet([Fernet(urlsafe_b64encode(sha256(secret).digest())) for secret in secrets])
