"""Which connection a verb gets."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from outwork.brokers.sql import connections as connections_module
from outwork.brokers.sql.connections import Connections, Role


def usable(connection: str) -> bool:
    return True


@pytest.fixture
def closed() -> list[str]:
    return []


@pytest.fixture
def connections(closed: list[str]) -> Iterator[Connections[str]]:
    numbers = count(1)
    made = Connections[str](lambda role: f"{role.value} {next(numbers)}", closed.append, most={Role.WORK: 3})
    yield made
    made.close()


def test_another_one_is_taken_only_if_it_is_open_and_free(connections: Connections[str]) -> None:
    with connections.borrow(Role.WORK, usable, Role.LISTEN) as closed:
        assert closed == "work 1"
    with (
        connections.borrow(Role.LISTEN, usable) as listening,
        connections.borrow(Role.WORK, usable, Role.LISTEN) as used,
    ):
        assert (listening, used) == ("listen 2", "work 1")
    with (
        connections.borrow(Role.WORK, usable, Role.LISTEN) as free,
        connections.borrow(Role.WORK, usable, Role.LISTEN) as other,
    ):
        assert (free, other) == ("listen 2", "work 1")


def test_as_many_are_opened_as_are_needed_at_once(connections: Connections[str]) -> None:
    for _ in range(2):
        with connections.borrow(Role.WORK, usable) as first, connections.borrow(Role.WORK, usable) as second:
            assert (first, second) == ("work 1", "work 2")


def test_one_that_nobody_needs_any_more_is_closed(
    connections: Connections[str], closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a rush opened, or a server that stood still, is not kept for ever."""
    with (
        connections.borrow(Role.WORK, usable),
        connections.borrow(Role.WORK, usable),
        connections.borrow(Role.WORK, usable) as third,
        connections.borrow(Role.KEEP, usable),
    ):
        pass
    with connections.borrow(Role.WORK, usable):
        assert closed == []
    monkeypatch.setattr(connections_module, "SPARE", 0.0)
    with connections.borrow(Role.KEEP, usable) as kept:
        assert (kept, closed) == ("keep 4", [])
    with connections.borrow(Role.WORK, usable) as first, connections.borrow(Role.WORK, usable) as second:
        assert (first, second, closed) == ("work 1", "work 2", [])
    assert sorted(closed) == ["work 2", third]
    with connections.borrow(Role.WORK, usable) as first:
        assert first == "work 1"
