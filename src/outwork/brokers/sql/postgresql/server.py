"""PostgreSQL as the broker sees it: enqueue and exchange in one statement each, wake-up by NOTIFY."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Final, NamedTuple

import psycopg
from psycopg.types.numeric import Int4

from outwork.brokers.base import Settlement, Share
from outwork.brokers.ledger import unique_cell
from outwork.brokers.sql.books import written
from outwork.brokers.sql.connections import Role
from outwork.brokers.sql.dialect import Bell, Statement, Swap
from outwork.brokers.sql.migrate import Step, standing, todo
from outwork.brokers.sql.postgresql import session as session_module
from outwork.brokers.sql.postgresql.bell import ENDED, READY, PostgreSQLBell, Ring, ring_of
from outwork.brokers.sql.postgresql.session import PLAIN_PLANS, SETTINGS, PostgreSQLTransaction, Session, moment
from outwork.brokers.sql.postgresql.statements import SQL, insertion
from outwork.brokers.sql.postgresql.values import blobs, flags, floats, integers, optional_texts, texts
from outwork.brokers.sql.postgresql.watch import Lookout
from outwork.brokers.sql.rows import claimed_of
from outwork.brokers.sql.server.database import Fault, PollingBell, ServerDatabase
from outwork.brokers.sql.server.moves import ServerTransaction
from outwork.brokers.sql.server.outbox import Said
from outwork.brokers.sql.server.statements import statements
from outwork.errors import OutworkError
from outwork.job import TOMBSTONE_SECONDS, Done, Job, Terms
from outwork.ties import Ties

AT_ONCE: Final = 1000
"""Jobs, settlements and claims in one statement."""
AT_ONCE_BYTES: Final = 32 * 1024 * 1024
SLOW: Final = 0.01
"""Seconds. An exchange that takes longer has walked over many dead rows, most likely."""
DEEP: Final = 100
"""Jobs: a claim of so many, all of which it got, is one from a deep line."""
TRUST: Final = 4.0
"""For how many times the length of a slow exchange the next ones begin where it ended."""


class Mark(NamedTuple):
    """How far down a queue's line there is nothing to claim, and how long that is believed."""

    turn: int
    due: float
    id: str
    until: float


START: Final = Mark(-1000, float("-inf"), "", 0.0)


