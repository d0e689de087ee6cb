"""One connection to PostgreSQL in one event loop: libpq's pipeline, statements prepared at first use, notifications.

A call costs a future and one system call, and many may be under way; each is a transaction of its own.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import psycopg
from psycopg import pq

from outwork.contrib.channels.link import Link, Lost

Heard: TypeAlias = Callable[[str], None]
Row: TypeAlias = list[bytes | None]
Value: TypeAlias = bytes | None

BINARY: Final = 1
ANSWERS: Final = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


class Refused(psycopg.Error):
    """The server's error, with its code."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.sqlstate = code


class Opened(NamedTuple):
    """A connection, and the statements that are prepared on it."""

    connection: psycopg.Connection[Any]
    prepared: set[str]

    def fileno(self) -> int:
        return self.connection.fileno()

    def close(self) -> None:
        self.connection.close()


class Stream(Link):
    """`heard` gets the payload of each notification."""

    def __init__(
        self,
        opened: Opened,
        loop: AbstractEventLoop,
        statements: Mapping[str, bytes],
        timeout: float,
        heard: Heard,
        lost: Lost,
    ) -> None:
        self._opened = opened
        self._statements = statements
        self._heard = heard
        self._conn = opened.connection.pgconn
        self._rows: list[Row] = []
        self._error: Refused | None = None
        self._conn.nonblocking = 1
        self._conn.enter_pipeline_mode()
        super().__init__(loop, self._conn.socket, timeout, lost)

    def call(self, name: str, *values: Value, binary: Sequence[int] = ()) -> Future[list[Row]]:
        """Execute a statement; its rows, in binary. `binary`: the places of values that are bytes, not text."""
        formats = [int(place in binary) for place in range(len(values))]

        def send() -> None:
            if name not in self._opened.prepared:
                self._conn.send_prepare(name.encode(), self._statements[name])
                self._opened.prepared.add(name)
            self._conn.send_query_prepared(name.encode(), values, formats, BINARY)

        return self._send(name, send)

    def say(self, sql: str) -> Future[list[Row]]:
        """Execute a statement without values."""
        return self._send("", lambda: self._conn.send_query_params(sql.encode(), None))

    def detach(self) -> Opened | None:
        """Leave the loop. The connection, if nothing is under way on it, for use in another loop."""
        if self.broken or self._calls:
            return None
        try:
            self._conn.exit_pipeline_mode()
        except psycopg.Error:
            return None
        self._leave()
        return self._opened

    # ---- within -----------------------------------------------------------------------------------------------------

    def _send(self, name: str, send: Callable[[], None]) -> Future[list[Row]]:
        future = self._call(name)
        if self.broken:
            return future
        try:
            send()
            self._conn.pipeline_sync()
            self._write_more(bool(self._conn.flush()))
        except psycopg.Error as error:
            self._break(self._error or error)
        return future

    def _write(self) -> None:
        try:
            self._conn.consume_input()  # the server may wait for us to read
            self._write_more(bool(self._conn.flush()))
        except psycopg.Error as error:
            self._break(self._error or error)

    def _read(self) -> None:
        try:
            self._conn.consume_input()
            while self._calls and not self.broken and not self._conn.is_busy():
                result = self._conn.get_result()
                if result is not None:
                    self._note(result)
            while not self.broken and (notify := self._conn.notifies()) is not None:
                self._heard(notify.extra.decode())
        except psycopg.Error as error:
            self._break(self._error or error)

    def _note(self, result: Any) -> None:
        status = result.status
        if status == pq.ExecStatus.PIPELINE_SYNC:
            future, _, name = self._calls.popleft()
            rows, error = self._rows, self._error
            self._rows, self._error = [], None
            if error is not None:
                self._opened.prepared.discard(name)
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(rows)
        elif status in ANSWERS:
            columns = range(result.nfields)
            self._rows = [[result.get_value(row, column) for column in columns] for row in range(result.ntuples)]
        elif status != pq.ExecStatus.PIPELINE_ABORTED and self._error is None:
            code = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
            text = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
            self._error = Refused(text.decode(errors="replace"), code.decode())

    def _hang_up(self) -> None:
        self._opened.close()

    def _failure(self, why: str, *, silent: bool = False) -> psycopg.OperationalError:
        return psycopg.OperationalError(why)
