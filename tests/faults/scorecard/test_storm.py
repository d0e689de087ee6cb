"""The storm: many faults at once, on every broker that processes share.

`make test` has a short one, whose weather is always the same (what the processes make of it is not): whoever changes
something else shall not meet a storm that nobody has seen before. `make faults` draws a new one each time, and prints
its seed. `STORM_SEED=... STORM_SECONDS=...` repeat one.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from faults.scorecard.aftermath import Aftermath
from faults.scorecard.grounds import Ground, MySQLGround, PostgresGround, RabbitGround, RedisGround, SQLiteGround
from faults.scorecard.storm import Sea, Storm
from support.ledger import Ledger

WHOLE: Final = bool(os.environ.get("FAULTS_PAGE"))
SEED: Final = int(os.environ.get("STORM_SEED", 0)) or (secrets.randbits(32) if WHOLE else 7)
LINGERING: Final = 6
"""So many counters of limits, each with its moment, may be there for a minute after their last job."""
SECONDS: Final = float(os.environ.get("STORM_SECONDS", 60 if WHOLE else 4))


class Where(NamedTuple):
    """A broker, the column that it fills, its servers (the second one is its store), and what its URL says."""

    name: str
    column: str
    servers: tuple[type[Any], ...]
    options: str = ""
    restarts: bool = True
    """Whether the server may be restarted: a classic queue drops what it passes on to another one meanwhile."""


PLACES: Final = (
    Where("sqlite", "sqlite", (SQLiteGround,)),
    Where("postgresql", "postgresql", (PostgresGround,)),
    Where("mysql", "mysql", (MySQLGround,)),
    Where("redis", "redis", (RedisGround,)),
    Where("quorum", "rabbitmq", (RabbitGround,)),
    Where("classic", "rabbitmq", (RabbitGround,), "&queue_type=classic", restarts=False),
    Where("quorum-sqlite", "rabbitmq", (RabbitGround, SQLiteGround)),
    Where("quorum-redis", "rabbitmq", (RabbitGround, RedisGround)),
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "where",
    [pytest.param(one, marks=pytest.mark.cell(row="30", broker=one.column), id=f"30-{one.name}") for one in PLACES],
)
def test_a_storm(
    where: Where,
    grounds: Callable[[type[Any]], Ground],
    tmp_path: Path,
    ledger: Ledger,
    environ: dict[str, str],
    record_property: Callable[[str, object], None],
) -> None:
    print(f"STORM_SEED={SEED} STORM_SECONDS={SECONDS:g}")
    environ.pop("PYTHONWARNINGS")
    seas = [Sea(ground, ground.url()) for ground in map(grounds, where.servers)]
    seas[0] = Sea(seas[0].ground, seas[0].url + where.options)
    with ExitStack() as inside:
        storm = Storm(seas, tmp_path, ledger, environ, SEED, inside)
        storm.restarts = where.restarts
        storm.begin()
        storm.blow(SECONDS)
        storm.heal()
        storm.drain(0 if WHOLE else LINGERING)
        records = storm.records() if storm.keeps else None
    verdict = Aftermath(ledger.entries(), records, storm.gusts).verdict()
    record_property("twice", verdict.twice)
    record_property("bound", verdict.bound)
    record_property("seconds", round(storm.seconds, 1))
    record_property("replayed", verdict.replayed)
    for gust in storm.gusts:
        print(f"{gust.began - storm.began:6.1f} - {gust.over - storm.began:6.1f}: {gust.what} ({gust.place})")
    print(f"{verdict.jobs} jobs, all ended {storm.seconds:.1f} s after the storm")
    assert verdict.wrong == {}
