"""The channel layer: what Django Channels' specification asks for, over any store."""

from __future__ import annotations

import logging
import os
import re
from asyncio import AbstractEventLoop
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Final
from uuid import uuid4

from outwork import errors
from outwork.brokers.url import masked
from outwork.contrib.channels.desk import Desk, Moved
from outwork.contrib.channels.loops import ByLoop
from outwork.contrib.channels.messages import Codec
from outwork.contrib.channels.names import Capacities, check_channel, check_fixed, check_group
from outwork.contrib.channels.pipes import Limits, Parcel, Seen, Store, is_inbox, packed, pipe_of, unpacked
from outwork.contrib.channels.stash import Stash
from outwork.contrib.channels.stores import Host, open_store
from outwork.errors import InvalidChannel, SettingsError, Undecodable

try:
    from channels import exceptions as _channels

    _Full: Any = _channels.ChannelFull
except ImportError:  # an ASGI application without Channels
    _Full = Exception

if TYPE_CHECKING:
    from outwork.contrib.channels.durable import DurableChannels

logger = logging.getLogger("outwork.channels")

WARN_EVERY: Final = 60.0
FORMATS: Final = ("msgpack", "json")


class ChannelFull(errors.ChannelFull, _Full):  # type: ignore[misc]
    """The channel holds as many messages as it may. `except channels.exceptions.ChannelFull` catches it, too."""


class Message(dict[str, Any]):
    """What was received, with the parcel it came in: for whoever may have to put it back."""

    __slots__ = ("parcel",)
    parcel: Parcel


