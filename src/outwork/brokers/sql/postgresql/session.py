"""A PostgreSQL connection in our dress: its parameters, its clock, what it hears, and what its errors mean."""

from __future__ import annotations

import re
import select
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import psycopg
from psycopg import pq

from outwork.brokers.base import Presence
from outwork.brokers.sql.postgresql.statements import COLUMNS, NOW
from outwork.brokers.sql.postgresql.values import ADAPTERS, blobs, columns, texts
from outwork.brokers.sql.rows import packed
from outwork.brokers.sql.server.database import Fault, shortened
from outwork.brokers.sql.server.moves import ServerTransaction, parts
from outwork.brokers.sql.server.outbox import Answer, Said
from outwork.errors import BrokerFull, BrokerRefused, BrokerUnavailable, OutworkError, SchemaError
from outwork.job import Moment

OLDEST: Final = 130000

SETTINGS: Final = {
    "lock_timeout": "5s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "30s",
    "client_min_messages": "warning",
    "jit": "off",
}
"""What every session of ours sets, so that none waits for ever or is waited for for ever."""

PLAIN_PLANS: Final = {
    # Everything is to be found by an index. A plan made while a table was empty must not read it whole when it holds a
    # million rows: it would be kept until the next ANALYZE.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}
"""For the connections of the worker and of those who enqueue."""

REMEMBERED: Final = 256
"""Notifications whose words are kept."""

AGAIN: Final = frozenset({"40001", "40P01", "55P03", "23505"})
"""23505, a row that is there already: somebody else has made it meanwhile."""
LOST: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25006", "53300"})
REFUSED: Final = re.compile(
    r"password authentication failed|no pg_hba\.conf entry|role \".*\" (does not exist|is not permitted)"
    r"|database \".*\" does not exist|no password supplied|permission denied for database"
    r"|authentication method|certificate|SSL|invalid (URI|connection option|port number|sslmode)"
    r"|does not support|unsupported"
)

_Said = tuple[str, Sequence[object] | Mapping[str, object]]


class Session:
    """One connection. `listening` to its bell's channel, `asleep` while it holds the lock that says so, `news` is how
    many notifications it has heard."""

    def __init__(self, connection: psycopg.Connection[Any], *, prepare: bool) -> None:
        self.connection = connection
        self.prepare = prepare
        self.listening = False
        self.asleep = False
        self.news = 0
        self._said: deque[str] = deque(maxlen=REMEMBERED)
        self._pending = False
        self._pipelines = prepare and psycopg.Pipeline.is_supported()
        self._prepared: set[str] = set()
        self._cursor = connection.cursor(binary=True)
        connection.add_notify_handler(lambda notify: self._note(notify.payload))

    @property
    def usable(self) -> bool:
        if self.connection.closed:
            return False
        if self._pending:
            self._finish()
        return self.connection.info.transaction_status == pq.TransactionStatus.IDLE

    def close(self) -> None:
        self.connection.close()

    def rows(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        return self._execute(sql, parameters).fetchall()

    def run(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> int:
        return self._execute(sql, parameters).rowcount

    def many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        self._cursor.executemany(sql, rows)  # pyright: ignore

    def together(self, statements: Sequence[Said]) -> list[Answer]:
        """Several statements in one message, which stops at the first that fails; the answer of each. Without prepared
        statements (behind a pooler) one after the other."""
        if not self._pipelines or len(statements) == 1:
            return [_answer(self._execute(sql, parameters)) for sql, parameters in statements]
        return [_answer(cursor) for cursor in self._in_line(statements)]

    def _in_line(self, statements: Sequence[_Said]) -> list[psycopg.Cursor[Any]]:
        cursors = [self.connection.cursor(binary=True) for _ in statements]
        errors: list[BaseException] = []  # the first one tells; those that follow say only that there was one
        try:
            with self.connection.pipeline():  # its end waits for the answers: a `sync` would make that two round trips
                try:
                    for cursor, (sql, parameters) in zip(cursors, statements, strict=True):
                        cursor.execute(sql, parameters, prepare=True)  # pyright: ignore
                except psycopg.Error as error:
                    errors.append(error)
        except psycopg.Error as error:
            errors.append(error)
        if errors:
            first = errors[0]
            while isinstance(first, psycopg.errors.PipelineAborted) and first.__context__ is not None:
                first = first.__context__
            raise first
        return cursors

    def _execute(self, sql: str, parameters: Sequence[object] | Mapping[str, object]) -> psycopg.Cursor[Any]:
        if self._pipelines and sql not in self._prepared:  # prepared and executed in one message, not in two
            [cursor] = self._in_line([(sql, parameters)])
            self._prepared.add(sql)
            return cursor
        return self._cursor.execute(sql, parameters, prepare=self.prepare)  # pyright: ignore

    def say(self, sql: str) -> float:
        """Several statements without parameters in one message; the number that the last one yields."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, prepare=False)  # pyright: ignore
            while cursor.nextset():
                pass
            return float(cursor.fetchone()[0]) if cursor.description else 0.0  # type: ignore[index]  # pyright: ignore

    # ---- listening --------------------------------------------------------------------------------------------------

    def lie_down(self, channel: str, key: int, whom: int) -> None:
        """Listen, and let those who write see that somebody sleeps."""
        if not self.listening:
            self.say(f'LISTEN "{channel}"')
            self.listening = True
        if not self.asleep:
            self.rows("SELECT pg_advisory_lock_shared(%s::int4, %s::int4)", [key, whom])
            self.asleep = True

    def stand_up(self, key: int, whom: int) -> None:
        """The opposite, without waiting for the answer: who stands up has something better to do."""
        if self.asleep:
            self.asleep = False
            pgconn = self.connection.pgconn
            pgconn.send_query(b"SELECT pg_advisory_unlock_shared(%d, %d)" % (key, whom))
            pgconn.flush()
            self._pending = True

    def _finish(self) -> None:
        """Take the answer that nobody waited for. `get_result` would wait for it without letting go of the interpreter,
        and with it of the thread that renews the leases, for as long as the server is silent."""
        self._pending = False
        pgconn = self.connection.pgconn
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN)
        more = True
        while more:
            while pgconn.is_busy():
                poll.poll()
                pgconn.consume_input()
            more = pgconn.get_result() is not None
        self.hear()

    def hear(self) -> int:
        """Take in what has arrived: how many notifications there were so far. Raises OperationalError if the line is
        dead."""
        pgconn = self.connection.pgconn
        pgconn.consume_input()
        while (notify := pgconn.notifies()) is not None:
            self._note(notify.extra.decode())
        return self.news

    def said_since(self, news: int) -> set[str]:
        """What the notifications after the first `news` said."""
        new = min(self.news - news, len(self._said))
        return set(islice(reversed(self._said), new))

    def _note(self, said: str) -> None:
        self.news += 1
        self._said.append(said)


class PostgreSQLTransaction(ServerTransaction):
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
        if not self.defers or name not in COLUMNS or len(rows) == 1:
            super()._soon(name, rows)
            return
        for some in parts(rows):
            self._waiting.append(_in_columns(self._sql, name, some))

    def _many(self, name: str, rows: Sequence[Sequence[object]]) -> None:
        if name in COLUMNS and len(rows) > 1:
            for some in parts(rows):
                self._run(*_in_columns(self._sql, name, some))
        else:
            if self._waiting:
                self._session.together(self.waiting())
            self._session.many(self._sql[name], rows)

    def _among(self, values: Collection[str]) -> tuple[str, list[object]]:
        return "= ANY (%s)", [texts(list(values))]

    def _lines(self, queues: Collection[str]) -> tuple[str, list[object]]:
        return "(SELECT unnest(%s) AS queue)", [texts(list(queues))]

    def succeed_bound(self, claim_id: str, results: Mapping[str, bytes], prune_at: float) -> None:
        values = [texts(list(results)), blobs(list(results.values())), claim_id, float(self.now.wall), float(prune_at)]
        self._expect(len(results), self._run(self._sql["succeed_bound"], values))
        self.ends = True

    def be_present(self, presence: Presence) -> None:
        self._run(
            self._sql["be_present"], [presence.worker, float(self.now.wall), float(presence.ttl), packed(presence)]
        )

    def _kinds(self) -> list[tuple[str, str, str]]:
        return [(queue, task, state) for queue, task, state in self._rows(self._sql["kinds"])]


def _answer(cursor: psycopg.Cursor[Any]) -> Answer:
    return Answer(cursor.rowcount, cursor.fetchall() if cursor.description else ())


def _in_columns(sql: Mapping[str, str], name: str, rows: Sequence[Sequence[object]]) -> Said:
    """A statement for all of these rows at once."""
    return sql[f"{name} columns"], columns([kind for _, kind in COLUMNS[name]], rows)


def connect(conninfo: Mapping[str, str], *, prepare: bool, settings: Mapping[str, str]) -> Session:
    """Open a connection. Raises psycopg.Error, BrokerRefused for a server that is too old."""
    given = dict(conninfo)
    if settings:
        ours = " ".join(f"-c {name}={value}" for name, value in settings.items())
        given["options"] = f"{ours} {given.get('options', '')}".strip()
    connection = psycopg.connect(
        autocommit=True,
        prepare_threshold=0 if prepare else None,
        context=_Context(),
        **given,  # type: ignore[arg-type]  # pyright: ignore
    )
    version = connection.info.server_version
    if version < OLDEST:
        connection.close()
        raise BrokerRefused(f"PostgreSQL {version / 10000:g} is too old: version 13 or newer is needed")
    return Session(connection, prepare=prepare)


class _Context:
    """Gives new connections our adapters."""

    adapters = ADAPTERS
    connection = None


def moment(session: Session, offset: float, before: str = "") -> Moment:
    """The server's clock, read after the statements of `before` in the same message."""
    wall = session.say(before + NOW) + offset
    return Moment(wall, wall)


# ---- what went wrong ------------------------------------------------------------------------------------------------


def fault(error: Exception) -> Fault:
    code = getattr(error, "sqlstate", None)
    if code in AGAIN:
        return Fault.AGAIN
    if code in LOST or (code or "").startswith("08"):
        return Fault.LOST
    if code is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Fault.FINAL if REFUSED.search(str(error)) else Fault.LOST
    return Fault.FINAL


def explained(error: Exception, url: str) -> OutworkError:
    code = getattr(error, "sqlstate", None) or ""
    said = shortened(error)
    if not code and REFUSED.search(said):
        return BrokerRefused(f"{url}: {said}. Check the URL's user, password and database, and pg_hba.conf")
    match code:
        case "42P01" | "42703" | "3F000":
            return SchemaError(f"{url}: {said}. The tables are not as this release needs them:  outwork migrate")
        case "53100" | "53200" | "53400":
            return BrokerFull(f"{url} has no room: {said}. Free some; nothing has to be restarted here")
        case "42501":
            return BrokerRefused(f"{url}: {said}. The tables belong to another role: grant it, or run  outwork migrate")
        case "25006":
            return BrokerUnavailable(
                f"{url} is read-only (a standby, or a failover is under way). With several hosts in the URL, "
                "target_session_attrs=read-write finds the primary"
            )
        case "55P03":
            return BrokerUnavailable(f"{url}: a table was locked for too long ({said}). Look at pg_locks")
        case "57014":
            return BrokerUnavailable(f"{url}: the server was too slow ({said})")
    if "too many clients" in said or "remaining connection slots" in said:
        return BrokerUnavailable(
            f"{url} takes no more connections ({said}). Raise max_connections, or put PgBouncer before it"
        )
    if not code or code.startswith(("08", "57P")):
        return BrokerUnavailable(f"{url} cannot be reached: {said}. Is it running, and is the address right?")
    return BrokerUnavailable(f"{url}: {said} (SQLSTATE {code})")
