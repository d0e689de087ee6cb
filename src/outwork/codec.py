"""Between objects and bytes: the envelope, the typed arguments and results, the size limit. Nothing else encodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from outwork.errors import Undecodable
from outwork.job import WIRE_VERSION, Failure, Job

_encode = msgspec.json.Encoder().encode
_decode_job = msgspec.json.Decoder(Job).decode
_decode_failures = msgspec.json.Decoder(tuple[Failure, ...]).decode

TRACEBACK_LIMIT: Final = 16_384


# ---- the envelope ----------------------------------------------------------------------------------------------------


def encode_job(job: Job) -> bytes:
    """The envelope of a job, as brokers store it: one JSON object with `"v": 1`."""
    return _encode(job)


def decode_job(body: bytes) -> Job:
    """The job in an envelope. Unknown fields are ignored (and stay in `body`).

    Raises Undecodable for what is not an envelope, or is of a version newer than this release can read.
    """
    try:
        job = _decode_job(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Undecodable(f"this is not a job's envelope: {error}") from error
    if job.v > WIRE_VERSION:
        raise Undecodable(
            f"the envelope has version {job.v}; this release reads up to {WIRE_VERSION}. Upgrade the worker"
        )
    return job


def encode_failures(failures: Sequence[Failure]) -> bytes:
    """A job's failures as a JSON array."""
    return _encode(failures)


def decode_failures(body: bytes | str) -> tuple[Failure, ...]:
    """The inverse of `encode_failures`."""
    return _decode_failures(body)


def decode_any(body: bytes) -> Any:
    """A result whose task is not known here, as plain JSON."""
    return msgspec.json.decode(body)


def shortened(text: str, limit: int) -> str:
    """The text with its middle cut out when it is longer than `limit`, and without what JSON cannot hold."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
