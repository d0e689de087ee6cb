"""What of the RabbitMQ broker needs no server: frames, the ladder of delays, URLs."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pika  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import frame, spec

from outwork.brokers.rabbitmq.driver import Reader, _write_table
from outwork.brokers.rabbitmq.frames import Parcel, Properties, write
from outwork.brokers.rabbitmq.options import Options
from outwork.brokers.rabbitmq.topology import LEVELS, LONGEST, UNIT, Topology, digits_of, level_of, units_of
from outwork.errors import InvalidURL

FRAME_MAX = 4096

names = st.text(max_size=60)
headers = st.none() | st.dictionaries(
    st.sampled_from(["failures", "once", "expires", "reason"]),
    st.integers(-(2**40), 2**40) | st.booleans() | st.text(max_size=30),
    min_size=1,
)
known_properties = st.builds(
    Properties,
    message_id=st.text(min_size=1, max_size=60),
    headers=headers,
    priority=st.none() | st.integers(0, 9),
    expiration=st.none() | st.just("60000"),
)
parcels = st.builds(
    Parcel, exchange=names, key=names, body=st.binary(max_size=3 * FRAME_MAX), properties=known_properties
)


def by_pika(parcel: Parcel) -> bytes:
    """The same message as pika writes it."""
    message_id, table, priority, expiration = parcel.properties
    properties = spec.BasicProperties(
        message_id=message_id, headers=table, priority=priority, expiration=expiration, delivery_mode=2
    )
    publish = spec.Basic.Publish(exchange=parcel.exchange, routing_key=parcel.key, mandatory=True)
    room = FRAME_MAX - 8
    frames = [frame.Method(1, publish), frame.Header(1, len(parcel.body), properties)]
    frames += [frame.Body(1, parcel.body[at : at + room]) for at in range(0, len(parcel.body), room)]
    return b"".join(one.marshal() for one in frames)


@given(parcels)
def test_a_message_is_written_as_pika_writes_it(parcel: Parcel) -> None:
    assert write(1, FRAME_MAX, parcel, _write_table) == by_pika(parcel)


class Wire:
    """What a reader needs of pika's connection; `rest` is what was handed to it."""

    def __init__(self) -> None:
        self._frame_buffer = b""
        self.bytes_received = 0
        self.rest: list[bytes] = []

    def _on_data_available(self, received: bytes) -> None:
        self.rest.append(received)


deliveries = st.tuples(
    st.sampled_from(["one", "two"]), st.integers(1, 2**60), st.booleans(), known_properties, st.binary(max_size=9000)
)
others = st.sampled_from([spec.Basic.QosOk(), spec.Basic.CancelOk("one"), None])


@settings(max_examples=60)
@given(st.lists(deliveries | others, max_size=12), st.integers(0, 2**32))
def test_what_arrives_in_pieces_is_read_as_it_was_sent(sent: list[Any], seed: int) -> None:
    stream, expected, rest = b"", [], []
    for one in sent:
        if not isinstance(one, tuple):
            encoded = frame.Heartbeat().marshal() if one is None else frame.Method(1, one).marshal()
            stream += encoded
            rest.append(encoded)
            continue
        consumer, tag, redelivered, (message_id, table, priority, _), body = one
        deliver = spec.Basic.Deliver(consumer, tag, redelivered, "exchange", "key")
        properties = spec.BasicProperties(message_id=message_id, headers=table, priority=priority, delivery_mode=2)
        frames = [frame.Method(1, deliver), frame.Header(1, len(body), properties)]
        frames += [frame.Body(1, body[at : at + 4088]) for at in range(0, len(body), 4088)]
        stream += b"".join(each.marshal() for each in frames)
        expected.append((consumer, tag, redelivered, Properties(message_id, table, priority), body))
    wire, found = Wire(), []
    consumers = {name.encode(): lambda *got, name=name: found.append((name, *got)) for name in ("one", "two")}
    reader = Reader(wire, 1, consumers)
    chance = random.Random(seed)
    while stream:
        size = chance.choice([1, 7, 100, 5000])
        reader.feed(stream[:size])
        stream = stream[size:]
    assert found == expected
    assert b"".join(wire.rest) == b"".join(rest)
    assert wire._frame_buffer == b""


