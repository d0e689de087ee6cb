"""What databases behind a server have in common, seen through Django's cursor."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

from outwork.brokers.sql.dialect import Statement, Transaction
from outwork.brokers.sql.server.moves import ServerTransaction
from outwork.brokers.sql.server.outbox import Answer, Said
from outwork.contrib.django.database.joined import JoinedDatabase, atomic
from outwork.errors import BrokerUnavailable
from outwork.job import Job, Moment


class DjangoSession:
    """Django's connection in the dress of our sessions."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._wrapper.cursor() as cursor:
            cursor.execute(sql, list(parameters))
            return [tuple(map(plain, row)) for row in cursor.fetchall()]

    def run(self, sql: str, parameters: Sequence[object] = ()) -> int:
        with self._wrapper.cursor() as cursor:
            cursor.execute(sql, list(parameters))
            return int(cursor.rowcount)

    def together(self, statements: Sequence[Said]) -> list[Answer]:
        """One after the other: not every driver takes several statements in one message."""
        return [self._answer(sql, parameters) for sql, parameters in statements]

    def _answer(self, sql: str, parameters: Sequence[object]) -> Answer:
        with self._wrapper.cursor() as cursor:
            cursor.execute(sql, list(parameters))
            rows = [tuple(map(plain, row)) for row in cursor.fetchall()] if cursor.description else []
            return Answer(int(cursor.rowcount), rows)

    def many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        with self._wrapper.cursor() as cursor:
            cursor.executemany(sql, [list(row) for row in rows])


def plain(value: Any) -> Any:
    """A value as our own sessions give it."""
    return bytes(value) if isinstance(value, memoryview | bytearray) else value


class JoinedServer(JoinedDatabase):
    """Our tables on a server, through Django's connection."""

    again: ClassVar[frozenset[object]]
    """The codes of errors after which a transaction is begun again."""
    missing: ClassVar[frozenset[object]]
    """The codes for a table that is not there."""
    clock: ClassVar[str]

    @property
    def session(self) -> DjangoSession:
        return DjangoSession(self.connection)

    def moment(self) -> Moment:
        """The server's clock, as for the worker."""
        [(wall,)] = self.session.rows(self.clock)
        return Moment(float(wall), float(wall))

    def accept(self, jobs: Sequence[tuple[Job, bytes]]) -> None:
        """Without a savepoint (two round trips): what fails here is missing tables or a lost server, and after either
        the caller's transaction has to be rolled back anyway."""

        def insert() -> None:
            session = self.session
            with self.explaining(), atomic(self.alias, savepoint=False):
                for statement in self.insertion(jobs):
                    session.run(statement.sql, statement.parameters)
                self.ring_for(jobs)

        self.patiently(insert)

    @abstractmethod
    def insertion(self, jobs: Sequence[tuple[Job, bytes]]) -> list[Statement]: ...

    def ring_for(self, jobs: Sequence[tuple[Job, bytes]]) -> None:
        """Wake a worker once the jobs are there, unless the statements do."""

    @abstractmethod
    def announce(self, tx: ServerTransaction) -> None:
        """Tell of what was moved, with the commit."""

    def finished(self, tx: Transaction) -> None:
        if isinstance(tx, ServerTransaction) and (tx.ready or tx.scheduled or tx.ends):
            self.announce(tx)

    @abstractmethod
    def code(self, error: BaseException | None) -> object:
        """The driver's code of an error."""

    def is_busy(self, error: Exception) -> bool:
        if isinstance(error, BrokerUnavailable):
            error = error.__cause__ if isinstance(error.__cause__, Exception) else error
        return self.code(error.__cause__ or error) in self.again

    def lacks_table(self, error: Exception) -> bool:
        return self.code(error.__cause__ or error) in self.missing and "outwork_" in str(error)


def queues_told(tx: ServerTransaction) -> Collection[str]:
    """`+queue` for jobs that are ready, `~queue` for those that are scheduled: the words of the listeners."""
    return [f"+{queue}" for queue in sorted(tx.ready)] + [f"~{queue}" for queue in sorted(tx.scheduled)]
