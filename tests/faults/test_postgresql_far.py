"""What is said to a PostgreSQL server that is far away, and what it answers."""

from __future__ import annotations

from contextlib import closing
from threading import Thread
from typing import Final

import psycopg
import pytest

from outwork.brokers.sql.postgresql.session import connect
from support.postgres_server import shared_postgres
from support.proxy import Proxy
from support.waiting import until

EXECUTE: Final = b"E\0\0\0\x09\0\0\0\0\0"
"""PostgreSQL's message that a statement is to be executed."""


def test_a_new_statement_of_postgresql_takes_one_round_trip() -> None:
    """It is prepared on the way."""
    server = shared_postgres()
    with Proxy(server.port) as proxy:
        conninfo = {"host": "127.0.0.1", "port": str(proxy.port), "user": "tester", "dbname": "postgres"}
        with closing(connect(conninfo, prepare=True, settings={})) as session:
            said: list[object] = []
            proxy.hold_replies()
            thread = Thread(target=lambda: said.extend(session.rows("SELECT 1 + %s::int4", [1])))
            thread.start()
            until(lambda: EXECUTE in proxy.said, "its execution asked for, before anything is answered")
            proxy.hold_replies(False)
            thread.join(30)
            assert said == [(2,)]


def test_the_first_error_of_several_statements_tells() -> None:
    server = shared_postgres()
    conninfo = {"host": "127.0.0.1", "port": str(server.port), "user": "tester", "dbname": "postgres"}
    with closing(connect(conninfo, prepare=True, settings={})) as session:
        for _ in range(2):
            with pytest.raises(psycopg.errors.DivisionByZero):
                session.together([("SELECT 4", ()), ("SELECT 1 / %s::int4", [0]), ("SELECT 5", ())])
        assert session.usable
        assert session.rows("SELECT 6") == [(6,)]
