"""Ids made by the client before the first byte is sent, so that every write may be repeated."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from os import urandom

_last_stamp = 0


def _tails() -> Iterator[str]:
    """16 random hexadecimal digits each, drawn from the system 256 at a time (0.1 us instead of 0.6 us each)."""
    drawn = urandom(2048).hex()
    return iter([drawn[at : at + 16] for at in range(0, len(drawn), 16)])


_random = _tails()


def _after_fork() -> None:
    global _random
    _random = _tails()  # a child must not draw what its parent draws


os.register_at_fork(after_in_child=_after_fork)


def new_job_id() -> str:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds, 12 bits of a millisecond's fraction, 62 random bits.

    Ids made one after the other in a process sort in that order. (Two threads may take the same stamp; the random bits
    tell them apart, their order does not matter.)
    """
    global _last_stamp, _random
    stamp = time.time_ns() * 4096 // 1_000_000
    if stamp <= _last_stamp:
        stamp = _last_stamp + 1
    _last_stamp = stamp
    tail = next(_random, None)
    if tail is None:
        _random = _tails()
        tail = next(_random)
    head = f"{stamp >> 12:012x}"
    variant = "89ab"[int(tail[0], 16) & 3]
    return f"{head[:8]}-{head[8:]}-7{stamp & 0xFFF:03x}-{variant}{tail[1:4]}-{tail[4:]}"


def numbered(base: str, number: int) -> str:
    """The id of one of many jobs that are named by an id of their own and a number below 2**32: its last eight digits
    are the number. (74 - 32 bits of chance and the time keep it apart from all others.) They sort by number."""
    return f"{base[:-8]}{number:08x}"


def new_claim_id() -> str:
    """128 random bits, in hexadecimal."""
    return urandom(16).hex()
