"""A MySQL or MariaDB connection in our dress: its settings, its clock, its sleep, and what its errors mean."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import pymysql  # type: ignore[import-untyped]
from pymysql.constants import CLIENT, COMMAND  # type: ignore[import-untyped]

from outwork.brokers.base import Claimed, Presence
from outwork.brokers.sql.mysql.statements import NOW, among
from outwork.brokers.sql.rows import claimed_of, packed
from outwork.brokers.sql.server.bound import AT_ONCE
from outwork.brokers.sql.server.database import Fault, shortened
from outwork.brokers.sql.server.moves import RESULTS_LIMIT, ServerTransaction
from outwork.brokers.sql.server.outbox import Answer, Said
from outwork.errors import BrokerFull, BrokerRefused, BrokerUnavailable, MissingDriver, OutworkError, SchemaError
from outwork.job import Moment

OLDEST: Final = {"MySQL": (8, 0), "MariaDB": (10, 6)}
"""The first ones with SKIP LOCKED."""
SETTINGS: Final = (
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION innodb_lock_wait_timeout = 5, SESSION sql_mode = 'TRADITIONAL'",
)
IDLE: Final = "SET SESSION idle_transaction_timeout = 10"
"""Whoever is frozen inside a transaction does not keep its rows from the others for longer."""

STATEMENTS: Final = 200
MESSAGE: Final = 1024 * 1024
"""How many statements go into one message, and bytes of their values: written as text they take twice as many."""

PLAIN: Final = re.compile(r"[A-Za-z0-9_-]+")

AGAIN: Final = frozenset({1205, 1213, 1020, 1317, 1062})
"""1062, a row that is there already: somebody else has made it meanwhile."""
LOST: Final = frozenset(
    {0, 1040, 1053, 1077, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1203, 1226, 1290, 1792, 1836, 1927, 4031}
)
REFUSED: Final = frozenset({1044, 1045, 1049, 1130, 1142, 1143, 1227, 1251, 1370, 1698, 2059, 2061})
FULL: Final = frozenset({1021, 1041, 1114, 1037, 3675})
MISSING: Final = frozenset({1054, 1146})


class Session:
    """One connection. `doorman` while it holds the lock by which it is found and woken."""

    def __init__(self, connection: pymysql.Connection[Any]) -> None:
        self.connection = connection
        self._driver: Any = connection  # for what it has no public word for: to send now and read later
        self.doorman = False
        self.broken = False
        self.largest = 0
        self._unread = False

    @property
    def usable(self) -> bool:
        if self._unread and self.connection.open:
            self._unread = False
            try:
                self.finish()
            except pymysql.MySQLError:
                return False
        return self.connection.open and not self.broken

    def close(self) -> None:
        if self.connection.open:
            try:
                self.connection.close()
            except pymysql.MySQLError:
                self._driver._force_close()  # the line is dead: nobody is there to say good-bye to

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return list(cursor.fetchall())

    def run(self, sql: str, parameters: Sequence[object] = ()) -> int:
        with self.connection.cursor() as cursor:
            return int(cursor.execute(sql, parameters or None))

    def many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        with self.connection.cursor() as cursor:
            cursor.executemany(sql, rows)

    def together(self, statements: Sequence[Said]) -> list[Answer]:
        """Several statements in one message, which stops at the first that fails; the answer of each."""
        with self.connection.cursor() as cursor:
            texts = [cursor.mogrify(sql, parameters or None) for sql, parameters in statements]
            cursor.execute("; ".join(texts))
            found = [Answer(cursor.rowcount, cursor.fetchall())]
            while cursor.nextset():
                found.append(Answer(cursor.rowcount, cursor.fetchall()))
            return found

    # ---- sleeping ---------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        return int(self._driver._sock.fileno())

    def begin(self, sql: str, parameters: Sequence[object]) -> None:
        """Send a statement without waiting for its answer."""
        with self.connection.cursor() as cursor:
            text = cursor.mogrify(sql, parameters or None)
        self.broken = True  # until the answer is read, nothing else may be said
        self._driver._execute_command(COMMAND.COM_QUERY, text)

    def finish(self) -> Sequence[tuple[Any, ...]] | None:
        """Read the answer of a statement that was sent: its rows, or None if it was interrupted."""
        try:
            self._driver._read_query_result()
        except pymysql.MySQLError as error:
            if error.args[0] != 1317:
                raise
            self.broken = False
            return None
        self.broken = False
        return self._driver._result.rows or ()

    def mention(self, sql: str, parameters: Sequence[object]) -> None:
        """Send a statement whose answer is read when the connection is used again."""
        self.begin(sql, parameters)
        self._unread = True


class MySQLTransaction(ServerTransaction):
    """On a session that is inside a transaction, or for single statements."""

    def __init__(self, session: Session, sql: Mapping[str, str], now: Moment) -> None:
        super().__init__(sql, now)
        self._session = session

    def _rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        if self._waiting:
            return [*self._together([(sql, parameters)])[0].rows]
        return self._session.rows(sql, parameters)

    def _run(self, sql: str, parameters: Sequence[object] = ()) -> int:
        if self._waiting:
            return self._together([(sql, parameters)])[0].changed
        return self._session.run(sql, parameters)

    def _together(self, statements: Sequence[Said]) -> list[Answer]:
        waiting = self.waiting()
        return self._session.together([*waiting, *statements])[len(waiting) :]

    def _soon(self, name: str, rows: Sequence[Sequence[object]]) -> None:
        super()._soon(name, [(*row, "") for row in rows] if name == "insert" else rows)  # the token is one more

    def _many(self, name: str, rows: Sequence[Sequence[object]]) -> None:
        sql = self._sql[name]
        if not sql.lstrip().startswith("INSERT"):  # those the driver makes one statement, the others as many messages
            for some in _in_messages(rows):
                self._together([(sql, row) for row in some])
            return
        if self._waiting:
            self._session.together(self.waiting())
        self._session.many(sql, rows)

    def _among(self, values: Collection[str]) -> tuple[str, list[object]]:
        if PLAIN.fullmatch("".join(values)):  # as our ids are: the driver takes a microsecond to quote each
            return "IN ('" + "', '".join(values) + "')", []
        return among(list(values)), [*values]

    def _about(self, name: str, among: str) -> str:
        return super()._about(name, among).replace("{these}", among.removeprefix("IN "))

    def succeed(self, claim_id: str, results: Mapping[str, bytes], prune_at: float) -> int:
        if len(results) > AT_ONCE or sum(map(len, results.values())) > RESULTS_LIMIT:
            raise ValueError("too large for one statement")
        given = _texts(results)
        if given is None:
            return super().succeed(claim_id, results, prune_at)
        among, ids = self._among(results)
        done, _ = self._together(
            [
                (self._sql["succeed"], [self.now.wall, prune_at, given, claim_id]),
                (self._about("stop", among), ids),
            ]
        )
        self.ends = True
        return done.changed

    def succeed_bound(self, claim_id: str, results: Mapping[str, bytes], prune_at: float) -> None:
        given = None
        if len(results) <= AT_ONCE and sum(map(len, results.values())) <= RESULTS_LIMIT:
            given = _texts(results)
        if given is None:
            super().succeed_bound(claim_id, results, prune_at)
            return
        among, ids = self._among(results)
        done, _ = self._together(
            [
                (self._sql["succeed_bound"], [self.now.wall, prune_at, given, claim_id]),
                (self._about("unbind_of", among), [claim_id, *ids]),
            ]
        )
        self._expect(len(results), done.changed)
        self.ends = True

    def take_these(self, ids: Sequence[str], claim_id: str, worker: str, lease_until: float) -> list[Claimed]:
        if not 0 < len(ids) <= AT_ONCE:
            return super().take_these(ids, claim_id, worker, lease_until)
        among, values = self._among(ids)
        steps = {
            "unready": values,
            "run": [claim_id, worker, lease_until, self.now.wall, *values],
            "bodies": values,
        }
        gone, _, bodies = self._together([(self._about(name, among), given) for name, given in steps.items()])
        self._expect(len(ids), gone.changed)
        found = {row[0]: claimed_of(row, claim_id) for row in bodies.rows}
        return [found[job_id] for job_id in ids]

    def _lines(self, queues: Collection[str]) -> tuple[str, list[object]]:
        return f"({' UNION ALL '.join(['SELECT %s AS queue'] * len(queues))})", [*queues]

    def be_present(self, presence: Presence) -> None:
        self._run(self._sql["be_present"], [presence.worker, self.now.wall, presence.ttl, packed(presence)])

    def _kinds(self) -> list[tuple[str, str, str]]:
        return [(queue, task, state) for queue, task, state in self._rows(self._sql["kinds"])]


def _in_messages(rows: Sequence[Sequence[object]]) -> Iterator[Sequence[Sequence[object]]]:
    """The rows in portions of which each fits into a message."""
    some: list[Sequence[object]] = []
    size = 0
    for row in rows:
        length = sum(len(value) for value in row if isinstance(value, str | bytes))
        if some and (len(some) == STATEMENTS or size + length > MESSAGE):
            yield some
            some, size = [], 0
        some.append(row)
        size += length
    if some:
        yield some


def _texts(results: Mapping[str, bytes]) -> str | None:
    """Results as one JSON text, [[id, result]...], in the order in which rows are locked; None if one is no text."""
    try:
        return packed([(job_id, result.decode()) for job_id, result in sorted(results.items())])
    except UnicodeDecodeError:
        return None


def connect(address: Mapping[str, Any], patience: float | None) -> Session:
    """Open a connection; `patience`: seconds to wait for an answer. Raises pymysql.MySQLError, BrokerRefused,
    MissingDriver."""
    try:
        connection = pymysql.connect(
            charset="utf8mb4",
            collation="utf8mb4_bin",
            autocommit=True,
            client_flag=CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS,
            read_timeout=patience,
            write_timeout=patience,
            **address,
        )
    except RuntimeError as error:  # MySQL 8 asks for a package that reads its keys
        raise MissingDriver(f"mysql:// needs more than PyMySQL here ({error}):  pip install cryptography") from error
    session = Session(connection)
    try:
        info = str(connection.get_server_info())
        refuse_old(info)
        for statement in SETTINGS:
            session.run(statement)
        if "mariadb" in info.lower():  # MySQL has no word for it
            session.run(IDLE)
    except BaseException:
        session.close()
        raise
    return session


def refuse_old(info: str) -> None:
    """Raise BrokerRefused for a server that is too old, by how it announces itself (`5.5.5-10.11.6-MariaDB`)."""
    kind = "MariaDB" if "mariadb" in info.lower() else "MySQL"
    found = re.search(r"(\d+)\.(\d+)\.\d+", info.removeprefix("5.5.5-"))
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < OLDEST[kind]:
        needed = ".".join(map(str, OLDEST[kind]))
        raise BrokerRefused(f"{kind} {info} is too old: version {needed} or newer is needed")


def moment(session: Session, offset: float, *before: str) -> Moment:
    """The server's clock, read after these statements in the same message."""
    *_, (_, [(wall,)]) = session.together([*((sql, ()) for sql in before), (NOW, ())])
    return Moment(float(wall) + offset, float(wall) + offset)


