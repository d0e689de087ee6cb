"""Enqueueing by a connection of the caller's, inside the caller's transaction: rolled back, the job never existed.

An enqueue is a list of statements; here is how each kind of connection runs them. The kinds are told by the names of
their classes, so that no driver is imported that the application does not use.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final
from weakref import WeakSet

from outwork import codec
from outwork.brokers.sql.dialect import Database, Statement
from outwork.errors import BrokerRefused, NotSerializable, PayloadTooLarge, Unsupported
from outwork.job import Job

Run = Callable[[Statement], Any]
"""Runs a statement; the first value of its first row, None if there is none."""

SYNC: Final = {
    ("psycopg", "Connection"): "psycopg",
    ("sqlite3", "Connection"): "sqlite3",
    ("pymysql", "Connection"): "pymysql",
    ("sqlalchemy", "Connection"): "sqlalchemy",
    ("sqlalchemy", "Session"): "sqlalchemy",
    ("sqlalchemy", "scoped_session"): "sqlalchemy",
}
ASYNC: Final = {
    ("psycopg", "AsyncConnection"): "psycopg",
    ("sqlalchemy", "AsyncConnection"): "sqlalchemy",
    ("sqlalchemy", "AsyncSession"): "sqlalchemy",
    ("sqlalchemy", "async_scoped_session"): "sqlalchemy",
}
SPEAKS: Final = {"psycopg": "postgresql", "sqlite3": "sqlite", "pymysql": "mysql"}
"""The dialect of a driver's connections; SQLAlchemy's say theirs themselves."""
DIALECTS: Final = {"mariadb": "mysql"}

_known: WeakSet[Any] = WeakSet()
"""Connections that were seen to lead to the broker's tables, where they can be remembered."""


def kind_of(connection: object, kinds: dict[tuple[str, str], str]) -> str | None:
    """Which of these kinds it is."""
    for base in type(connection).__mro__:
        kind = kinds.get((base.__module__.partition(".")[0], base.__qualname__))
        if kind is not None:
            return kind
    return None


class Enqueueing:
    """One enqueue: what is to be run, and what the answers mean."""

    def __init__(self, database: Database, url: str, jobs: Sequence[Job]) -> None:
        self._database = database
        self._url = url
        self._jobs = [(job, self._body(job)) for job in jobs]

    def _body(self, job: Job) -> bytes:
        if job.ties is not None and job.ties.bound_at_enqueue:
            raise Unsupported(
                f"job {job.id} of {job.task} is bound to others (unique, a fair_key, or part of a chain, a group or "
                "after=...): that takes locks which the caller's transaction would hold for as long as it lasts. "
                "Enqueue it after the commit, without connection=. Nothing was enqueued"
            )
        try:
            body = codec.encode_job(job)
        except (TypeError, ValueError) as error:
            raise NotSerializable(f"job {job.id} of {job.task} cannot be written: {error}") from error
        if len(body) > self._database.largest:
            raise PayloadTooLarge(f"job {job.id} of {job.task} has {len(body)} bytes, too many for {self._url}")
        return body

    def refuse_dialect(self, dialect: str) -> None:
        if DIALECTS.get(dialect, dialect) != self._database.dialect:
            raise Unsupported(
                f"connection= is one to {dialect}, and the broker is {self._url}: no transaction reaches both. "
                "Use a connection to the broker's database, or enqueue after the commit. Nothing was enqueued"
            )

    def there(self, found: object) -> None:
        """Whether our tables are where the connection leads."""
        if found is None:
            raise BrokerRefused(
                f"the connection given leads to a database without the tables of {self._url}. Use one to the broker's "
                "own database (and schema). Nothing was enqueued"
            )

    def ours(self, identity: object) -> None:
        """Whether they are the broker's own."""
        if identity != self._database.identity():
            raise BrokerRefused(
                f"the connection given leads to other tables than those of {self._url}: another database, or a copy. "
                "Use one to the broker's own. Nothing was enqueued"
            )

    def probes(self) -> Iterator[tuple[Statement, Callable[[object], None]]]:
        """Statements that tell whether these are the broker's tables, each with the judge of its answer. The first
        fails in no database: a failing one would abort the caller's transaction."""
        self._database.identity()  # makes the tables, if they are not there yet
        exists, identity = self._database.probes()
        yield exists, self.there
        yield identity, self.ours

    def statements(self) -> list[Statement]:
        return self._database.insertion(self._jobs)


def enqueue(database: Database, url: str, connection: Any, jobs: Sequence[Job]) -> None:
    """Write jobs by the caller's connection, whole or not at all. Raises Unsupported, BrokerRefused, EnqueueError, and
    whatever the connection raises."""
    kind = kind_of(connection, SYNC)
    if kind is None:
        if kind_of(connection, ASYNC):
            raise Unsupported(f"{type(connection).__name__} is for coroutines: write  await task.aenqueue(...)")
        raise _unknown(connection)
    enqueueing = Enqueueing(database, url, jobs)
    enqueueing.refuse_dialect(SPEAKS.get(kind) or _dialect(connection))
    run = RUNNERS[kind](connection)
    if not _is_known(connection):
        for statement, judge in enqueueing.probes():
            judge(run(statement))
        _remember(connection)
    with TRANSACTIONS[kind](connection):
        for statement in enqueueing.statements():
            run(statement)