# ---- the ladder ------------------------------------------------------------------------------------------------------


@given(st.floats(0.001, LONGEST))
def test_a_delay_is_never_too_short_and_hardly_too_long(delay: float) -> None:
    levels = digits_of(units_of(delay))
    waited = sum(LEVELS[level] for level in levels) * UNIT
    assert delay <= waited < delay + UNIT + 1e-6
    assert levels == sorted(set(levels), reverse=True)


def test_a_year_fits() -> None:
    assert LONGEST > 366 * 86_400
    assert max(LEVELS) * UNIT * 1000 < 2**32


def test_a_message_waits_where_its_key_says() -> None:
    topology = Topology("p", "quorum")
    route, levels = topology.delayed("p.q.mail", 10.0)
    assert levels == [5, 3]  # 40 units: 32 and 8
    words = route.key.split(".")
    assert [len(LEVELS) - 1 - place for place, word in enumerate(words[:-1]) if word == "1"] == levels
    assert route.exchange == topology.rung(5)
    assert topology.below(0) == topology.due


def test_priorities_are_spread_over_the_levels() -> None:
    assert [level_of(priority, 10) for priority in (-100, 0, 100)] == [0, 4, 9]
    assert level_of(50, 1) is None
    assert [level_of(priority, 2) for priority in (-100, 0, 1, 100)] == [0, 0, 5, 5], "RabbitMQ: high is above 4"


# ---- URLs ------------------------------------------------------------------------------------------------------------


def test_a_url_as_users_write_it() -> None:
    options = Options.from_url(
        "amqp://me:p%40ss@one:1234,two/shop?heartbeat=15&connection_timeout=3&queue_type=classic&lease=5", None
    )
    assert options.hosts == (("one", 1234), ("two", 5672))
    assert (options.user, options.password, options.vhost) == ("me", "p@ss", "shop")
    assert (options.heartbeat, options.connection_timeout, options.queue_type) == (15, 3.0, "classic")
    assert options.terms.lease == 5.0
    assert options.confirm
    assert "p%40ss" not in options.shown


@pytest.mark.parametrize(
    ("path", "vhost"), [("", "/"), ("/", "/"), ("/%2F", "/"), ("/shop", "shop"), ("/%2Fshop", "/shop")]
)
def test_virtual_hosts(path: str, vhost: str) -> None:
    assert Options.from_url(f"amqp://localhost{path}", None).vhost == vhost


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("amqp://localhost/?queue_type=stream", "write quorum or classic"),
        ("amqp://localhost/?prefix=a.b", "letters, digits"),
        ("amqp://localhost/?cafile=x", "unknown option cafile"),
        ("amqps://localhost/?cafile=/no/such/file", "certificates cannot be read"),
        ("amqp://localhost:x/", "no port that is a number"),
        ("amqp://localhost/?hartbeat=3", "Did you mean heartbeat"),
    ],
)
def test_urls_that_are_refused(url: str, said: str) -> None:
    with pytest.raises(InvalidURL, match=said):
        Options.from_url(url, None)


def test_the_options_are_those_of_the_documentation() -> None:
    with pytest.raises(InvalidURL) as caught:
        Options.from_url("amqps://localhost/?none=1", None)
    known = set(re.findall(r"\w+", str(caught.value).partition("Known options of amqps: ")[2]))
    page = (Path(__file__).parents[2] / "docs" / "rabbitmq.md").read_text()
    table = re.findall(r"^\| (`.*?) \|", page.partition("| option |")[2].partition("## What")[0], re.MULTILINE)
    assert {name for cell in table for name in re.findall(r"`(\w+)`", cell)} == known


def test_tls_has_its_own_port() -> None:
    options = Options.from_url("amqps://localhost?verify=false", None)
    assert options.hosts == (("localhost", 5671),)
    assert options.tls is not None
    assert pika.SSLOptions(options.tls).context is options.tls
