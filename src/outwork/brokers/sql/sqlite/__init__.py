"""The SQLite broker: a durable queue in one file, for all processes of one machine."""

from __future__ import annotations

import os
import time
from typing import Final, Self

from outwork.brokers.base import Capabilities
from outwork.brokers.sql.names import PREFIX, identifier
from outwork.brokers.sql.outbox import SQLStore
from outwork.brokers.sql.sqlite.file import SQLiteFile, missing_directory
from outwork.brokers.url import BrokerURL, boolean, seconds
from outwork.errors import InvalidURL
from outwork.job import Moment, Terms

BUSY_TIMEOUT: Final = 10.0


class SQLiteBroker(SQLStore):
    """`sqlite:///relative.db`, `sqlite:////absolute.db`; a relative path is resolved when the object is made.

    Options: `lease`, `keep`, `keep_failed`, `busy_timeout` (seconds), `table_prefix`, `embedded` (true: a worker in the
    enqueueing process runs the jobs).
    """

    capabilities = Capabilities(transactional=True)

    def __init__(
        self,
        path: str | os.PathLike[str],
        terms: Terms | None = None,
        *,
        busy_timeout: float = BUSY_TIMEOUT,
        table_prefix: str = PREFIX,
        embedded: bool = False,
        url: str | None = None,
        guest: bool = False,
    ) -> None:
        self.path = os.path.abspath(path)
        self.runs_in = "embedded" if embedded else "elsewhere"
        database = SQLiteFile(self.path, table_prefix, busy_timeout, self._moment, guest=guest)
        super().__init__(database, url or f"sqlite:///{self.path}", terms or Terms())

    @classmethod
    def from_url(cls, url: str, terms: Terms | None = None) -> Self:
        parts = BrokerURL(url)
        if parts.username is not None or parts.password is not None:
            raise InvalidURL(f"{parts.shown}: a file has no user and no password. Write sqlite:///tasks.db")
        spelled = file_path(parts)
        chosen = parts.terms(terms or Terms())
        busy_timeout = parts.option("busy_timeout", seconds, BUSY_TIMEOUT)
        prefix = parts.option("table_prefix", identifier, PREFIX)
        embedded = parts.option("embedded", boolean, False)
        parts.done()
        path = os.path.abspath(spelled)
        if not os.path.isabs(spelled) and not os.path.isdir(os.path.dirname(path)):
            raise InvalidURL(f"{parts.shown}: {missing_directory(path, spelled)}")
        return cls(path, chosen, busy_timeout=busy_timeout, table_prefix=prefix, embedded=embedded)

    def now(self) -> float:
        return self._moment().wall

    def _moment(self) -> Moment:
        """SQLite has no clock of its own: due times by the host's wall clock, leases by its monotonic one, which no
        clock step moves and all processes of the host share."""
        return Moment(time.time() + self.clock_offset, time.monotonic() + self.clock_offset)


def file_path(parts: BrokerURL) -> str:
    """The path in the URL: three slashes and two are relative, four are absolute."""
    spelled = parts.authority + parts.path if parts.authority else parts.path.removeprefix("/")
    if not spelled or spelled.endswith("/"):
        raise InvalidURL(
            f"{parts.shown} names no file. Write sqlite:///tasks.db (relative) or sqlite:////var/lib/app/tasks.db"
        )
    if spelled == ":memory:":
        raise InvalidURL(f"{parts.shown}: a worker could not see it. Use thread: for jobs in this process' memory")
    return spelled
