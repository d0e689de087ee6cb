"""Whole columns as parameters: PostgreSQL's binary arrays, packed here because the driver takes three times as long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import Struct
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.adapt import AdaptersMap, Dumper

_head = Struct("!iiIii").pack
_empty = Struct("!iiI").pack
_length = Struct("!i").pack
_double = Struct("!id").pack
_integer = Struct("!ii").pack
_flag = Struct("!i?").pack

NULL: Final = _length(-1)
TEXT, BYTEA, FLOAT8, INT4, BOOL = 25, 17, 701, 23, 16


class Column:
    """A packed array of one type; the subclasses tell the driver which."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Texts(Column): ...


class Blobs(Column): ...


class Floats(Column): ...


class Integers(Column): ...


class Flags(Column): ...


def _array(element: int, count: int, items: Iterable[bytes]) -> bytes:
    if not count:
        return _empty(0, 0, element)
    return b"".join([_head(1, 1, element, count, 1), *items])


def texts(values: Sequence[str]) -> Texts:
    return Texts(_array(TEXT, len(values), [_length(len(data)) + data for data in map(str.encode, values)]))


def blobs(values: Sequence[bytes]) -> Blobs:
    return Blobs(_array(BYTEA, len(values), [_length(len(data)) + data for data in values]))


def floats(values: Sequence[float | None]) -> Floats:
    return Floats(_array(FLOAT8, len(values), [NULL if value is None else _double(8, value) for value in values]))


def integers(values: Sequence[int]) -> Integers:
    return Integers(_array(INT4, len(values), [_integer(4, value) for value in values]))


def flags(values: Sequence[bool]) -> Flags:
    return Flags(_array(BOOL, len(values), [_flag(1, value) for value in values]))


def columns(kinds: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[Column]:
    """Rows as columns of these types, None as NULL."""
    return [_PACKERS[kind](column) for kind, column in zip(kinds, zip(*rows, strict=True), strict=True)]


def _maybe(element: int, values: Sequence[bytes | None]) -> bytes:
    items = [NULL if value is None else _length(len(value)) + value for value in values]
    return _array(element, len(values), items)


def optional_texts(values: Sequence[str | None]) -> Texts:
    return Texts(_maybe(TEXT, [value if value is None else value.encode() for value in values]))


_PACKERS: Final[Mapping[str, Callable[[Sequence[Any]], Column]]] = {
    "text": optional_texts,
    "bytea": lambda values: Blobs(_maybe(BYTEA, values)),
    "float8": floats,
    "int4": integers,
    "bool": flags,
}


class _ColumnDumper(Dumper):
    format = pq.Format.BINARY

    def dump(self, obj: Column) -> bytes:
        return obj.data


def _dumper(array: int) -> type[Dumper]:
    return type("ColumnDumper", (_ColumnDumper,), {"oid": array})


ADAPTERS: Final = AdaptersMap(psycopg.adapters)
"""The driver's, and ours for columns."""
for _kind, _oid in ((Texts, 1009), (Blobs, 1001), (Floats, 1022), (Integers, 1007), (Flags, 1000)):
    ADAPTERS.register_dumper(_kind, _dumper(_oid))
