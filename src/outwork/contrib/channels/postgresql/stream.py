"""One connection to PostgreSQL in one event loop: libpq's pipeline, statements prepared at first use, notifications.

A call costs a future and one system call, and many may be under way; each is a transaction of its own.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, TimerHandle
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, Final, NamedTuple, TypeAlias

import psycopg
from psycopg import pq

Heard: TypeAlias = Callable[[str], None]
Lost: TypeAlias = Callable[["Stream"], None]
Row: TypeAlias = list[bytes | None]
Value: TypeAlias = bytes | None

BINARY: Final = 1
ANSWERS: Final = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


class Refused(psycopg.Error):
    """The server's error, with its code."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.sqlstate = code


class _Call(NamedTuple):
    future: Future[list[Row]]
    until: float
    name: str


class Stream:
    """`heard` gets the payload of each notification, `lost` is called once when the connection has broken."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        loop: AbstractEventLoop,
        statements: Mapping[str, bytes],
        prepared: set[str],
        timeout: float,
        heard: Heard,
        lost: Lost,
    ) -> None:
        self.connection = connection
        self.prepared = prepared
        self._loop = loop
        self._statements = statements
        self._timeout = timeout
        self._heard = heard
        self._lost = lost
        self._conn = connection.pgconn
        self._handle = self._conn.socket
        self._calls: deque[_Call] = deque()
        self._rows: list[Row] = []
        self._error: Refused | None = None
        self._writing = False
        self._timer: TimerHandle | None = None
        self.broken = False
        self._conn.nonblocking = 1
        self._conn.enter_pipeline_mode()
        loop.add_reader(self._handle, self._read)

    def call(self, name: str, *values: Value, binary: Sequence[int] = ()) -> Future[list[Row]]:
        """Execute a statement; its rows, in binary. `binary`: the places of values that are bytes, not text."""
        formats = [int(place in binary) for place in range(len(values))]

        def send() -> None:
            if name not in self.prepared:
                self._conn.send_prepare(name.encode(), self._statements[name])
                self.prepared.add(name)
            self._conn.send_query_prepared(name.encode(), values, formats, BINARY)

        return self._begin(name, send)

    def say(self, sql: str) -> Future[list[Row]]:
        """Execute a statement without values."""
        return self._begin("", lambda: self._conn.send_query_params(sql.encode(), None))

    def detach(self) -> psycopg.Connection[Any] | None:
        """Leave the loop. The connection, if nothing is under way on it, for use in another loop."""
        idle = not self.broken and not self._calls
        self._leave()
        if idle:
            try:
                self._conn.exit_pipeline_mode()
            except psycopg.Error:
                idle = False
        if idle:
            return self.connection
        self.connection.close()
        return None

    def close(self) -> None:
        self._leave()
        self.connection.close()

    # ---- within -----------------------------------------------------------------------------------------------------

    def _begin(self, name: str, send: Callable[[], None]) -> Future[list[Row]]:
        future: Future[list[Row]] = self._loop.create_future()
        if self.broken:
            future.set_exception(psycopg.OperationalError("the connection is closed"))
            return future
        self._calls.append(_Call(future, monotonic() + self._timeout, name))
        try:
            send()
            self._conn.pipeline_sync()
            self._write()
        except psycopg.Error as error:
            self._break(error)
        if self._timer is None and not self.broken:
            self._timer = self._loop.call_later(self._timeout, self._check_time)
        return future

    def _write(self) -> None:
        left = self._conn.flush()
        if left and not self._writing:
            self._writing = True
            self._loop.add_writer(self._handle, self._write_more)

    def _write_more(self) -> None:
        try:
            self._conn.consume_input()  # the server may wait for us to read
            if not self._conn.flush():
                self._writing = False
                self._loop.remove_writer(self._handle)
        except psycopg.Error as error:
            self._break(error)

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
            self._break(error)

    def _note(self, result: Any) -> None:
        status = result.status
        if status == pq.ExecStatus.PIPELINE_SYNC:
            future, _, name = self._calls.popleft()
            rows, error = self._rows, self._error
            self._rows, self._error = [], None
            if error is not None:
                self.prepared.discard(name)
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

    def _check_time(self) -> None:
        self._timer = None
        if not self._calls:
            return
        left = self._calls[0].until - monotonic()
        if left <= 0:
            self._break(psycopg.OperationalError(f"no answer within {self._timeout:g} s"))
        else:
            self._timer = self._loop.call_later(left, self._check_time)

    def _break(self, error: psycopg.Error) -> None:
        if self.broken:
            return
        calls, told = list(self._calls), self._error or error
        self.close()
        for call in calls:
            if not call.future.done():
                call.future.set_exception(told)
        self._lost(self)

    def _leave(self) -> None:
        self.broken = True
        self._calls.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._loop.is_closed():
            self._loop.remove_reader(self._handle)
            if self._writing:
                self._loop.remove_writer(self._handle)
