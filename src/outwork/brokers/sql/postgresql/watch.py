"""A look at what harms a queue on PostgreSQL from outside: a transaction that keeps an old snapshot. Until it ends no
dead row can be vacuumed away, by anybody, so each claim walks over more of them."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Final

from outwork.brokers.sql.postgresql.session import Session

logger = logging.getLogger("outwork.postgresql")

OLD: Final = 600.0
"""Seconds after which a snapshot is called old."""
EVERY: Final = 300.0
"""Seconds between looks."""

SNAPSHOTS: Final = """\
SELECT what, age FROM (
    SELECT 'the transaction of process ' || pid || coalesce(' (' || nullif(application_name, '') || ')', '') AS what,
           extract(epoch FROM clock_timestamp() - xact_start)::double precision AS age
    FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND backend_type = 'client backend' AND pid <> pg_backend_pid()
    UNION ALL
    SELECT 'the prepared transaction ' || gid,
           extract(epoch FROM clock_timestamp() - prepared)::double precision FROM pg_prepared_xacts
) AS snapshot WHERE age >= %s ORDER BY age DESC LIMIT 1"""


class Lookout:
    """Looks now and then, and warns once of each thing it sees."""

    def __init__(self, url: str, *, old: float = OLD, every: float = EVERY) -> None:
        self._url = url
        self._old = old
        self._every = every
        self._next = monotonic() + every
        self._said = ""

    @property
    def due(self) -> bool:
        """Whether it is time for a look."""
        return monotonic() >= self._next

    def look(self, session: Session) -> None:
        """Look, and warn."""
        self._next = monotonic() + self._every
        found = session.rows(SNAPSHOTS, [self._old])
        what, age = found[0] if found else ("", 0.0)
        if what and what != self._said:
            logger.warning(
                "%s: %s has kept its snapshot for %.0f minutes: until it ends nothing can be vacuumed, and the queue "
                "gets slower. See pg_stat_activity or pg_prepared_xacts; pg_terminate_backend ends a session",
                self._url,
                what,
                age / 60,
            )
        self._said = what
