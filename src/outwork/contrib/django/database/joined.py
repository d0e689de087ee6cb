"""A database through Django's connection of the calling thread, in the terms of `outwork.brokers.sql.dialect`.

Whatever happens here happens inside `transaction.atomic`: in the caller's transaction if there is one, else in one of
its own. Django's errors are said in our words, outside of a transaction only: inside one they are the caller's
business.
"""

from __future__ import annotations

import random
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Final, NoReturn, TypeVar

from django.db import DatabaseError, IntegrityError, InterfaceError, OperationalError, connections, transaction

from outwork.brokers.sql.broker import SQLBroker
from outwork.brokers.sql.connections import Role
from outwork.brokers.sql.dialect import Bell, Database, Transaction
from outwork.brokers.sql.migrate import Standing, Step, standing, steps, todo
from outwork.brokers.sql.names import PREFIX
from outwork.brokers.sql.server.moves import Overtaken
from outwork.errors import BrokerUnavailable, SchemaError, SettingsError
from outwork.job import Moment, Terms

T = TypeVar("T")

PATIENCE: Final = 5.0
LONGEST_PAUSE: Final = 0.05


def atomic(alias: str, *, savepoint: bool = True) -> AbstractContextManager[None]:
    """The caller's transaction (a savepoint in it), or one of our own."""
    block: Any = transaction.atomic(using=alias, savepoint=savepoint)
    return block


class JoinedDatabase(Database):
    """The tables of ours in a database of Django's."""

    dialect: ClassVar[str]

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self._identity: str | None = None

    @property
    def connection(self) -> Any:
        """Django's wrapper, for this thread."""
        return connections[self.alias]

    @abstractmethod
    def _transaction(self) -> Transaction:
        """For statements on Django's connection, which is open."""

    def moment(self) -> Moment:
        """The clock of this database. SQLite has none of its own."""
        return Moment(time.time(), time.monotonic())

    # ---- transactions -----------------------------------------------------------------------------------------------

    def write(self, role: Role, work: Callable[[Transaction], T]) -> T:
        def transact() -> T:
            with self.explaining(), atomic(self.alias), self.connection.wrap_database_errors:
                tx = self._transaction()
                answer = work(tx)
                self.finished(tx)
                return answer

        return self.patiently(transact)

    def finished(self, tx: Transaction) -> None:
        """Tell those who wait, with the commit."""

    def read(self, role: Role, work: Callable[[Transaction], T]) -> T:
        def look() -> T:
            with self.explaining():
                self.connection.ensure_connection()
                with self.connection.wrap_database_errors:
                    return work(self._transaction())

        return self.patiently(look)

    def patiently(self, run: Callable[[], T]) -> T:
        """Again, where the database was only busy: outside of a transaction of the caller's, and inside where a
        savepoint was rolled back, because another one made the row that was to be made."""
        deadline = time.monotonic() + PATIENCE
        pause = 0.001
        while True:
            try:
                return run()
            except Overtaken:
                if time.monotonic() > deadline:
                    raise BrokerUnavailable(f"{self.alias}: other transactions were always faster") from None
            except (IntegrityError, OperationalError, BrokerUnavailable) as error:
                undone = isinstance(error, IntegrityError) and not self.connection.needs_rollback
                if (
                    (self.connection.in_atomic_block and not undone)
                    or not self.is_busy(error)
                    or time.monotonic() > deadline
                ):
                    raise
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def is_busy(self, error: Exception) -> bool:
        """Whether it is worth trying again."""
        return False

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Django's error in our words, where it can be said what to do."""
        try:
            yield
        except DatabaseError as error:
            if self.lacks_table(error):
                raise SchemaError(
                    f"the tables of Outwork are not in the database {self.alias!r} ({_line(error)}). Create them:  "
                    "manage.py migrate"
                ) from error
            if isinstance(error, OperationalError) and not self.connection.in_atomic_block:
                raise BrokerUnavailable(f"the database {self.alias!r}: {_line(error)}") from error
            raise
        except InterfaceError as error:
            raise BrokerUnavailable(f"the database {self.alias!r}: {_line(error)}") from error

    @abstractmethod
    def lacks_table(self, error: Exception) -> bool: ...

    # ---- what only connections of our own can do --------------------------------------------------------------------

    def bell(self, role: Role) -> Bell:
        raise BrokerUnavailable(
            f"nobody can wait for jobs on Django's own connection to {self.alias!r} (is it a database in memory?)"
        )

    def reserve(self, size: int) -> None:
        """The database is the application's: it looks after its disk."""

    def relieve(self) -> None:
        """As above."""

    def close(self) -> None:
        """The connections are Django's."""

    # ---- the schema -------------------------------------------------------------------------------------------------

    def steps(self) -> list[Step]:
        return steps(self.dialect, PREFIX)

    def meta(self) -> dict[str, str]:
        """The rows of our meta table; empty if it does not exist."""
        with self.explaining(), self.connection.cursor() as cursor:
            if f"{PREFIX}meta" not in self.connection.introspection.table_names(cursor):
                return {}
            cursor.execute(f"SELECT name, value FROM {PREFIX}meta")
            return dict(cursor.fetchall())

    def standing(self) -> Standing:
        return standing(self.meta())

    def apply(self, to: int | None) -> list[Step]:
        with atomic(self.alias):
            missing = todo(self.steps(), self.standing(), f"the database {self.alias!r}", to)
            with self.connection.cursor() as cursor:
                for step in missing:
                    for statement in step.statements:
                        cursor.execute(statement)
        return missing

    def identity(self) -> str:
        if self._identity is None:
            found = self.meta()
            if not found:
                raise SchemaError(
                    f"the tables of Outwork are not in the database {self.alias!r}. Create them:  manage.py migrate"
                )
            self._identity = found["id"]
        return self._identity


class JoinedBroker(SQLBroker):
    """A broker on Django's connection: it accepts jobs, looks them up and steers them. Nobody waits on it."""

    def __init__(self, database: JoinedDatabase, terms: Terms) -> None:
        super().__init__(database, f"django:{database.alias}", terms)
        self.database = database

    @classmethod
    def from_url(cls, url: str, terms: Terms | None = None) -> NoReturn:
        raise SettingsError(f"{url}: Django's own connection has no URL. Use DatabaseBackend, or django:ALIAS")

    def now(self) -> float:
        return self.database.moment().wall

    def hasten(self, ids: Sequence[str]) -> int:
        """Let scheduled jobs wait no longer. How many there were."""
        from msgspec.structs import replace

        from outwork.job import Record, State

        hurried: list[str] = []

        def move(record: Record, now: Moment) -> Record:
            if record.state is not State.SCHEDULED:
                return record
            hurried.append(record.id)
            return replace(record, state=State.READY, due=now.wall)

        self._steer(ids, move)
        return len(hurried)


def _line(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
