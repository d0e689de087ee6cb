"""A producer of the storm, in a process of its own: it enqueues jobs of every kind until there is a file STOP.
`python -m support.storm_producer URL STORE_URL NAME STOP SEED`.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from outwork import chain, group
from outwork.errors import OutworkError
from support import ledger
from support.storm import alone, app, async_work, child_work, follow, gather, narrow, once, work

LINES: Final = 2
KEYS: Final = 2
PAUSE: Final = 0.06
"""Between two enqueues of a producer: what the workers can do in spite of the weather, on two cores."""


class Producer:
    """Attempts an enqueue, and writes down what was confirmed. What is refused is not tried again."""

    def __init__(self, name: str, seed: int) -> None:
        self._name = name
        self._chance = random.Random(seed)
        self._number = 0

    def _key(self, kind: str, delay: float = 0.0) -> str:
        """The ledger knows its delay."""
        self._number += 1
        key = f"{kind}:{self._name}-{self._number}"
        ledger.write("A", key, str(delay))
        return key

    def _seconds(self) -> float:
        return self._chance.uniform(0.0, 0.15)

    def kinds(self) -> list[Callable[[], None]]:
        """What this broker can keep; the common ones more often."""
        able = app.broker.capabilities
        kinds = [self.plain, self.plain, self.late, self.late, self.failing, self.in_a_child, self.once, self.many]
        kinds += [self.from_a_loop]
        if able.gates:
            kinds += [self.narrow, self.narrow]
        if able.unique:
            kinds += [self.alone, self.alone]
        if able.composition:
            kinds += [self.steps, self.members]
        return kinds

    def plain(self) -> None:
        key = self._key("plain")
        kind = self._chance.choice([work, async_work])
        ledger.write("K", key, kind.enqueue(key, self._seconds()).id)

    def late(self) -> None:
        delay = self._chance.choice([self._chance.uniform(0.001, 0.2), self._chance.uniform(0.2, 6.0)])
        key = self._key("late", delay)
        ledger.write("K", key, work.using(run_after=delay).enqueue(key, self._seconds()).id)

    def failing(self) -> None:
        key = self._key("failing")
        kind = self._chance.choice([work, async_work, child_work])
        ledger.write("K", key, kind.enqueue(key, self._seconds(), self._chance.randint(1, 3)).id)

    def in_a_child(self) -> None:
        key = self._key("child")
        ledger.write("K", key, child_work.enqueue(key, self._seconds()).id)

    def once(self) -> None:
        key = self._key("once")
        ledger.write("K", key, once.enqueue(key, self._seconds()).id)

    def many(self) -> None:
        keys = [self._key("many") for _ in range(5)]
        for key, result in zip(keys, app.enqueue_many(work.bind(key, self._seconds()) for key in keys), strict=True):
            ledger.write("K", key, result.id)

    def from_a_loop(self) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(one(self._key("plain")) for _ in range(3)))

        async def one(key: str) -> None:
            with suppress(OutworkError):
                ledger.write("K", key, (await async_work.aenqueue(key, self._seconds())).id)

        asyncio.run(all_of_them())

    def narrow(self) -> None:
        key = self._key(f"narrow{self._chance.randrange(LINES)}")
        line = key.partition(":")[0]
        fails = self._chance.choice([0, 0, 1])
        ledger.write("K", key, narrow.enqueue(key, self._seconds(), line, fails).id)

    def alone(self) -> None:
        key = self._key(f"alone{self._chance.randrange(KEYS)}")
        ledger.write("K", key, alone.enqueue(key, self._seconds(), key.partition(":")[0]).id)

    def steps(self) -> None:
        first, second, third = (self._key(f"step{number}") for number in range(3))
        steps = [follow.bind(key=key, seconds=self._seconds()) for key in (second, third)]
        ledger.write("K", third, chain(work.bind(first, self._seconds()), *steps).enqueue().id)

    def members(self) -> None:
        keys = [self._key("member") for _ in range(3)]
        callback = self._key("callback")
        calls = [work.bind(key, self._seconds(), self._chance.choice([0, 0, 1])) for key in keys]
        ledger.write("K", callback, group(calls).then(gather.bind(key=callback)).enqueue().id)

    def enqueue_until(self, stop: Path) -> None:
        kinds = self.kinds()
        while not stop.exists():
            with suppress(OutworkError):  # not confirmed: it may be there or not
                self._chance.choice(kinds)()
            time.sleep(PAUSE)


def main(url: str, store_url: str, name: str, stop: str, seed: str) -> None:
    app.override({"broker_url": url, "store_url": store_url})
    try:
        Producer(name, int(seed)).enqueue_until(Path(stop))
    finally:
        app.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
