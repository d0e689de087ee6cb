"""The comparison with the peers: tables, and where a peer is better."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from benchmarks.page.cells import Book, milliseconds, missing, number, origin, table
from benchmarks.results import Measurement, Result

PART: Final = "peers"
OURS: Final = "Outwork"
BROKERS: Final = {"redis": "Redis", "postgresql": "PostgreSQL", "rabbitmq": "RabbitMQ", "sqlite": "SQLite"}
DRAIN: Final = "drain"
CPU: Final = "CPU"
P50: Final = "latency from the call, p50"
P99: Final = "latency from the call, p99"


class Quantity(NamedTuple):
    """A column: its name in the results, its heading, and whether more of it is better."""

    name: str
    text: str
    more: bool = False

    def better(self, one: float, other: float) -> bool:
        return one > other if self.more else one < other


QUANTITIES: Final = (
    Quantity(DRAIN, "drain, jobs/s", True),
    Quantity(CPU, "processor time of 1,000 jobs, s"),
    Quantity("enqueue", "enqueue, one at a time, jobs/s", True),
    Quantity("bulk enqueue", "bulk enqueue, jobs/s", True),
    Quantity(P50, "latency, p50, ms"),
    Quantity(P99, "latency, p99, ms"),
    Quantity("latency from the return, p50", "from the return, p50, ms"),
    Quantity("latency from the return, p99", "from the return, p99, ms"),
    Quantity("memory of the idle worker", "idle worker, MB"),
    Quantity("kill -9: lost", "killed: lost"),
    Quantity("kill -9: run twice", "killed: run twice"),
    Quantity("kill -9: until all were run", "killed: all done after, s"),
)
LEAD: Final = {"redis": 10.0, "sqlite": 10.0, "postgresql": 2.0, "rabbitmq": 2.0}
"""How many times as fast as the best peer a drain is to be."""


class Contestant(NamedTuple):
    subject: str
    peer: str
    broker: str
    result: Result

    @property
    def ours(self) -> bool:
        return self.peer == OURS

    @property
    def name(self) -> str:
        """The peer, with what tells its contestants on this broker apart: `RQ (simple)`."""
        rest = self.subject.split("_")[2:]
        return f"{self.peer} ({' '.join(rest)})" if rest else self.peer

    def find(self, quantity: str) -> Measurement | None:
        return self.result.find(self.subject, quantity)

    def value(self, quantity: str) -> float | None:
        found = self.find(quantity)
        return None if found is None else found.median


def contestants(book: Book, broker: str | None = None) -> list[Contestant]:
    """Those (of a broker) that were measured, the fastest drain first."""
    result = book[PART]
    found = [
        Contestant(one, result.fact(one, "peer") or one, result.fact(one, "broker") or "", result)
        for one in result.subjects()
    ]
    found = [one for one in found if broker in (None, one.broker)]
    return sorted(found, key=lambda one: -(one.value(DRAIN) or 0.0))


def peers(book: Book) -> str:
    """A table for each broker, a line for each contestant, and where all of it comes from."""
    if not contestants(book):
        return missing(PART)
    said = "".join(_table(name, contestants(book, broker)) for broker, name in BROKERS.items())
    return said + origin(book[PART], [one.name for one in QUANTITIES], versions=False)


def _table(broker: str, found: Sequence[Contestant]) -> str:
    if not found:
        return ""
    rows = [
        [f"**{one.name}**" if one.ours else one.name, *(_cell(one, its.name) for its in QUANTITIES)] for one in found
    ]
    return table([f"on {broker}", *(one.text for one in QUANTITIES)], rows) + "\n"


def _cell(one: Contestant, quantity: str) -> str:
    found = one.find(quantity)
    return "" if found is None else (milliseconds if found.unit == "ms" else number)(found.median)


def better(book: Book) -> str:
    """For each broker and quantity, the peers that beat us, with our numbers; one that beats one of ours counts."""
    if not contestants(book):
        return missing(PART)
    lines: list[str] = []
    for broker, name in BROKERS.items():
        found = contestants(book, broker)
        for quantity in QUANTITIES:
            mine = _valued((one for one in found if one.ours), quantity)
            theirs = _valued((one for one in found if not one.ours), quantity)
            ahead = [(one, its) for one, its in theirs if any(quantity.better(its, own) for _, own in mine)]
            if ahead:
                own = ", ".join(f"{one.name} {number(value)}" for one, value in mine)
                others = ", ".join(f"{one.name} {number(value)}" for one, value in ahead)
                lines.append(f"- {name}, {quantity.text}: {others} ({own})\n")
    return "".join(lines) or "In none of the quantities that were measured.\n"


def _valued(found: Iterable[Contestant], quantity: Quantity) -> list[tuple[Contestant, float]]:
    """The best first."""
    valued = [(one, value) for one in found if (value := one.value(quantity.name)) is not None]
    return sorted(valued, key=lambda pair: -pair[1] if quantity.more else pair[1])


def aims(book: Book) -> str:
    """Drain against the best peer of each broker, and whether latency and processor time are the lowest of all."""
    if not contestants(book):
        return missing(PART)
    rows: list[list[str]] = []
    for broker, name in BROKERS.items():
        found = contestants(book, broker)
        for quantity in QUANTITIES:
            mine = _valued((one for one in found if one.ours), quantity)
            theirs = _valued((one for one in found if not one.ours), quantity)
            if mine and theirs and quantity.name in (DRAIN, CPU, P50, P99):
                rows.append([name, quantity.text, *_against(quantity, mine[0], theirs[0], LEAD[broker])])
    return table(["", "", "best of ours", "best peer", "times as good", "aim"], rows)


def _against(
    quantity: Quantity, mine: tuple[Contestant, float], theirs: tuple[Contestant, float], lead: float
) -> list[str]:
    (own, value), (other, best) = mine, theirs
    times = value / best if quantity.more else best / value
    aim = lead if quantity.name == DRAIN else 1.0
    said = f"✓ {number(times)}" if times >= aim else f"✗ **{number(times)}**"
    return [
        f"{own.name}: {number(value)}",
        f"{other.name}: {number(best)}",
        said,
        f"≥ {number(aim)}",
    ]


def settings(book: Book) -> str:
    """How each contestant was set up, and what it does with a job whose worker is killed."""
    result = book[PART]
    rows = [
        [
            f"{one.name} on {BROKERS.get(one.broker, one.broker)}",
            result.fact(one.subject, "acknowledges") or "",
            result.fact(one.subject, "settings") or "",
            result.fact(one.subject, "failure") or "",
        ]
        for broker in BROKERS
        for one in sorted(contestants(book, broker), key=lambda one: (not one.ours, one.name.lower()))
    ]
    if not rows:
        return missing(PART)
    if not any(row[-1] for row in rows):
        rows = [row[:-1] for row in rows]
    heads = ["", "acknowledges", "settings", "what failed"][: len(rows[0])]
    newest = {name: version for run in result.runs for name, version in run.versions.items()}
    versions = ", ".join(f"{name} {newest[name]}" for name in sorted(newest, key=str.lower))
    return f"{table(heads, rows)}\nVersions: {versions}.\n"


TABLES: Final[Mapping[str, Callable[[Book], str]]] = {
    "peers": peers,
    "peers_aims": aims,
    "peers_better": better,
    "peers_settings": settings,
}