class OutworkChannelLayer:
    """A layer for `CHANNEL_LAYERS`, or to be used by itself from any event loop of any thread.

    `url`: `memory:`, `sqlite:///channels.db`, `postgresql://...`, `redis://...` (also `rediss`, `unix`, `valkey`,
    `redis+sentinel`, `redis+cluster`). `hosts` is the field's spelling for Redis: a list of URLs, (host, port), or
    dicts; several share the channels among them. Times are in seconds. `unread_warning`: after so many without a reader
    on a fixed channel that is sent to, the sender logs a warning. `random_prefix_length` and `serializer_format` are
    accepted, so that a configuration may stay as it is, and change nothing. `at_least_once`: the fixed channels whose
    messages are jobs of `broker_url` (by default that of the application) instead: see `durable.py`.
    """

    extensions: ClassVar[list[str]] = ["groups", "flush"]
    ChannelFull: ClassVar[type[Exception]] = ChannelFull
    MessageTooLarge: ClassVar[type[Exception]] = errors.MessageTooLarge

    def __init__(
        self,
        url: str | None = None,
        hosts: Sequence[Host] | None = None,
        prefix: str = "asgi",
        expiry: float = 60,
        group_expiry: float = 86400,
        capacity: int = 100,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None = None,
        symmetric_encryption_keys: Sequence[str | bytes] | None = None,
        random_prefix_length: int = 12,
        serializer_format: str = "msgpack",
        unread_warning: float = 30,
        at_least_once: Sequence[str] = (),
        broker_url: str | None = None,
    ) -> None:
        if serializer_format not in FORMATS:
            raise SettingsError(f"serializer_format is one of {', '.join(FORMATS)}, not {serializer_format!r}")
        if not isinstance(prefix, str) or not re.fullmatch(r"[\w.:-]+", prefix, re.ASCII):
            raise SettingsError(f"prefix is made of ASCII letters, digits and .:_- , not {prefix!r}")
        self.expiry = expiry
        self.group_expiry = group_expiry
        self.capacity = capacity
        self.prefix = prefix
        self.unread_warning = unread_warning
        self._capacities = Capacities(capacity, channel_capacity)
        self._codec = Codec(symmetric_encryption_keys, expiry)
        self._store: Store = open_store(url, hosts, prefix)
        self._stash = Stash(expiry)
        self._inbox = ""
        self._pid = 0
        self._desks: ByLoop[Desk] = ByLoop(self._open)
        self._warned: dict[str, float] = {}
        self.durable: DurableChannels | None = None
        if at_least_once:
            from outwork.contrib.channels.durable import DurableChannels

            self.durable = DurableChannels(at_least_once, broker_url, self._codec.decode)

    def __repr__(self) -> str:
        return f"OutworkChannelLayer({self.url!r}, prefix={self.prefix!r})"

    @property
    def url(self) -> str:
        """Where the messages are, without the password."""
        return masked(self._store.url)

    def _open(self, loop: AbstractEventLoop) -> Desk:
        return Desk(self._store, loop, self._stash, self._capacities)

    # ---- channels ---------------------------------------------------------------------------------------------------

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send a message to a channel: it is in the store when this returns.

        Raises ChannelFull where the channel holds as many as it may; InvalidChannel (a TypeError) for a name or a
        message that the specification does not allow; MessageTooLarge; BrokerUnavailable, after which the message may
        or may not have been sent.
        """
        key, local = pipe_of(check_channel(channel))
        body = self._codec.encode(message, errors.MessageTooLarge)
        if self.durable is not None and channel in self.durable.channels:
            await self.durable.send(channel, body)
            return
        content = packed([local], body) if local or is_inbox(key) else b"\n" + body
        room = self._capacities.of(channel)
        unserved = await self._desks.here().session.push(key, content, room, self.expiry)
        if unserved is None:
            raise ChannelFull(
                f"channel {channel!r} holds {room} unread messages, as many as it may. Start a reader of it, or raise "
                "`capacity` or `channel_capacity`. The message was not sent"
            )
        if unserved >= self.unread_warning:
            self._warn(channel, unserved)

    async def receive(self, channel: str) -> dict[str, Any]:
        """The next message of a channel. It waits, also while the store is away. A cancelled call loses nothing.

        A process-specific channel can be received from by the process whose `new_channel` made its name. Raises
        InvalidChannel, BrokerRefused.
        """
        check_channel(channel)
        if "!" not in channel:
            return (await self.receive_many(channel, 1))[0]
        key, local = pipe_of(channel)
        if not local or not key.endswith(f".{self._own()}!"):
            raise InvalidChannel(
                f"channel {channel!r} was not made by new_channel() of this layer in this process, which alone can "
                "receive from it"
            )
        while True:
            body = self._stash.take(channel)
            if body is None:
                try:
                    body = await self._desks.here().read_own(channel, key)
                except Moved:
                    continue
            message = self._decoded(channel, body)
            if message is not None:
                return message

    async def receive_many(self, channel: str, limit: int) -> list[Message]:
        """The next messages of a fixed channel, at least one and at most `limit`, as one take.

        Whoever does not handle all of them gives the others to `put_back`. Raises InvalidChannel, BrokerRefused.
        """
        check_fixed(channel)
        while True:
            try:
                parcels = await self._desks.here().read(channel, limit)
            except Moved:
                continue
            found: list[Message] = []
            for parcel in parcels:
                decoded = self._decoded(channel, unpacked(parcel.content)[1])
                if decoded is not None:
                    message = Message(decoded)
                    message.parcel = parcel
                    found.append(message)
            if found:
                return found

    async def put_back(self, channel: str, messages: Sequence[Message]) -> None:
        """Messages that were received and not handled: to the head of the channel, in their order."""
        await self._desks.here().put_back(channel, [message.parcel for message in messages])

    async def new_channel(self, prefix: str = "specific") -> str:
        """A name that this process can receive from, and everybody can send to."""
        return f"{prefix}.{self._own()}!{uuid4().hex}"

    # ---- groups -----------------------------------------------------------------------------------------------------

    async def group_add(self, group: str, channel: str) -> None:
        """Make a channel a member of a group, for `group_expiry` seconds from now."""
        await self._desks.here().session.join(check_group(group), check_channel(channel), self.group_expiry)

    async def group_discard(self, group: str, channel: str) -> None:
        """End a membership, if there is one."""
        await self._desks.here().session.leave(check_group(group), check_channel(channel))

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send a message to all members of a group; those that are full do not get it."""
        check_group(group)
        body = self._codec.encode(message, errors.MessageTooLarge)
        session = self._desks.here().session
        exceptions: dict[str, int] = {}
        if self._capacities.patterns:
            capacities = {member: self._capacities.of(member) for member in await session.members(group)}
            exceptions = {name: room for name, room in capacities.items() if room != self.capacity}
        full = await session.spread(group, (), body, Limits(self.capacity, self.expiry, exceptions))
        if full:
            logger.info("a message to the group %s was not sent to %d members, which are full", group, full)

    # ---- the rest ---------------------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Forget all messages and groups of this `prefix`, in the store and in this process."""
        self._stash.clear()
        await self._desks.here().session.flush()

    async def attend(self, channels: Sequence[str]) -> None:
        """Let senders know that somebody reads these fixed channels, though he may be busy for long."""
        await self._desks.here().session.attend([check_fixed(channel) for channel in channels])

    async def survey(self) -> list[Seen]:
        """The fixed channels that were sent to or read lately: for `outwork status`, and whoever wants to know."""
        return await self._desks.here().session.survey()

    async def close_pools(self) -> None:
        """Close what this event loop uses; a later call opens it again, and so does a `receive` that waits.

        The end of a loop does the same."""
        desk = self._desks.pop_here()
        if desk is not None:
            try:
                await desk.leave()
            finally:
                desk.close()
        self._store.close()

    def _own(self) -> str:
        """What the names of this process' channels have in common; a child that was forked has another one."""
        if self._pid != os.getpid():
            self._inbox, self._pid = uuid4().hex, os.getpid()
        return self._inbox

    def _decoded(self, channel: str, body: bytes) -> dict[str, Any] | None:
        try:
            return self._codec.decode(body)
        except Undecodable as error:
            logger.error("a message of %s cannot be read, and is thrown away: %s", channel, error)
            return None

    def _warn(self, channel: str, unserved: float) -> None:
        """Once a minute for each channel."""
        now = monotonic()
        if now - self._warned.get(channel, -WARN_EVERY) < WARN_EVERY:
            return
        if len(self._warned) > 1000:
            self._warned.clear()
        self._warned[channel] = now
        logger.warning(
            "nobody has read channel %s of %s for %d s, and messages there expire after %g s. Start a worker:  "
            "manage.py outwork_runworker %s  (or  outwork runworker MODULE:APPLICATION %s --url URL)",
            *(channel, self.url, unserved, self.expiry, channel, channel),
        )
