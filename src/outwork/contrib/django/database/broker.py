"""The broker behind DatabaseBackend: two of ours over the same tables.

`joined` works on Django's connection of the calling thread: what it does is part of the caller's transaction, and a
test's rollback takes it back. `own` has connections of its own, made of the alias' settings: the worker's exchange,
leases and wake-ups must not depend on what a task does to Django's. An enqueue goes through the first, all the rest
through the second, except where there cannot be one (a database in memory).
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from functools import cached_property
from importlib import import_module
from typing import Any, Final, Protocol, Self

from django.apps import apps
from django.db import connections, router

from outwork.brokers.base import (
    Accepted,
    Broker,
    Capabilities,
    Claim,
    Count,
    Exchanged,
    Extended,
    Filter,
    Orders,
    Page,
    Presence,
    Report,
    Settlement,
    Share,
    Store,
    Tended,
)
from outwork.brokers.sql.broker import SQLBroker
from outwork.brokers.url import BrokerURL
from outwork.contrib.django.database.joined import JoinedBroker
from outwork.errors import BrokerRefused, SettingsError
from outwork.job import Job, State, Terms

VENDORS: Final[dict[str, str]] = {
    "sqlite": "outwork.contrib.django.database.sqlite",
    "postgresql": "outwork.contrib.django.database.postgresql",
    "mysql": "outwork.contrib.django.database.mysql",
}
"""What Django calls a database, and the module that knows how to share it."""


class Dialect(Protocol):
    """What such a module has."""

    def join(self, alias: str, terms: Terms) -> JoinedBroker: ...
    def open_own(self, alias: str, terms: Terms) -> SQLBroker | None: ...


def database_of(named: str | None) -> str:
    """The alias of the database with the jobs: the one that is named, or the one that Django's routers choose.

    Raises BrokerRefused where the application with the tables is not installed.
    """
    if not apps.is_installed("outwork.contrib.django"):
        raise BrokerRefused(
            "DatabaseBackend needs its tables. Add 'outwork.contrib.django' to INSTALLED_APPS and run:  manage.py "
            "migrate"
        )
    if named:
        return named
    from outwork.contrib.django.models import Job as JobModel

    return str(router.db_for_write(JobModel))


def dialect_of(alias: str) -> Dialect:
    """Raises SettingsError for an unknown alias, BrokerRefused for a database that has no broker."""
    if alias not in connections:
        raise SettingsError(
            f"OPTIONS['database'] names {alias!r}, which is not in DATABASES. It has: {', '.join(connections)}"
        )
    vendor = connections[alias].vendor
    if vendor not in VENDORS:
        raise BrokerRefused(
            f"there is no broker for {connections[alias].display_name} (the database {alias!r}). Use one of "
            f"{', '.join(VENDORS)}, or OutworkBackend with a broker_url"
        )
    module: Any = import_module(VENDORS[vendor])
    return module


class DatabaseBroker(Broker, Store):
    """`django:ALIAS`; without an alias the database that Django's routers choose. Options: `lease`, `keep` and
    `keep_failed` (seconds)."""

    capabilities = Capabilities(transactional=True)

    def __init__(self, alias: str = "", terms: Terms | None = None) -> None:
        self.terms = terms or Terms()
        self._named = alias
        self._lock = threading.Lock()
        self._joined: JoinedBroker | None = None
        self._own: SQLBroker | None = None

    @classmethod
    def from_url(cls, url: str, terms: Terms | None = None) -> Self:
        parts = BrokerURL(url)
        chosen = parts.terms(terms or Terms())
        parts.done()
        return cls(parts.path, chosen)

    @cached_property
    def alias(self) -> str:
        return database_of(self._named)

    @property
    def url(self) -> str:  # type: ignore[override]  # pyright: ignore
        """For people: the alias, and where it leads."""
        wrapper: Any = connections[self.alias]
        place = wrapper.settings_dict
        host = f"{place['HOST']}/" if place.get("HOST") else ""
        return f"django:{self.alias} ({wrapper.display_name} {host}{place['NAME']})"

    @property
    def joined(self) -> JoinedBroker:
        """The jobs through Django's connection of the thread that asks."""
        if self._joined is None:
            self._joined = dialect_of(self.alias).join(self.alias, self.terms)
        return self._joined

    @property
    def own(self) -> SQLBroker:
        """The jobs through connections of ours."""
        if self._own is None:
            with self._lock:
                self._own = self._own or dialect_of(self.alias).open_own(self.alias, self.terms) or self.joined
        return self._own

    # ---- the contract -----------------------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[Job]) -> list[Accepted]:
        return self.joined.enqueue(jobs)

    def exchange(
        self,
        claim_id: str,
        outcomes: Sequence[Settlement],
        queues: Sequence[Share],
        limit: int,
        free: int,
        worker: str,
    ) -> Exchanged:
        return self.own.exchange(claim_id, outcomes, queues, limit, free, worker)

    def extend(self, claims: Sequence[Claim]) -> Extended:
        return self.own.extend(claims)

    def orders(self, worker: str) -> Orders:
        return self.own.orders(worker)

    def tend(self, presence: Presence | None, *, rescue: bool, dead: Collection[str] = ()) -> Tended:
        return self.own.tend(presence, rescue=rescue, dead=dead)

    def leave(self, worker: str) -> None:
        self.own.leave(worker)

    def workers(self) -> list[Presence]:
        return self.own.workers()

    def wait(self, queues: Sequence[str], timeout: float) -> bool:
        return self.own.wait(queues, timeout)

    def interrupt(self) -> None:
        self.own.interrupt()

    def queues(self) -> list[str]:
        return self.own.queues()

    def now(self) -> float:
        return self.own.now()

    def close(self) -> None:
        with self._lock:
            own, self._own = self._own, None
        if own is not None and own is not self._joined:
            own.close()

    # ---- the store --------------------------------------------------------------------------------------------------

    def get(self, ids: Sequence[str]) -> list[Any]:
        return self.own.get(ids)

    def find(self, which: Filter, limit: int = 50, cursor: str | None = None) -> Page:
        return self.own.find(which, limit, cursor)

    def counts(self) -> list[Count]:
        return self.own.counts()

    def cancel(self, ids: Sequence[str]) -> list[State | None]:
        return self.own.cancel(ids)

    def retry(self, ids: Sequence[str]) -> list[State | None]:
        return self.own.retry(ids)

    def delete(self, ids: Sequence[str]) -> list[State | None]:
        return self.own.delete(ids)

    def prune(
        self, which: Filter, *, older_than: float, failed_older_than: float, limit: int = 1000, dry_run: bool = False
    ) -> int:
        return self.own.prune(
            which, older_than=older_than, failed_older_than=failed_older_than, limit=limit, dry_run=dry_run
        )

    def pause(self, what: str) -> None:
        self.own.pause(what)

    def resume(self, what: str) -> None:
        self.own.resume(what)

    def report(self, reports: Sequence[Report]) -> None:
        self.own.report(reports)

    def progress(self, ids: Sequence[str]) -> list[bytes | None]:
        return self.own.progress(ids)

    def tick(self, schedule: str, last: float | None, slot: float, jobs: Sequence[Job]) -> bool:
        return self.own.tick(schedule, last, slot, jobs)

    def schedules(self) -> dict[str, float]:
        return self.own.schedules()

    def wait_result(self, ids: Collection[str], timeout: float) -> set[str]:
        return self.own.wait_result(ids, timeout)

    def interrupt_wait_result(self) -> None:
        self.own.interrupt_wait_result()

    # ---- tables (what `outwork migrate` asks for) -------------------------------------------------------------------

    def pending(self) -> list[str]:
        return self.joined.pending()

    def migrate(self) -> list[str]:
        return self.joined.migrate()

    def sql(self) -> str:
        return self.joined.sql()
