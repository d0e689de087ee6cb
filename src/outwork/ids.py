"""Ids made by the client before the first byte is sent, so that every write may be repeated."""

from __future__ import annotations

import time
from os import urandom

_last_stamp = 0


def new_job_id() -> str:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds, 12 bits of a millisecond's fraction, 62 random bits.

    Ids made one after the other in a process sort in that order. (Two threads may take the same stamp; the random bits
    tell them apart, their order does not matter.)
    """
    global _last_stamp
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    stamp = milliseconds << 12 | (nanoseconds << 12) // 1_000_000
    if stamp <= _last_stamp:
        stamp = _last_stamp + 1
    _last_stamp = stamp
    head = f"{stamp >> 12:012x}"
    tail = urandom(8).hex()
    variant = "89ab"[int(tail[0], 16) & 3]
    return f"{head[:8]}-{head[8:]}-7{stamp & 0xFFF:03x}-{variant}{tail[1:4]}-{tail[4:]}"


def new_claim_id() -> str:
    """128 random bits, in hexadecimal."""
    return urandom(16).hex()
