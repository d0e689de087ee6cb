"""MySQL and MariaDB as the broker sees them: an enqueue is one message; a sleeping worker is woken by KILL QUERY."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final

import pymysql  # type: ignore[import-untyped]

from outwork.brokers.sql.books import by_place
from outwork.brokers.sql.connections import Role
from outwork.brokers.sql.dialect import Bell, Statement
from outwork.brokers.sql.migrate import Step, standing, todo
from outwork.brokers.sql.mysql import session as session_module
from outwork.brokers.sql.mysql.bell import MySQLBell
from outwork.brokers.sql.mysql.session import MySQLTransaction, Session, moment
from outwork.brokers.sql.mysql.statements import SQL, insertion, keyed_insertion, lock_of
from outwork.brokers.sql.server.database import Fault, PollingBell, ServerDatabase
from outwork.brokers.sql.server.moves import ServerTransaction
from outwork.brokers.sql.server.outbox import Said
from outwork.brokers.sql.server.statements import statements
from outwork.errors import OutworkError, SchemaError
from outwork.ids import new_claim_id
from outwork.job import Job

logger = logging.getLogger("outwork")

AT_ONCE: Final = 1000
AT_ONCE_BYTES: Final = 2 * 1024 * 1024
"""Bytes of jobs in one message: written as text they take twice as many, and 16 MB is the least a server takes."""
PATIENCE: Final = 30.0
RESULT_POLL: Final = (0.005, 0.25)


class MySQLServer(ServerDatabase[Session]):
    """Our tables in one database of a server."""

    dialect: ClassVar[str] = "mysql"
    errors: ClassVar[type[Exception]] = pymysql.MySQLError

    def __init__(
        self,
        url: str,
        address: Mapping[str, Any],
        *,
        prefix: str,
        migrate: bool,
        listen: bool,
        offset: Callable[[], float],
    ) -> None:
        super().__init__(url, prefix, migrate, offset)
        self._address = address
        self._listen = listen
        self._sql = statements(SQL, prefix)
        self._warned = False

    # ---- sessions ---------------------------------------------------------------------------------------------------

    def _connect(self, role: Role) -> Session:
        session = session_module.connect(self._address, PATIENCE)
        [(lax, packet)] = session.rows("SELECT @@innodb_flush_log_at_trx_commit, @@max_allowed_packet")
        self.largest = min(type(self).largest, int(packet) // 2 - 65_536)
        if lax != 1 and not self._warned:
            self._warned = True
            logger.warning(
                "%s: innodb_flush_log_at_trx_commit is %s, so the server may lose jobs that it has accepted when its "
                "machine stops. Set it to 1",
                self.url,
                lax,
            )
        return session

    def _disconnect(self, session: Session) -> None:
        session.close()

    def _usable(self, session: Session) -> bool:
        return session.usable

    def _begin(self, session: Session) -> ServerTransaction:
        session.broken = True  # until it ends: whoever is interrupted in it leaves it to be closed
        return MySQLTransaction(session, self._sql, moment(session, self.offset(), "START TRANSACTION"))

    def _commit(self, session: Session, rest: Sequence[Said]) -> None:
        session.together([*rest, ("COMMIT", ())])
        session.broken = False

    def _rollback(self, session: Session) -> None:
        try:
            session.run("ROLLBACK")
            session.broken = False
        except pymysql.MySQLError:
            session.close()  # it is of no use, and the server rolls back what is left alone

    def _reading(self, session: Session) -> ServerTransaction:
        return MySQLTransaction(session, self._sql, moment(session, self.offset()))

    def _fault(self, error: Exception) -> Fault:
        return session_module.fault(error)

    def explained(self, error: Exception) -> OutworkError:
        return session_module.explained(error, self.url)

    # ---- enqueue ----------------------------------------------------------------------------------------------------

    def accept(self, jobs: Sequence[tuple[Job, bytes]]) -> None:
        for some in portions(jobs):
            # A token for each try: what an earlier one has written has its place, too.
            self.patiently(Role.ACCEPT, lambda session, some=some: self._accept(session, some))  # type: ignore[misc]

    def _accept(self, session: Session, jobs: Sequence[tuple[Job, bytes]]) -> None:
        self._put(session, insertion(self._sql, self.prefix, jobs, new_claim_id(), self.offset(), self.pace))

    def accept_keyed(self, jobs: Sequence[tuple[Job, bytes]]) -> bool:
        if self.pace is not None or len(portions(jobs)) != 1:
            return False

        def put(session: Session) -> bool:
            try:
                self._put(session, keyed_insertion(self._sql, self.prefix, jobs, new_claim_id(), self.offset()))
            except pymysql.MySQLError as error:
                if self._fault(error) is Fault.AGAIN:  # a key is held, or a job known, or is about to be
                    return False
                raise
            return True

        return self.patiently(Role.ACCEPT, put)

    def _put(self, session: Session, texts: Sequence[Statement]) -> None:
        session.broken = True
        try:
            found = session.together(
                [("START TRANSACTION", ()), *texts, ("COMMIT", ()), ("SELECT IS_USED_LOCK(%s)", [self._lock()])]
            )
            session.broken = False
        except pymysql.MySQLError:
            self._rollback(session)
            raise
        [(sleeper,)] = found[-1].rows
        self.told(lambda: self._wake(session, sleeper))

    def insertion(self, jobs: Sequence[tuple[Job, bytes]]) -> list[Statement]:
        return [
            statement
            for gated, run in by_place(jobs, AT_ONCE)
            for some in portions(run)
            for statement in insertion(
                self._sql, self.prefix, some, new_claim_id(), self.offset(), self.pace, tied=gated
            )
        ]

    def probes(self) -> tuple[Statement, Statement]:
        meta = f"{self.prefix}meta"
        there = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = %s"
        return Statement(there, [meta]), Statement(f"SELECT value FROM {meta} WHERE name = 'id'", [])

    # ---- bells ------------------------------------------------------------------------------------------------------

    def _lock(self) -> str:
        return lock_of(self.identity())

    def _announce(self, session: Session, tx: ServerTransaction) -> None:
        if tx.ready or tx.scheduled:
            self._wake(session, session.rows("SELECT IS_USED_LOCK(%s)", [self._lock()])[0][0])

    def _wake(self, session: Session, sleeper: int | None) -> None:
        if sleeper is not None:
            with suppress(pymysql.err.OperationalError):  # it is gone, or another user's: then it looks by itself
                session.run(f"KILL QUERY {int(sleeper)}")

    def bell(self, role: Role) -> Bell:
        if role is Role.LISTEN and self._listen:
            return MySQLBell(self, self._lock, self._sql["doze"])
        return PollingBell() if role is Role.LISTEN else PollingBell(*RESULT_POLL)

    # ---- the schema -------------------------------------------------------------------------------------------------

    def _meta(self, session: Session) -> dict[str, str]:
        try:
            return dict(session.rows(f"SELECT name, value FROM {self.prefix}meta"))
        except pymysql.err.ProgrammingError as error:
            if session_module.code_of(error) != 1146:
                raise
            return {}

    def _migrate(self, session: Session, to: int | None) -> list[Step]:
        """Under a lock of the server's: MySQL's DDL commits by itself."""
        name = f"outwork migrate {self.prefix}"[:64]
        [(locked,)] = session.rows("SELECT GET_LOCK(%s, 25)", [name])
        if not locked:
            raise SchemaError(f"{self.url}: somebody else has been migrating for 25 s. Look, and try again")
        try:
            missing = todo(self.steps(), standing(self._meta(session)), self.url, to)
            for step in missing:
                for statement in step.statements:
                    session.run(statement)
        finally:
            session.rows("SELECT RELEASE_LOCK(%s)", [name])
        return missing


def portions(jobs: Sequence[tuple[Job, bytes]]) -> list[list[tuple[Job, bytes]]]:
    """The jobs in pieces that one message may carry."""
    found: list[list[tuple[Job, bytes]]] = []
    size = AT_ONCE_BYTES
    for job, body in jobs:
        size += len(body)
        if size > AT_ONCE_BYTES or len(found[-1]) >= AT_ONCE:
            found.append([])
            size = len(body)
        found[-1].append((job, body))
    return found