class PostgreSQLServer(ServerDatabase[Session]):
    """Our tables in one schema of one database."""

    dialect: ClassVar[str] = "postgresql"
    errors: ClassVar[type[Exception]] = psycopg.Error
    exchanges_at_once: ClassVar[int] = 4

    def __init__(
        self,
        url: str,
        conninfo: Mapping[str, str],
        *,
        prefix: str,
        schema: str,
        migrate: bool,
        listen: bool,
        prepare: bool,
        terms: Terms,
        offset: Callable[[], float],
    ) -> None:
        super().__init__(url, prefix, migrate, offset)
        self._qualified = f"{schema}.{prefix}" if schema else prefix
        self._conninfo = conninfo
        self._listen = listen
        self._prepare = prepare
        self._terms = terms
        self._sql = statements(SQL, prefix)
        self._marks: dict[str, Mark] = {}
        self.lookout = Lookout(url)

    # ---- sessions ---------------------------------------------------------------------------------------------------

    def _connect(self, role: Role) -> Session:
        settings: dict[str, str] = {}
        if self._prepare:  # behind a pooler a session is nobody's own
            settings = {**SETTINGS, **({} if role in (Role.ACCEPT, Role.READ) else PLAIN_PLANS)}
        return session_module.connect(self._conninfo, prepare=self._prepare, settings=settings)

    def _disconnect(self, session: Session) -> None:
        session.close()

    def _usable(self, session: Session) -> bool:
        return session.usable

    def _begin(self, session: Session) -> ServerTransaction:
        return PostgreSQLTransaction(session, self._sql, moment(session, self.offset(), "BEGIN; "))

    def _commit(self, session: Session, rest: Sequence[Said]) -> None:
        if rest:
            session.together([*rest, ("COMMIT", ())])
        else:
            session.say("COMMIT")

    def _rollback(self, session: Session) -> None:
        try:
            session.say("ROLLBACK")
        except psycopg.Error:
            session.close()  # it is of no use, and the server rolls back what is left alone

    def _reading(self, session: Session) -> ServerTransaction:
        return PostgreSQLTransaction(session, self._sql, moment(session, self.offset()))

    def _fault(self, error: Exception) -> Fault:
        return session_module.fault(error)

    def explained(self, error: Exception) -> OutworkError:
        return session_module.explained(error, self.url)

    # ---- enqueue ----------------------------------------------------------------------------------------------------

    def accept(self, jobs: Sequence[tuple[Job, bytes]]) -> None:
        if len(jobs) == 1 and jobs[0][0].due is None and jobs[0][0].delay is None:
            [(job, body)] = jobs
            self.patiently(Role.ACCEPT, lambda session: self._accept_one(session, job, body))
        else:
            self._accept_many(jobs)

    def _accept_one(self, session: Session, job: Job, body: bytes) -> None:
        given = {
            "id": job.id,
            "task": job.task,
            "queue": job.queue,
            "priority": job.priority,
            "expires": job.expires,
            "max_crashes": job.max_crashes,
            "at_most_once": job.at_most_once,
            "body": body,
            "offset": self.offset(),
            "key": Int4(self._key),
        }
        name = "accept_one"
        if self.pace is not None:
            name, given["grace"] = "accept_one_marked", self.pace.grace
        [(idle,)] = session.rows(self._sql[name], given)
        if idle:
            self.told(lambda: self._ring(session, [(READY, "+" + job.queue)]))

    def _accept_many(self, jobs: Sequence[tuple[Job, bytes]]) -> None:
        for some in portions(jobs):
            given = self._given(some)
            told = _told(some)

            def put(session: Session, given: Mapping[str, object] = given, told: Sequence[str] = told) -> None:
                name = "accept"
                if self.pace is not None:
                    name, given = "accept_marked", {**given, "grace": self.pace.grace, "horizon": self.pace.horizon}
                [(idle,)] = session.rows(self._sql[name], given)
                if idle:
                    self.told(lambda: self._ring(session, [(READY, what) for what in told]))

            self.patiently(Role.ACCEPT, put)

    def accept_keyed(self, jobs: Sequence[tuple[Job, bytes]]) -> bool:
        if self.pace is not None or len(portions(jobs)) != 1:
            return False
        ties = [job.ties or Ties() for job, _ in jobs]
        keys = [one.unique for one in ties]
        given = {
            **self._given(jobs),
            "ties": optional_texts([written(one) for one in ties]),
            "solo": flags([bool(job.at_most_once or one.gates) for (job, _), one in zip(jobs, ties, strict=True)]),
            "cell": optional_texts([None if key is None else unique_cell(key.key) for key in keys]),
            "held_for": floats([None if key is None else key.seconds for key in keys]),
        }

        def put(session: Session) -> bool:
            [(clear, idle)] = session.rows(self._sql["accept_keyed"], given)
            if clear and idle:
                self.told(lambda: self._ring(session, [(READY, what) for what in _told(jobs)]))
            return bool(clear)

        return self.patiently(Role.ACCEPT, put)

    def _given(self, jobs: Sequence[tuple[Job, bytes]]) -> Mapping[str, object]:
        return {
            "id": texts([job.id for job, _ in jobs]),
            "task": texts([job.task for job, _ in jobs]),
            "queue": texts([job.queue for job, _ in jobs]),
            "priority": integers([job.priority for job, _ in jobs]),
            "due": floats([job.due for job, _ in jobs]),
            "delay": floats([job.delay for job, _ in jobs]),
            "expires": floats([job.expires for job, _ in jobs]),
            "max_crashes": integers([job.max_crashes for job, _ in jobs]),
            "at_most_once": flags([job.at_most_once for job, _ in jobs]),
            "body": blobs([body for _, body in jobs]),
            "offset": self.offset(),
            "key": Int4(self._key),
        }

    def insertion(self, jobs: Sequence[tuple[Job, bytes]]) -> list[Statement]:
        return insertion(jobs, self._ring_of(READY).channel, self._qualified, self.offset(), self.pace)

    def probes(self) -> tuple[Statement, Statement]:
        meta = f"{self._qualified}meta"
        return (
            Statement("SELECT CAST(to_regclass(CAST(%s AS text)) AS text)", [meta]),
            Statement(f"SELECT value FROM {meta} WHERE name = 'id'", []),
        )

    # ---- exchange ---------------------------------------------------------------------------------------------------

    def swap(
        self,
        claim_id: str,
        successes: Sequence[Settlement],
        queues: Sequence[Share],
        limit: int,
        free: int,
        worker: str,
    ) -> Swap | None:
        outcomes: list[Done] = [one.outcome for one in successes]  # type: ignore[misc]  # pyright: ignore
        if len(successes) > AT_ONCE or sum(len(one.result) for one in outcomes) > AT_ONCE_BYTES:
            return None
        wanted = [Share(queue, min(most, limit)) for queue, most in queues]
        began = time.monotonic()
        marks = [self._mark(queue, began) for queue, _ in wanted]
        given: dict[str, object] = {
            "offset": self.offset(),
            "key": Int4(self._key),
            "queues": texts([queue for queue, _ in wanted]),
            "mosts": integers([most for _, most in wanted]),
            "from_turns": integers([mark.turn for mark in marks]),
            "from_dues": floats([mark.due for mark in marks]),
            "from_ids": texts([mark.id for mark in marks]),
            "limit": Int4(limit),
            "free": Int4(free if limit else 0),
            "settling": Int4(len(successes)),
            "claim": claim_id,
            "worker": worker,
            "lease": self._terms.lease,
        }
        if successes:
            keep = self._terms.keep
            given["ids"] = texts([one.job_id for one in successes])
            given["claims"] = texts([one.claim_id for one in successes])
            given["results"] = blobs([one.result for one in outcomes])
            given["keeps"] = floats(
                [max(keep if one.keep is None else one.keep, TOMBSTONE_SECONDS) for one in outcomes]
            )
        name = "swap" if successes else "claim"
        # A claim alone follows a wake-up, mostly: the server's process that said so has not gone to sleep again.
        rather = None if successes else Role.LISTEN
        return self.patiently(
            Role.WORK, lambda session: self._swapped(session, name, given, wanted, marks, began), rather
        )

    def _swapped(
        self,
        session: Session,
        name: str,
        given: Mapping[str, object],
        wanted: Sequence[Share],
        marks: Sequence[Mark],
        began: float,
    ) -> Swap:
        rows = session.rows(self._sql[name], given)
        due_in, solo, idle, awaited, done, settled, *_ = rows[0]
        limit, claim_id = int(given["limit"]), str(given["claim"])  # type: ignore[call-overload]  # pyright: ignore
        care = settled is not None or (limit > 0 and solo) or (due_in is not None and due_in <= 0)
        taken = [row[6:] for row in rows if row[8] is not None]
        rings: list[tuple[str, str]] = []
        if idle and len(taken) == limit > 0:
            rings += [(READY, "~" + queue) for queue, _ in wanted]
        if awaited and done:
            rings.append((ENDED, ""))
        if rings:
            self.told(lambda: self._ring(session, rings))
        if len(taken) < limit and not care and any(mark is not START for mark in marks):
            self._marks.clear()  # what was skipped may hold jobs
            again = {**given, "from_turns": integers([START.turn] * len(wanted))}
            more = session.rows(self._sql["claim"], {**again, "limit": Int4(limit - len(taken))})
            taken += [row[6:] for row in more if row[8] is not None]
        elif len(taken) == limit >= DEEP and len(wanted) == 1:
            self._remember(wanted[0].queue, taken[-1], began, marks[0])
        return Swap(
            settled=None if settled is None else frozenset(settled),
            claimed=[claimed_of(row[2:], claim_id) for row in taken],
            due_in=due_in,
            care=care,
        )

    # ---- dead rows --------------------------------------------------------------------------------------------------

    def _mark(self, queue: str, now: float) -> Mark:
        mark = self._marks.get(queue)
        return START if mark is None or now > mark.until else mark

    def _remember(self, queue: str, last: Sequence[Any], began: float, used: Mark) -> None:
        """After a slow exchange, begin the next ones where this one ended, for a few times as long as it took.

        Claimed rows stay in the index until they are vacuumed, and while some transaction elsewhere keeps an old
        snapshot they cannot be: each claim would walk over all of them. The price is that a job which comes in before
        that place (a higher priority, one given back) waits for the next walk from the start.
        """
        now = time.monotonic()
        if used is not START:
            self._marks[queue] = Mark(last[0], last[1], last[2], used.until)
        elif now - began > SLOW:
            self._marks[queue] = Mark(last[0], last[1], last[2], now + TRUST * (now - began))

    # ---- bells ------------------------------------------------------------------------------------------------------

    @cached_property
    def _key(self) -> int:
        """Of the advisory locks of those who sleep."""
        return self._ring_of(READY).key

    def _ring_of(self, whom: str) -> Ring:
        return ring_of(self.identity(), whom)

    def _ring(self, session: Session, rings: Collection[tuple[str, str]]) -> None:
        """Tell sleepers, by a statement of its own after the commit: NOTIFY holds a lock of the whole server's until
        its transaction is on disk, so it must not be one with anything to write."""

        def send(told: list[str]) -> None:
            parts = [one.partition(" ") for one in told]
            given = {
                "channels": texts([self._ring_of(whom).channel for whom, _, _ in parts]),
                "said": texts([what for _, _, what in parts]),
            }
            session.rows(self._sql["ring"], given)

        self._doorbell.ring([f"{whom} {what}" for whom, what in rings], send)

    def _announce(self, session: Session, tx: ServerTransaction) -> None:
        [(idle, awaited)] = session.rows(self._sql["bells"], {"key": Int4(self._key)})
        rings = [(READY, "+" + queue) for queue in tx.ready] + [(READY, "~" + queue) for queue in tx.scheduled]
        told = (rings if idle else []) + ([(ENDED, "")] if awaited and tx.ends else [])
        if told:
            self._ring(session, told)

    def bell(self, role: Role) -> Bell:
        if not self._listen:
            return PollingBell()
        return PostgreSQLBell(self, role, lambda: self._ring_of(READY if role is Role.LISTEN else ENDED))

    def look_around(self) -> None:
        if self.lookout.due:
            self.patiently(Role.KEEP, self.lookout.look)

    # ---- the schema -------------------------------------------------------------------------------------------------

    def _meta(self, session: Session) -> dict[str, str]:
        # Not by to_regclass: inside a transaction that waited for somebody else's migration it answers from its cache.
        seen = "SELECT 1 FROM pg_catalog.pg_class WHERE relname = %s AND pg_catalog.pg_table_is_visible(oid)"
        if not session.rows(seen, [f"{self.prefix}meta"]):
            return {}
        return dict(session.rows(f"SELECT name, value FROM {self.prefix}meta"))

    def _migrate(self, session: Session, to: int | None) -> list[Step]:
        """In one transaction: it is whole or nothing, and the lock ends with it."""
        session.say("BEGIN; SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = 0; SELECT 0")
        try:
            session.rows("SELECT pg_advisory_xact_lock(hashtext(%s))::text", [f"outwork {self.prefix} migrate"])
            meta = self._meta(session)
            missing = todo(self.steps(), standing(meta), self.url, to)
            for step in missing:
                for statement in step.statements:
                    session.run(statement)
            session.say("COMMIT")
        except BaseException:
            self._rollback(session)
            raise
        return missing


def _told(jobs: Sequence[tuple[Job, bytes]]) -> list[str]:
    """What is said of new jobs to those who sleep."""
    return sorted({("~" if job.due or job.delay else "+") + job.queue for job, _ in jobs})


def portions(jobs: Sequence[tuple[Job, bytes]]) -> list[list[tuple[Job, bytes]]]:
    """The jobs in pieces that one statement may carry."""
    found: list[list[tuple[Job, bytes]]] = []
    size = AT_ONCE_BYTES
    for job, body in jobs:
        size += len(body)
        if size > AT_ONCE_BYTES or len(found[-1]) >= AT_ONCE:
            found.append([])
            size = len(body)
        found[-1].append((job, body))
    return found