# ---- what went wrong ------------------------------------------------------------------------------------------------


def code_of(error: Exception) -> int:
    code = error.args[0] if error.args else 0
    return code if isinstance(code, int) else 0


def fault(error: Exception) -> Fault:
    code = code_of(error)
    if code in AGAIN:
        return Fault.AGAIN
    if code in LOST or (2000 <= code < 3000 and code not in REFUSED):
        return Fault.LOST
    return Fault.FINAL


def explained(error: Exception, url: str) -> OutworkError:
    code = code_of(error)
    said = shortened(error.args[1] if len(error.args) > 1 else error)
    if code in REFUSED:
        return BrokerRefused(f"{url}: {said} ({code}). Check the URL's user, password and database, and their rights")
    if code in MISSING:
        return SchemaError(f"{url}: {said}. The tables are not as this release needs them:  outwork migrate")
    if code in FULL:
        return BrokerFull(f"{url} has no room: {said}. Free some; nothing has to be restarted here")
    if code in (1040, 1203, 1226):
        return BrokerUnavailable(f"{url} takes no more connections ({said}). Raise max_connections")
    if code in (1290, 1792, 1836):
        return BrokerUnavailable(f"{url} is read-only ({said}): a replica, or a failover is under way")
    if code in (1205, 1213):
        return BrokerUnavailable(f"{url}: rows were locked for too long ({said})")
    if fault(error) is Fault.LOST:
        return BrokerUnavailable(f"{url} cannot be reached: {said}. Is it running, and is the address right?")
    return BrokerUnavailable(f"{url}: {said} ({code})")
