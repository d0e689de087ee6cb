"""THE CONTRACT of a channel store: a handful of verbs over bytes. Read this first.

A *pipe* is a line of parcels under a key: the name of a fixed channel, or everything up to and including the `!` of
process-specific ones (an *inbox*, which one process reads for all of its channels, and whose capacity they share). A
parcel's content is `names\\nbody`: for an inbox the parts of the names after the `!` that the body is for, separated by
spaces; for a fixed channel nothing. A store neither reads nor changes a body.

A `Store` belongs to a process, a `Session` of it to one event loop, and to nobody else. A session tells its `Listener`,
in that loop, where something may be waiting; that is a hint, and whoever has not heard of anything for a while looks
again. What `take` has given is gone from the store: at most once.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class Parcel(NamedTuple):
    """What lies in a pipe: its place in the line (0 where the store needs none), when it expires by the store's own
    clock, and its content."""

    place: int
    expires: float
    content: bytes


class Seen(NamedTuple):
    """What is known of a fixed channel: unread parcels, and how many seconds ago somebody looked for some (None: nobody
    has), or sent the first one that no reader has looked for since."""

    channel: str
    unread: int
    looked: float | None
    sent: float | None


class Limits(NamedTuple):
    """What a group send keeps to: parcels that a pipe may hold (`exceptions` by the names of members), and for how many
    seconds the new ones are kept."""

    room: int
    expiry: float
    exceptions: Mapping[str, int]


class Listener(Protocol):
    """Who wants to hear of parcels: the desk of an event loop."""

    def rung(self, key: str | None) -> None:
        """There may be something in this pipe (None: in any)."""

    def arrived(self, key: str, parcel: Parcel) -> None:
        """A parcel that was never in the pipe, because the session had asked for one and found nothing."""


class Session(Protocol):
    """A store as one event loop uses it. Every verb but `close` raises BrokerUnavailable, BrokerFull, BrokerRefused."""

    def push(self, key: str, content: bytes, room: int, expiry: float) -> Awaitable[float | None]:
        """Append a parcel, and ring. None: the pipe holds `room` parcels already. Otherwise for how many seconds nobody
        has looked for parcels here, though some were sent; 0 for an inbox. Never repeated if its answer is lost."""
        ...

    def take(self, key: str, limit: int) -> Future[list[Parcel]] | Awaitable[list[Parcel]]:
        """The first parcels, at most `limit`, that have not expired; none, or from an inbox fewer than `limit`: the
        listener hears when one comes."""
        ...

    def mute(self, key: str) -> None:
        """Let no more parcels of this inbox arrive until the next `take`."""

    def put_back(self, key: str, parcels: Sequence[Parcel]) -> Awaitable[Any]:
        """Parcels that were taken and not read: to the head of the line, in their order; and ring."""
        ...

    def attend(self, keys: Sequence[str]) -> Awaitable[Any]:
        """Somebody reads these fixed channels, though he may be busy."""
        ...

    def join(self, group: str, channel: str, expiry: float) -> Awaitable[Any]:
        """Make a channel a member for so many seconds, from now."""
        ...

    def leave(self, group: str, channel: str) -> Awaitable[Any]:
        """End a membership, if there is one."""
        ...

    def members(self, group: str) -> Awaitable[list[str]]:
        """The channels of a group."""
        ...

    def spread(self, group: str | None, members: Sequence[str], body: bytes, limits: Limits) -> Awaitable[int]:
        """Send a body to all members of the group, or where it is None to those listed, in one step: one parcel for
        each pipe. The number of pipes that were full, which get nothing."""
        ...

    def flush(self) -> Awaitable[Any]:
        """Forget all parcels, groups and readers."""
        ...

    def survey(self) -> Awaitable[list[Seen]]:
        """The fixed channels that were sent to or read lately, by name."""
        ...

    def close(self) -> None:
        """Close the connections at once. Called when the event loop ends, so nothing can be awaited any more."""


class Store(Protocol):
    """Makes sessions. `url` is for people: without password."""

    url: str

    def open(self, loop: AbstractEventLoop, listener: Listener) -> Session:
        """A session for this event loop, which is the running one. It connects when it is first used."""
        ...

    def close(self) -> None:
        """Close what was kept for further sessions."""


def packed(names: Sequence[str], body: bytes) -> bytes:
    """The content of a parcel."""
    return " ".join(names).encode("ascii") + b"\n" + body


def unpacked(content: bytes) -> tuple[list[str], bytes]:
    """The names, empty for a fixed channel, and the body."""
    names, _, body = content.partition(b"\n")
    return names.decode("ascii").split(), body


def pipe_of(channel: str) -> tuple[str, str]:
    """The key of a channel's pipe, and the part of its name after the `!`."""
    before, mark, local = channel.partition("!")
    return before + mark, local


def is_inbox(key: str) -> bool:
    """Whether one process reads this pipe, for several channels."""
    return key.endswith("!")


def by_pipe(members: Sequence[str]) -> dict[str, list[str]]:
    """The members of a group, as the keys of their pipes, each with the local parts of its names."""
    found: dict[str, list[str]] = {}
    for member in members:
        key, local = pipe_of(member)
        found.setdefault(key, []).append(local)
    return found
