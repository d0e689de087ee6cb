"""A text as the parts in which it goes over the air: 3GPP TS 23.038 (GSM 7 bit, UCS-2), 23.040 (parts)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal, TypeAlias

Coding: TypeAlias = Literal["gsm7", "ucs2"]

_BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED: Final = {
    "\f": 0x0A,
    "^": 0x14,
    "{": 0x28,
    "}": 0x29,
    "\\": 0x2F,
    "[": 0x3C,
    "~": 0x3D,
    "]": 0x3E,
    "|": 0x40,
    "€": 0x65,
}
_ESCAPE: Final = 0x1B
_GSM7: Final = {
    **{character: bytes([code]) for code, character in enumerate(_BASIC) if code != _ESCAPE},
    **{character: bytes([_ESCAPE, code]) for character, code in _EXTENDED.items()},
}

ALONE: Final = {"gsm7": 160, "ucs2": 140}
"""How many octets (of GSM 7 bit: septets, one an octet on the way to the server) a message of one part may have."""
IN_PARTS: Final = {"gsm7": 153, "ucs2": 134}
"""The same of a part among several, which has a header of 6 octets."""
MOST_PARTS: Final = 255


def split(text: str) -> tuple[Coding, list[str]]:
    """How a text is coded, and its parts. No character is torn: neither an escaped one of GSM, nor one that takes two
    units of UTF-16."""
    coding: Coding = "gsm7" if all(character in _GSM7 for character in text) else "ucs2"
    return coding, _parts(text, coding)


def encode(text: str, coding: Coding) -> bytes:
    """The octets of a part, without its header."""
    return b"".join(_GSM7[character] for character in text) if coding == "gsm7" else text.encode("utf-16-be")


def header(reference: int, total: int, number: int) -> bytes:
    """What tells the receiving telephone which part of which message this is. `number` counts from 1."""
    return bytes((5, 0, 3, reference, total, number))


def _parts(text: str, coding: Coding) -> list[str]:
    size: Callable[[str], int] = (
        (lambda one: len(_GSM7[one])) if coding == "gsm7" else (lambda one: 2 if ord(one) < 0x10000 else 4)
    )
    if sum(map(size, text)) <= ALONE[coding]:
        return [text]
    return list(_filled(text, size, IN_PARTS[coding]))


def _filled(text: str, size: Callable[[str], int], limit: int) -> Iterable[str]:
    begin, taken = 0, 0
    for index, character in enumerate(text):
        if taken + size(character) > limit:
            yield text[begin:index]
            begin, taken = index, 0
        taken += size(character)
    yield text[begin:]
