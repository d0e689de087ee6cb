"""What every channel layer must do: each clause of the specification once, run on every store."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import pytest
from asgiref.sync import async_to_sync
from channels import exceptions

from outwork.contrib.channels import ChannelFull, OutworkChannelLayer
from outwork.errors import InvalidChannel, MessageTooLarge
from support.waiting import until

T = TypeVar("T")
MakeLayer = Callable[..., OutworkChannelLayer]

SOON: Final = 60.0
EVERYTHING: Final[dict[str, Any]] = {
    "type": "test.everything",
    "bytes": b"\x00\xff",
    "text": "æ\u2603\0\n",
    "int": -(2**63),
    "large": 2**63 - 1,
    "float": 1.5,
    "true": True,
    "false": False,
    "none": None,
    "list": [1, ["two", b"3"], {}],
    "dict": {"nested": {"deep": [None]}},
    "": "",
}


def soon(work: Awaitable[T]) -> Coroutine[Any, Any, T]:
    """The same, with a deadline."""
    return asyncio.wait_for(work, SOON)


async def is_silent(layer: OutworkChannelLayer, channel: str) -> bool:
    """Whether nothing is there to be received: a message that was sent after all others is the first one."""
    marker = {"type": "marker"}
    await layer.send(channel, marker)
    return await soon(layer.receive(channel)) == marker


class LayerSuite:
    """A subclass gives `make_layer`: layers on one empty store, which the fixture closes."""

    @pytest.fixture
    def layer(self, make_layer: MakeLayer) -> OutworkChannelLayer:
        return make_layer()

    @pytest.fixture
    def rings_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody looks again by himself, who was not woken."""
        monkeypatch.setattr("outwork.contrib.channels.desk.LOOK_AGAIN", 600.0)

    # ---- messages ---------------------------------------------------------------------------------------------------

    def test_every_type_arrives_as_what_it_was(self, layer: OutworkChannelLayer) -> None:
        async def run() -> None:
            await layer.send("channel", EVERYTHING)
            assert await soon(layer.receive("channel")) == EVERYTHING
            await layer.send("channel", {"tuple": (1, (2,))})
            assert await soon(layer.receive("channel")) == {"tuple": [1, [2]]}

        asyncio.run(run())

    def test_a_message_of_a_megabyte(self, layer: OutworkChannelLayer) -> None:
        message = {"type": "big", "data": "x" * 1_000_000, "bytes": bytes(range(256)) * 100}

        async def run() -> None:
            name = await layer.new_channel()
            for channel in ("big", name):
                await layer.send(channel, message)
                assert await soon(layer.receive(channel)) == message
            waiting = asyncio.ensure_future(layer.receive("big"))
            await asyncio.sleep(0)
            await layer.send("big", message)
            assert await soon(waiting) == message

        asyncio.run(run())

    @pytest.mark.parametrize(
        "message",
        [
            *({"value": value} for value in (datetime.now(UTC), {1}, 2**64, -(2**63) - 1, object(), 1j, "\ud800")),
            {"deep": [{"a": {b"key": 1}}]},
            {1: 2},
            "text",
            None,
            [("type", "x")],
        ],
    )
    def test_what_may_not_be_in_a_message_is_refused(self, layer: OutworkChannelLayer, message: Any) -> None:
        async def run() -> None:
            with pytest.raises(TypeError):
                await layer.send("channel", message)
            with pytest.raises(InvalidChannel):
                await layer.group_send("group", message)
            assert await is_silent(layer, "channel")

        asyncio.run(run())

    def test_a_message_that_is_too_large_is_refused(self, layer: OutworkChannelLayer) -> None:
        async def run() -> None:
            with pytest.raises(MessageTooLarge):
                await layer.send("channel", {"data": b"x" * (16 * 1024 * 1024)})

        assert layer.MessageTooLarge is MessageTooLarge
        asyncio.run(run())

    def test_what_is_received_is_the_receivers_own(self, layer: OutworkChannelLayer) -> None:
        async def run() -> None:
            message = {"list": [1]}
            names = [await layer.new_channel() for _ in range(2)]
            for name in names:
                await layer.group_add("group", name)
            await layer.group_send("group", message)
            message["list"].append(2)
            first = await soon(layer.receive(names[0]))
            first["list"].append(3)
            assert await soon(layer.receive(names[1])) == {"list": [1]}

        asyncio.run(run())

    # ---- names ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", ["a", "A-b_c.9", "x" * 100, "9"])
    def test_good_names(self, layer: OutworkChannelLayer, name: str) -> None:
        async def run() -> None:
            await layer.send(name, {"type": "x"})
            await layer.group_add(name, name)
            await layer.group_send(name, {"type": "y"})
            assert [(await soon(layer.receive(name)))["type"] for _ in range(2)] == ["x", "y"]

        asyncio.run(run())

    @pytest.mark.parametrize("name", ["", "a b", "a\n", "ä", "a:b", "x" * 101, "!a", "a!b!c", "a!ä", None, b"a", 1])
    def test_bad_names(self, layer: OutworkChannelLayer, name: Any) -> None:
        async def run() -> None:
            for call in (
                lambda: layer.send(name, {"type": "x"}),
                lambda: layer.receive(name),
                lambda: layer.group_add("group", name),
                lambda: layer.group_add(name, "channel"),
                lambda: layer.group_discard("group", name),
                lambda: layer.group_send(name, {"type": "x"}),
            ):
                with pytest.raises(TypeError):
                    await call()

        asyncio.run(run())

    def test_groups_have_no_exclamation_mark(self, layer: OutworkChannelLayer) -> None:
        with pytest.raises(InvalidChannel):
            asyncio.run(layer.group_add("a!b", "channel"))

    def test_new_channels_differ_and_belong_to_their_process(self, make_layer: MakeLayer) -> None:
        mine, other = make_layer(), make_layer()

        async def run() -> None:
            names = {await mine.new_channel() for _ in range(100)}
            assert len(names) == 100
            assert all(name.startswith("specific.") and name.count("!") == 1 for name in names)
            name = await mine.new_channel("chat")
            assert name.startswith("chat.")
            await other.send(name, {"type": "x"})
            with pytest.raises(InvalidChannel):
                await other.receive(name)
            assert await soon(mine.receive(name)) == {"type": "x"}

        asyncio.run(run())

    # ---- order, once, to one ----------------------------------------------------------------------------------------

    def test_first_in_first_out(self, layer: OutworkChannelLayer) -> None:
        async def run() -> None:
            own = await layer.new_channel()
            for channel in ("fixed", own):
                for number in range(50):
                    await layer.send(channel, {"number": number})
                assert [(await soon(layer.receive(channel)))["number"] for _ in range(50)] == list(range(50))
                waiting = asyncio.ensure_future(self._numbers(layer, channel, 50))
                for number in range(50):
                    await layer.send(channel, {"number": number})
                assert await soon(waiting) == list(range(50))

        asyncio.run(run())

    async def _numbers(self, layer: OutworkChannelLayer, channel: str, count: int) -> list[int]:
        return [(await layer.receive(channel))["number"] for _ in range(count)]

    def test_each_message_is_received_once_by_one(self, make_layer: MakeLayer) -> None:
        layers = [make_layer() for _ in range(3)]
        got: list[int] = []

        async def read(layer: OutworkChannelLayer) -> None:
            while True:
                got.append((await layer.receive("shared"))["number"])

        async def run() -> None:
            readers = [asyncio.ensure_future(read(layer)) for layer in layers for _ in range(2)]
            for number in range(300):
                while True:
                    try:
                        await layers[number % 3].send("shared", {"number": number})
                        break
                    except ChannelFull:
                        await asyncio.sleep(0.01)
            async with asyncio.timeout(SOON):
                while len(got) < 300:
                    await asyncio.sleep(0.01)
            for reader in readers:
                reader.cancel()
            await asyncio.wait(readers)
            assert await is_silent(layers[0], "shared")

        asyncio.run(run())
        assert sorted(got) == list(range(300))

    def test_channels_do_not_mix(self, layer: OutworkChannelLayer) -> None:
        async def run() -> None:
            names = ["one", "two", await layer.new_channel(), await layer.new_channel()]
            waiting = [asyncio.ensure_future(layer.receive(name)) for name in names]
            for name in reversed(names):
                await layer.send(name, {"to": name})
            assert [await soon(one) for one in waiting] == [{"to": name} for name in names]

        asyncio.run(run())

    def test_several_at_once(self, layer: OutworkChannelLayer) -> None:
        async def run() -> None:
            for number in range(10):
                await layer.send("many", {"number": number})
            first = await soon(layer.receive_many("many", 4))
            assert [message["number"] for message in first] == [0, 1, 2, 3]
            await layer.put_back("many", first[2:])
            rest = [await soon(layer.receive("many")) for _ in range(8)]
            assert [message["number"] for message in rest] == list(range(2, 10))

        asyncio.run(run())

    @pytest.mark.usefixtures("rings_alone")
    def test_what_is_put_back_rings(self, make_layer: MakeLayer) -> None:
        mine, other = make_layer(), make_layer()

        async def run() -> None:
            await mine.send("channel", {"number": 1})
            taken = await soon(mine.receive_many("channel", 1))
            waiting = asyncio.ensure_future(other.receive("channel"))
            await asyncio.sleep(0.2)
            await mine.put_back("channel", taken)
            assert await soon(waiting) == {"number": 1}

        asyncio.run(run())

    # ---- expiry, capacity -------------------------------------------------------------------------------------------

    def test_messages_expire(self, make_layer: MakeLayer) -> None:
        """Also in the hands of who puts them back."""
        layer, other = make_layer(expiry=2), make_layer(expiry=2)

        async def run() -> None:
            own = await layer.new_channel()
            for channel in ("old", "taken", own):
                await layer.send(channel, {"old": True})
            taken = await soon(layer.receive_many("taken", 1))
            waiting = asyncio.ensure_future(other.receive("taken"))
            await asyncio.sleep(2.2)
            for channel in ("old", own):
                assert await is_silent(layer, channel)
            await layer.put_back("taken", taken)
            await layer.send("taken", {"old": False})
            assert await soon(waiting) == {"old": False}

        asyncio.run(run())

    def test_by_default_a_message_is_kept_for_a_minute(self, make_layer: MakeLayer) -> None:
        """By the store's own clock it expires just before one that is sent next, and says so."""
        layers = [make_layer(), make_layer(expiry=60)]

        async def run() -> None:
            await layers[0].group_add("group", "spread")
            for layer in layers:
                await layer.send("sent", {})
                await layer.group_send("group", {})
            for channel in ("sent", "spread"):
                plain, said = [message.parcel for message in await soon(layers[0].receive_many(channel, 2))]
                assert 0 <= said.expires - plain.expires < 10

        assert layers[0].expiry == 60
        asyncio.run(run())

    def test_expired_messages_leave_room(self, make_layer: MakeLayer) -> None:
        layer = make_layer(expiry=2, capacity=2)

        async def run() -> None:
            await layer.send("c", {"number": 0})
            await layer.send("c", {"number": 1})
            with pytest.raises(ChannelFull):
                await layer.send("c", {"number": 2})
            await asyncio.sleep(2.2)
            await layer.send("c", {"number": 3})
            assert await soon(layer.receive("c")) == {"number": 3}

        asyncio.run(run())

    def test_a_full_channel_refuses(self, make_layer: MakeLayer) -> None:
        layer = make_layer(capacity=3)

        async def run() -> None:
            own, neighbour = await layer.new_channel(), await layer.new_channel()
            for channel in ("full", own):
                for number in range(3):
                    await layer.send(channel, {"number": number})
                with pytest.raises(exceptions.ChannelFull):
                    await layer.send(channel, {"number": 3})
            with pytest.raises(layer.ChannelFull):  # the channels of a process share their capacity
                await layer.send(neighbour, {"number": 3})
            await layer.send("other", {"number": 0})
            assert (await soon(layer.receive("full")))["number"] == 0
            await layer.send("full", {"number": 4})
            assert [(await soon(layer.receive("full")))["number"] for _ in range(3)] == [1, 2, 4]

        asyncio.run(run())

    def test_the_default_capacity_is_a_hundred(self, layer: OutworkChannelLayer) -> None:
        async def run() -> None:
            for number in range(100):
                await layer.send("full", {"number": number})
            with pytest.raises(ChannelFull):
                await layer.send("full", {"number": 100})

        asyncio.run(run())

    def test_a_large_capacity_is_kept_to(self, make_layer: MakeLayer) -> None:
        layer = make_layer(capacity=1200)

        async def run() -> None:
            for begin in range(0, 1200, 50):
                await asyncio.gather(*(layer.send("large", {"number": number}) for number in range(begin, begin + 50)))
            with pytest.raises(ChannelFull):
                await layer.send("large", {})

        asyncio.run(run())

    def test_capacities_by_name_glob_and_regular_expression(self, make_layer: MakeLayer) -> None:
        capacities = {"exact": 1, "glob.*": 2, re.compile(r"^number\d+$"): 3}
        layer = make_layer(capacity=4, channel_capacity=capacities)

        async def room(channel: str) -> int:
            for number in range(10):
                try:
                    await layer.send(channel, {})
                except ChannelFull:
                    return number
            return 10

        async def run() -> None:
            names = ("exact", "exactly", "glob.x", "globe", "number12", "number")
            assert [await room(name) for name in names] == [1, 4, 2, 4, 3, 4]
            for name in names:
                await layer.group_add("group", name)
            for _ in range(10):
                for name in names:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(layer.receive(name), 0.02)
            for _ in range(10):
                await layer.group_send("group", {})
            left = {seen.channel: seen.unread for seen in await layer.survey()}
            assert [left[name] for name in names] == [1, 4, 2, 4, 3, 4]

        asyncio.run(run())

    # ---- groups -----------------------------------------------------------------------------------------------------

    def test_a_group_reaches_all_its_members(self, make_layer: MakeLayer) -> None:
        layers = [make_layer(), make_layer()]

        async def run() -> None:
            own = [await layers[number % 2].new_channel() for number in range(6)]
            for name in ("fixed.a", "fixed.b", *own):
                await layers[0].group_add("group", name)
                await layers[1].group_add("group", name)  # twice is once
            await layers[0].group_add("empty", "elsewhere")
            await layers[1].group_discard("empty", "elsewhere")
            await layers[1].group_discard("empty", "elsewhere")
            await layers[1].group_discard("nobody", "elsewhere")
            waiting = [asyncio.ensure_future(layers[n % 2].receive(name)) for n, name in enumerate(own[:4])]
            await layers[1].group_send("group", EVERYTHING)
            await layers[1].group_send("empty", EVERYTHING)
            await layers[1].group_send("nobody", EVERYTHING)
            for one in waiting:
                assert await soon(one) == EVERYTHING
            for number, name in list(enumerate(own))[4:]:
                assert await soon(layers[number % 2].receive(name)) == EVERYTHING
            for name in ("fixed.a", "fixed.b"):
                assert await soon(layers[0].receive(name)) == EVERYTHING
            for number, name in enumerate(own):
                assert await is_silent(layers[number % 2], name)
            for name in ("fixed.a", "fixed.b", "elsewhere"):
                assert await is_silent(layers[0], name)

        asyncio.run(run())

    def test_who_left_gets_nothing(self, layer: OutworkChannelLayer) -> None:
        async def run() -> None:
            stays, leaves = await layer.new_channel(), await layer.new_channel()
            for name in (stays, leaves):
                await layer.group_add("group", name)
            await layer.group_discard("group", leaves)
            await layer.group_send("group", {"type": "x"})
            assert await soon(layer.receive(stays)) == {"type": "x"}
            assert await is_silent(layer, leaves)

        asyncio.run(run())

    def test_memberships_expire(self, make_layer: MakeLayer) -> None:
        layer = make_layer(group_expiry=2)
        assert layer.group_expiry == 2

        async def run() -> None:
            await layer.group_add("group", "gone")
            await layer.group_add("group", "stays")
            await asyncio.sleep(1.2)
            await layer.group_add("group", "stays")
            await asyncio.sleep(1.0)
            await layer.group_send("group", {"type": "x"})
            assert await soon(layer.receive("stays")) == {"type": "x"}
            assert await is_silent(layer, "gone")

        asyncio.run(run())

    def test_by_default_a_membership_holds_for_a_day(self, make_layer: MakeLayer) -> None:
        """By the store's own clock it ends just before one that is begun next, and says so."""
        layers = {"default": make_layer(), "said": make_layer(group_expiry=86_400)}

        async def run() -> None:
            for name, layer in layers.items():
                await layer.group_add("group", name)
            ends = self.ends_of_memberships()
            assert 0 <= ends["said"] - ends["default"] < 10

        assert layers["default"].group_expiry == 86_400
        asyncio.run(run())

    def ends_of_memberships(self) -> dict[str, float]:
        """When each member of the group `group` stops being one, by the store's own clock."""
        raise NotImplementedError

    def test_a_full_member_is_passed_over(self, make_layer: MakeLayer) -> None:
        layer = make_layer(capacity=2)

        async def run() -> None:
            for name in ("full", "free"):
                await layer.group_add("group", name)
            await layer.send("full", {"number": 0})
            for number in range(1, 4):
                await layer.group_send("group", {"number": number})
                if number < 3:
                    assert await soon(layer.receive("free")) == {"number": number}
            assert [(await soon(layer.receive("full")))["number"] for _ in range(2)] == [0, 1]
            assert await is_silent(layer, "full")

        asyncio.run(run())

    def test_a_thousand_members(self, layer: OutworkChannelLayer) -> None:
        async def run() -> None:
            names = [await layer.new_channel() for _ in range(1000)]
            await asyncio.gather(*(layer.group_add("crowd", name) for name in names))
            waiting = [asyncio.ensure_future(layer.receive(name)) for name in names]
            await asyncio.sleep(0.05)
            await layer.group_send("crowd", {"type": "x"})
            assert await soon(asyncio.gather(*waiting)) == [{"type": "x"}] * 1000

        asyncio.run(run())

    # ---- flush ------------------------------------------------------------------------------------------------------

    def test_flush_leaves_nothing(self, make_layer: MakeLayer) -> None:
        layer, neighbour = make_layer(), make_layer(prefix="neighbour")
        assert set(layer.extensions) == {"groups", "flush"}

        async def run() -> None:
            own = await layer.new_channel()
            for one in (layer, neighbour):
                await one.send("channel", {"of": one.prefix})
            await layer.send(own, {})
            await layer.group_add("group", "member")
            await layer.flush()
            await layer.group_send("group", {})
            for channel in ("channel", "member", own):
                assert await is_silent(layer, channel)
            assert await soon(neighbour.receive("channel")) == {"of": "neighbour"}
            assert await layer.survey() != []
            await layer.flush()
            assert await layer.survey() == []

        asyncio.run(run())

    @pytest.mark.usefixtures("rings_alone")
    def test_who_waits_is_not_deaf_after_a_flush(self, make_layer: MakeLayer) -> None:
        mine, other = make_layer(), make_layer()

        async def run() -> None:
            own = await mine.new_channel()
            waiting = [asyncio.ensure_future(mine.receive(name)) for name in ("channel", own)]
            await asyncio.sleep(0.2)
            await other.flush()
            for name in ("channel", own):
                await other.send(name, {"to": name})
            for one, name in zip(waiting, ("channel", own), strict=True):
                assert await soon(one) == {"to": name}

        asyncio.run(run())

    # ---- cancelling -------------------------------------------------------------------------------------------------

    def test_a_cancelled_receive_loses_nothing(self, make_layer: MakeLayer) -> None:
        layer, sender = make_layer(capacity=1000), make_layer(capacity=1000)
        got: list[int] = []

        async def run() -> None:
            own = await layer.new_channel()
            for channel in ("fixed", own):
                got.clear()
                sending = asyncio.ensure_future(self._send_slowly(sender, channel, 150))
                async with asyncio.timeout(60):
                    turn = 0
                    while len(got) < 150:
                        turn += 1
                        with suppress(TimeoutError):
                            message = await asyncio.wait_for(layer.receive(channel), (turn % 7) * 0.0005)
                            got.append(message["number"])
                await sending
                assert got == list(range(150))

        asyncio.run(run())

    async def _send_slowly(self, layer: OutworkChannelLayer, channel: str, count: int) -> None:
        for number in range(count):
            await layer.send(channel, {"number": number})
            await asyncio.sleep(0.001)

    def test_a_receive_that_is_cancelled_with_its_message_in_hand(self, layer: OutworkChannelLayer) -> None:
        """The moment between the arrival and the resumption of the receiver."""

        async def run() -> None:
            own = await layer.new_channel()
            for channel in ("fixed", own):
                waiting = asyncio.ensure_future(layer.receive(channel))
                await asyncio.sleep(0.2)
                await layer.send(channel, {"number": 1})
                for _ in range(500):
                    if _has_its_message(waiting):
                        break
                    await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait([waiting])
                if waiting.cancelled():
                    assert await soon(layer.receive(channel)) == {"number": 1}
                else:
                    assert waiting.result() == {"number": 1}

        asyncio.run(run())

    @pytest.mark.usefixtures("rings_alone")
    def test_another_receiver_gets_what_a_cancelled_one_left(self, layer: OutworkChannelLayer) -> None:
        async def run() -> None:
            own = await layer.new_channel()
            for channel in ("fixed", own):
                first = asyncio.ensure_future(layer.receive(channel))
                second = asyncio.ensure_future(layer.receive(channel))
                await asyncio.sleep(0.1)
                first.cancel()
                await layer.send(channel, {"number": 1})
                assert await soon(second) == {"number": 1}

        asyncio.run(run())

    @pytest.mark.usefixtures("rings_alone")
    def test_who_comes_back_after_a_cancelled_receive_has_what_came_meanwhile(self, make_layer: MakeLayer) -> None:
        mine, other = make_layer(), make_layer()

        async def run() -> None:
            waiting = asyncio.ensure_future(mine.receive("fixed"))
            await asyncio.sleep(0.1)
            waiting.cancel()
            await asyncio.wait([waiting])
            await other.send("fixed", {"number": 1})
            async with asyncio.timeout(SOON):
                while [seen.unread for seen in await mine.survey()] != [1]:
                    await asyncio.sleep(0.01)
            assert await soon(mine.receive("fixed")) == {"number": 1}

        asyncio.run(run())

    def test_a_loop_that_ends_while_a_receiver_asks_takes_nothing_along(self, make_layer: MakeLayer) -> None:
        layer, sender = make_layer(), make_layer()
        own = asyncio.run(layer.new_channel())
        got: list[int] = []
        for number, turns in enumerate((1, 2, 3, 5, 8, 13, 21, 34)):
            for channel in ("fixed", own):
                asyncio.run(sender.send(channel, {"number": number}))
                receiver = asyncio.run(self._leave_a_receiver(layer, channel, turns))
                if not receiver.cancelled():
                    got.append(receiver.result()["number"])
        for channel in ("fixed", own):
            got += asyncio.run(self._rest(layer, channel))
        assert sorted(got) == sorted([*range(8), *range(8)])

    async def _leave_a_receiver(self, layer: OutworkChannelLayer, channel: str, turns: int) -> asyncio.Task[Any]:
        """The loop ends after so many turns, with its tasks still there."""
        await layer.survey()
        receiver = asyncio.ensure_future(layer.receive(channel))
        for _ in range(turns):
            await asyncio.sleep(0)
        return receiver

    async def _rest(self, layer: OutworkChannelLayer, channel: str) -> list[int]:
        await layer.send(channel, {"number": -1})
        found: list[int] = []
        while -1 not in found:
            found.append((await soon(layer.receive(channel)))["number"])
        return found[:-1]

    def test_who_waits_does_not_mind_that_the_pools_are_closed(self, make_layer: MakeLayer) -> None:
        layer = make_layer()

        async def run() -> None:
            own = await layer.new_channel()
            waiting = [asyncio.ensure_future(layer.receive(channel)) for channel in ("fixed", own)]
            await asyncio.sleep(0.1)
            await layer.close_pools()
            for channel, one in zip(("fixed", own), waiting, strict=True):
                await layer.send(channel, {"to": channel})
                assert await soon(one) == {"to": channel}

        asyncio.run(run())

    # ---- event loops ------------------------------------------------------------------------------------------------

    def test_from_one_event_loop_to_the_next(self, layer: OutworkChannelLayer) -> None:
        own = async_to_sync(layer.new_channel)()
        async_to_sync(layer.group_add)("group", own)
        for number in range(5):
            async_to_sync(layer.send)("fixed", {"number": number})
            async_to_sync(layer.group_send)("group", {"number": number})
            assert async_to_sync(layer.receive)("fixed") == {"number": number}
            assert async_to_sync(layer.receive)(own) == {"number": number}
        assert len(layer._desks) == 0

    def test_two_event_loops_at_once(self, layer: OutworkChannelLayer) -> None:
        """One layer, two threads with a loop each, which receive their own channels."""
        failures: list[BaseException] = []
        there: list[str] = []
        made = threading.Event()

        async def answer() -> None:
            own = await layer.new_channel()
            there.append(own)
            made.set()
            for number in range(30):
                message = await soon(layer.receive(own))
                assert message["number"] == number
                await layer.send(message["reply_to"], {"number": number})

        def thread() -> None:
            try:
                asyncio.run(answer())
            except BaseException as error:  # noqa: BLE001
                failures.append(error)

        async def ask() -> None:
            own = await layer.new_channel()
            for number in range(30):
                await layer.send(there[0], {"number": number, "reply_to": own})
                assert await soon(layer.receive(own)) == {"number": number}

        other = threading.Thread(target=thread)
        other.start()
        assert made.wait(SOON)
        asyncio.run(ask())
        other.join(SOON)
        assert failures == []
        assert len(layer._desks) == 0

    def test_no_connection_is_left(self, make_layer: MakeLayer) -> None:
        """Event loops come and go, and leave at most one connection for the next."""
        layer = make_layer()
        before = self.connections()
        for _ in range(12):
            asyncio.run(self._round(layer))
        until(lambda: self.connections() <= before + 1, "the server has seen that they were closed")

    async def _round(self, layer: OutworkChannelLayer) -> None:
        own = await layer.new_channel()
        waiting = asyncio.ensure_future(layer.receive(own))
        await layer.send("fixed", {"type": "x"})
        await soon(layer.receive("fixed"))
        await layer.send(own, {"type": "x"})
        await soon(waiting)
        pending = asyncio.ensure_future(layer.receive("fixed"))
        await asyncio.sleep(0.01)
        pending.cancel()

    def connections(self) -> int:
        """How many connections the store has."""
        return 0

    # ---- encryption -------------------------------------------------------------------------------------------------

    def test_encrypted_messages(self, make_layer: MakeLayer) -> None:
        one = make_layer(symmetric_encryption_keys=["first"])
        both = make_layer(symmetric_encryption_keys=["second", b"first"])
        new = make_layer(symmetric_encryption_keys=["second"])

        async def run() -> None:
            await one.send("channel", EVERYTHING)
            assert await soon(both.receive("channel")) == EVERYTHING
            await both.send("channel", EVERYTHING)
            assert await soon(new.receive("channel")) == EVERYTHING
            own = await new.new_channel()
            await both.group_add("group", own)
            await both.group_send("group", EVERYTHING)
            assert await soon(new.receive(own)) == EVERYTHING

        asyncio.run(run())

    def test_what_cannot_be_read_is_thrown_away(self, make_layer: MakeLayer, caplog: pytest.LogCaptureFixture) -> None:
        secret, plain = make_layer(symmetric_encryption_keys=["key"]), make_layer()
        other = make_layer(symmetric_encryption_keys=["another"])

        async def run() -> None:
            await plain.send("channel", {"secret": "not"})
            await other.send("channel", {"secret": "not"})
            await secret.send("channel", {"number": 1})
            assert await soon(secret.receive("channel")) == {"number": 1}
            await secret.send("channel", {"number": 2})
            await plain.send("channel", {"number": 3})
            assert await soon(plain.receive("channel")) == {"number": 3}

        with caplog.at_level(logging.ERROR, "outwork.channels"):
            asyncio.run(run())
        assert len(caplog.records) == 3
        assert "secret" not in caplog.text

    # ---- readers ----------------------------------------------------------------------------------------------------

    def test_a_channel_without_a_reader_is_told_of(
        self, make_layer: MakeLayer, caplog: pytest.LogCaptureFixture
    ) -> None:
        layer = make_layer(unread_warning=0.3)

        async def run() -> None:
            own = await layer.new_channel()
            await layer.send("unread", {})
            await layer.send("read", {})
            await layer.send(own, {})
            await asyncio.sleep(0.4)
            await layer.attend(["read"])
            assert "nobody has read" not in caplog.text
            for channel in ("unread", "unread", "read", own):
                await layer.send(channel, {})
            seen = {found.channel: found for found in await layer.survey()}
            assert set(seen) == {"read", "unread"}
            assert seen["unread"].unread == 3
            assert seen["unread"].looked is None
            assert (seen["unread"].sent or 0) >= 0.4
            assert seen["read"].looked is not None
            assert seen["read"].looked < 0.3 or seen["read"].looked < (seen["unread"].sent or 0)

        with caplog.at_level(logging.WARNING, "outwork.channels"):
            asyncio.run(run())
        assert [record.getMessage().count("nobody has read channel unread") for record in caplog.records] == [1]


def _has_its_message(task: asyncio.Task[Any]) -> bool:
    waiter = getattr(task, "_fut_waiter", None)
    return task.done() or waiter is None or waiter.done()