async def aenqueue(database: Database, url: str, connection: Any, jobs: Sequence[Job]) -> None:
    """The same by an asynchronous connection, on the caller's event loop."""
    kind = kind_of(connection, ASYNC)
    if kind is None:
        raise _unknown(connection)
    import asyncio  # 45 ms, for those who use it

    enqueueing = Enqueueing(database, url, jobs)
    enqueueing.refuse_dialect(SPEAKS.get(kind) or _dialect(connection))
    run: Callable[[Statement], Awaitable[Any]] = ASYNC_RUNNERS[kind](connection)
    if not _is_known(connection):
        probes = await asyncio.to_thread(lambda: list(enqueueing.probes()))
        for statement, judge in probes:
            judge(await run(statement))
        _remember(connection)
    statements = await asyncio.to_thread(enqueueing.statements)
    alone = connection.transaction() if kind == "psycopg" and connection.autocommit else nullcontext()
    async with alone:
        for statement in statements:
            await run(statement)


def is_asynchronous(connection: object) -> bool:
    return kind_of(connection, ASYNC) is not None


def _unknown(connection: object) -> Unsupported:
    kind = type(connection)
    return Unsupported(
        f"connection= takes a connection of psycopg, sqlite3 or PyMySQL, or SQLAlchemy's Connection, Session, "
        f"AsyncConnection or AsyncSession, not {kind.__module__}.{kind.__qualname__}. Nothing was enqueued"
    )


def _is_known(connection: object) -> bool:
    try:
        return connection in _known
    except TypeError:  # it cannot be hashed, or not be referred to weakly
        return False


def _remember(connection: object) -> None:
    try:
        _known.add(connection)
    except TypeError:
        return  # asked each time


# ---- how each kind runs a statement ---------------------------------------------------------------------------------


def _psycopg(connection: Any) -> Run:
    from psycopg.rows import tuple_row

    def run(statement: Statement) -> Any:
        with connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(statement.sql, statement.parameters)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    return run


def _apsycopg(connection: Any) -> Callable[[Statement], Awaitable[Any]]:
    from psycopg.rows import tuple_row

    async def run(statement: Statement) -> Any:
        async with connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(statement.sql, statement.parameters)
            row = await cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    return run


def _sqlite3(connection: Any) -> Run:
    def run(statement: Statement) -> Any:
        cursor = connection.cursor()
        cursor.row_factory = None
        row = cursor.execute(statement.sql, statement.parameters).fetchone()
        cursor.close()
        return row[0] if row else None

    return run


def _pymysql(connection: Any) -> Run:
    from pymysql.cursors import Cursor  # type: ignore[import-untyped]

    def run(statement: Statement) -> Any:
        with connection.cursor(Cursor) as cursor:
            cursor.execute(statement.sql, statement.parameters or None)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    return run


def _named(statement: Statement) -> tuple[str, dict[str, object]]:
    """A statement with named parameters, as SQLAlchemy's `text` wants them whatever the driver."""
    pieces = statement.sql.replace("%s", "?").split("?")
    assert len(pieces) == len(statement.parameters) + 1
    sql = pieces[0] + "".join(f":p{number}{piece}" for number, piece in enumerate(pieces[1:]))
    return sql, {f"p{number}": value for number, value in enumerate(statement.parameters)}


def _sqlalchemy(connection: Any) -> Run:
    from sqlalchemy import text

    def run(statement: Statement) -> Any:
        sql, parameters = _named(statement)
        result = connection.execute(text(sql), parameters)
        row = result.fetchone() if result.returns_rows else None
        return row[0] if row else None

    return run


def _asqlalchemy(connection: Any) -> Callable[[Statement], Awaitable[Any]]:
    from sqlalchemy import text

    async def run(statement: Statement) -> Any:
        sql, parameters = _named(statement)
        result = await connection.execute(text(sql), parameters)
        row = result.fetchone() if result.returns_rows else None
        return row[0] if row else None

    return run


def _dialect(connection: Any) -> str:
    """The dialect of one of SQLAlchemy's."""
    found = getattr(connection, "dialect", None)
    if found is None:
        found = connection.get_bind().dialect
    return str(found.name)


# ---- where no transaction is open, one of our own -------------------------------------------------------------------


@contextmanager
def _sqlite3_transaction(connection: Any) -> Iterator[None]:
    if connection.in_transaction or connection.isolation_level is not None:
        yield  # the first INSERT begins one
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def _pymysql_transaction(connection: Any) -> Iterator[None]:
    from pymysql.constants import SERVER_STATUS  # type: ignore[import-untyped]

    if not connection.get_autocommit() or connection.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS:
        yield
        return
    connection.begin()
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def _psycopg_transaction(connection: Any) -> AbstractContextManager[Any]:
    """With autocommit a transaction; else the caller's, which is begun if need be and left open."""
    found: AbstractContextManager[Any] = connection.transaction() if connection.autocommit else nullcontext()
    return found


RUNNERS: Final[dict[str, Callable[[Any], Run]]] = {
    "psycopg": _psycopg,
    "sqlite3": _sqlite3,
    "pymysql": _pymysql,
    "sqlalchemy": _sqlalchemy,
}
ASYNC_RUNNERS: Final[dict[str, Callable[[Any], Callable[[Statement], Awaitable[Any]]]]] = {
    "psycopg": _apsycopg,
    "sqlalchemy": _asqlalchemy,
}
TRANSACTIONS: Final[dict[str, Callable[[Any], AbstractContextManager[Any]]]] = {
    "psycopg": _psycopg_transaction,
    "sqlite3": _sqlite3_transaction,
    "pymysql": _pymysql_transaction,
    "sqlalchemy": lambda connection: nullcontext(),
}
