"""`BarrierBackend`: Dramatiq's barriers (the callbacks of its groups), and its rate limiters, in any store of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec
from dramatiq.rate_limits import RateLimiterBackend
from msgspec import Raw, Struct

from outwork.contrib.dramatiq.broker import OutworkBroker, application
from outwork.contrib.dramatiq.places import Places
from outwork.contrib.dramatiq.shelf import shelf_of
from outwork.ids import new_claim_id

WINDOW: Final = 50
"""How many steps of a count are looked for at once."""
FOREVER: Final = 366 * 86_400.0


class Step(Struct):
    """The value of a count after so many changes, and who made the last one."""

    value: int
    by: str


class Reached(NamedTuple):
    number: int
    value: int


class BarrierBackend(RateLimiterBackend):
    """For Dramatiq's `Barrier`, and so for `GroupCallbacks`, and for its rate limiters: on SQLite, PostgreSQL, MySQL,
    Redis, and RabbitMQ with a store beside it.

        broker.add_middleware(GroupCallbacks(BarrierBackend(broker=broker)))

    Every change of a barrier's count is a value of its own, numbered, and kept if nobody has kept one of this number
    before: so of several that count at once each is counted. A count lives as long as its first value.

    A rate limiter's count is of places (`outwork.contrib.dramatiq.places`): each is held by one, until it is given back
    or its time is over. Raises Unsupported where no records are kept.
    """

    def __init__(
        self, *, url: str | None = None, broker: OutworkBroker | None = None, namespace: str = "dramatiq-barriers"
    ) -> None:
        self.app, self._owned = application(url, broker.app if broker is not None else None)
        self._shelf = shelf_of(self.app, namespace, at_once=url is not None or broker is not None)
        self._places = Places(self._shelf)

    def close(self) -> None:
        """Close the connections, if they are not the broker's."""
        if self._owned:
            self.app.close()

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Begin a count, for `ttl` ms; whether there was none. A count of 1 is a rate limiter's first place."""
        if value == 1:
            return self._places.take(key, 1, ttl / 1000)
        return self._step(key, Reached(0, value), ttl)

    def decr(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Count down, unless less than `minimum` would be left; whether it did. There is nothing left of a count that
        is over, or that never began. With `minimum` 0 places are given back that this object took."""
        if minimum <= 0:
            return self._places.give_back(key, amount)
        reached = self._reached(key, 0)
        while reached is not None and reached.value - amount >= minimum:
            if self._step(key, Reached(reached.number + 1, reached.value - amount), ttl):
                return True
            reached = self._reached(key, reached.number + 1)  # another one was faster
        return False

    def incr(self, key: str, amount: int, maximum: int, ttl: int) -> bool:
        """Take so many of `maximum` places, for `ttl` ms each; whether they were free."""
        return self._places.take(key, maximum, ttl / 1000, amount)

    def incr_and_sum(self, key: str, keys: Callable[[], Iterable[str]], amount: int, maximum: int, ttl: int) -> bool:
        """The same for a window that slides: Dramatiq counts by the second, in keys named NAME@SECOND. Here a place is
        taken for the length of the window, so those of all seconds are the places of NAME."""
        return self._places.take(key.rpartition("@")[0], maximum, ttl / 1000, amount)

    def wait(self, key: str, timeout: int | None) -> bool:
        """Whether `wait_notify` was called, within `timeout` ms."""
        return self._shelf.wait(key, FOREVER if timeout is None else timeout / 1000) is not None

    def wait_notify(self, key: str, ttl: int) -> None:
        """End the waits for this key, also those that begin within the next `ttl` ms."""
        self._shelf.put(key, Raw(b"{}"), ttl / 1000)

    def _reached(self, key: str, number: int) -> Reached | None:
        """The last step of a count, of which step `number` is there unless there is none at all."""
        reached: Reached | None = None
        while True:
            found = self._shelf.look_all([_name(key, number + ahead) for ahead in range(WINDOW)])
            for value in found:
                if value is None:
                    return reached
                reached = Reached(number, msgspec.json.decode(value, type=Step).value)
                number += 1

    def _step(self, key: str, to: Reached, ttl: int) -> bool:
        """Whether this step was ours to make."""
        mine = Step(to.value, new_claim_id())
        name = _name(key, to.number)
        self._shelf.offer(name, Raw(msgspec.json.encode(mine)), ttl / 1000)
        kept = self._shelf.look(name)
        return kept is not None and msgspec.json.decode(kept, type=Step) == mine


def _name(key: str, number: int) -> str:
    return f"{key}#{number}"
