"""Write the tables of the documentation that the code knows best, between `<!-- table: name -->` and `<!-- end -->`.

python tools/tables.py            # `make tables`; a test fails when a table is not as this would write it
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from api import api
from commands import commands
from outwork import errors
from outwork.brokers import SCHEMES, open_broker
from outwork.brokers.base import Broker, Capabilities
from outwork.configuration.keys import READERS
from outwork.settings import Settings, flat
from proofs import ROWS, proofs
from sections import sections
from url_options import options

DOCS: Final = Path(__file__).parents[1] / "docs"
TABLE: Final = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
COLUMNS: Final = (
    *("immediate:", "dummy:", "thread:", "process:", "sqlite:///tasks.db", "redis://localhost"),
    *("postgresql://localhost/shop", "mysql://localhost/shop", "amqp://localhost"),
)
"""A URL for each broker; those that this release has are shown."""
PAIRS: Final = (("amqp://localhost", "sqlite:///tasks.db"), ("amqp://localhost", "redis://localhost"))
"""Brokers with a store beside them."""


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def brokers_shown() -> dict[str, Broker]:
    """A broker for each column, and the pairs."""
    brokers = {f"{scheme}:": open_broker(url) for url in COLUMNS if (scheme := url.partition(":")[0]) in SCHEMES}
    missing = set(SCHEMES.values()) - {SCHEMES[scheme.rstrip(":")] for scheme in brokers}
    assert not missing, f"give these a column: {missing}"
    for url, store in PAIRS:
        brokers[f"{url.partition(':')[0]}: + {store.partition(':')[0]}:"] = open_broker(url, store_url=store)
    return brokers


def capabilities() -> str:
    """One row a capability, one column a broker."""
    brokers = brokers_shown()
    rows: list[list[str]] = [["runs in", *(broker.runs_in for broker in brokers.values())]]
    for name in Capabilities.__struct_fields__:
        values = [getattr(broker.capabilities, name) for broker in brokers.values()]
        rows.append([name, *(shown(value) for value in values)])
    return table(["", *(f"`{name}`" for name in brokers)], rows)


ROOTS: Final = (errors.OutworkError, errors.Control, Exception, BaseException, object)
"""What every error is."""

GLANCE: Final = {
    "durable": "survives our processes",
    "server_crash": "survives its server",
    "push": "wakes workers",
    "results": "results, lookup, cancel",
    "transactional": "joins your transaction",
    "periodic": "schedules",
}
"""What decides between brokers, and what docs/brokers.md calls it."""


def glance() -> str:
    """One row a broker: the capabilities that decide."""
    rows: list[list[str]] = []
    for name, broker in brokers_shown().items():
        values = [shown(getattr(broker.capabilities, capability)) for capability in GLANCE]
        rows.append([f"`{name}`", broker.runs_in, *values])
    return table(["", "jobs run in", *GLANCE.values()], rows)


def url_options() -> str:
    """One row an option that a URL may have."""
    return table(["option", "of", "default", ""], options())


def shown(value: bool | int) -> str:
    return str(value) if not isinstance(value, bool) else "yes" if value else "no"


def settings() -> str:
    """One row a setting."""
    defaults = flat(Settings())
    rows: list[list[str]] = []
    for key in READERS:
        variable = f"OUTWORK_{key.replace('.', '__').upper()}"
        value = "-" if defaults[key] is None else msgspec.json.encode(defaults[key]).decode()
        rows.append([f"`{key}`", f"`{variable}`", f"`{value}`"])
    return table(["key", "environment", "default"], rows)


def codes() -> str:
    """One row an error: its code, its class, and what else catches it."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.OutworkError)]
    rows: list[list[str]] = []
    for kind in sorted(kinds, key=lambda kind: kind.code):
        if kind is not errors.Control:
            above = ", ".join(f"`{one.__name__}`" for one in kind.__mro__[1:] if one not in ROOTS)
            rows.append([f"[{kind.code}](#{kind.code.lower()})", f"`{kind.__name__}`", above])
    return table(["code", "class", "is also a"], rows)


def mission() -> str:
    """One row a promise to the products of the mission: what, and the tests that show it."""
    shown = proofs()
    return table(
        ["row", "what works", "shown by (below `tests/`)"],
        [[row, what, "<br>".join(f"`{name}`" for name in shown[row]) or "nothing yet"] for row, what in ROWS.items()],
    )


WRITERS: Final[Mapping[str, Callable[[], str]]] = {
    "capabilities": capabilities,
    "api": api,
    "codes": codes,
    "commands": commands,
    "glance": glance,
    "url_options": url_options,
    "settings": settings,
    "mission": mission,
    "sections": sections,
}


def written(text: str) -> str:
    """The page with its tables as they are now."""
    return TABLE.sub(lambda found: found[1] + WRITERS[found[2]]() + found[3], text)


if __name__ == "__main__":
    for page in DOCS.rglob("*.md"):
        page.write_text(written(page.read_text()))
