"""A database behind a server: connections that break and come back, transactions that are begun again, the schema."""

from __future__ import annotations

import logging
import random
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import ClassVar, Final, Generic, TypeVar

from outwork.brokers.sql.connections import Connections, Role
from outwork.brokers.sql.dialect import Bell, Database, Interrupted, Transaction, pace_of
from outwork.brokers.sql.migrate import Standing, Step, standing, steps, todo
from outwork.brokers.sql.server.moves import Overtaken, ServerTransaction
from outwork.brokers.sql.server.outbox import Said
from outwork.errors import BrokerUnavailable, OutworkError, SchemaError

S = TypeVar("S")
T = TypeVar("T")

logger = logging.getLogger("outwork")

PATIENCE: Final = 2.0
"""Seconds for which a verb tries to reach a server that is away."""
CONTENTION_PATIENCE: Final = 10.0
"""Seconds for which a transaction that others overtake is begun again."""
FIRST_PAUSE: Final = 0.001
LONGEST_PAUSE: Final = 0.25
ACCEPTING: Final = 4
"""Connections at most for those who enqueue, steer and look up; a fifth thread waits for its turn."""
KEEPING: Final = 3
"""Connections at most for leases, orders and housekeeping. One serves all of them where the server is near; where it is
far, a tend takes seconds, and no lease may wait for that."""


class Fault(Enum):
    """What an error of the driver means."""

    AGAIN = "again"
    """The transaction was rolled back for the sake of others: begin it again."""
    LOST = "lost"
    """The connection, or the server behind it, is no longer there (or writes nothing any more): open another."""
    FINAL = "final"


class Doorbell:
    """Rings for all threads of the process: who comes while another rings leaves the ringing to that one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[str] = set()
        self._ringing = False

    def ring(self, whom: Collection[str], send: Callable[[list[str]], None]) -> None:
        with self._lock:
            self._waiting.update(whom)
            if self._ringing:
                return
            self._ringing = True
        try:
            while True:
                with self._lock:
                    if not self._waiting:
                        self._ringing = False
                        return
                    told = sorted(self._waiting)
                    self._waiting.clear()
                send(told)
        except BaseException:
            with self._lock:
                self._ringing = False
            raise


class PollingBell(Bell):
    """Looks now and then, less and less often, where nothing rings."""

    def __init__(self, first: float = 0.05, longest: float = 1.0) -> None:
        self._first = first
        self._longest = longest
        self._pause = first
        self._rung = threading.Event()
        self._closed = False

    def start(self) -> None:
        self._pause = self._first

    def mark(self) -> None:
        return

    def wait(self, seconds: float, queues: Collection[str] = ()) -> None:
        self._rung.wait(min(seconds, self._pause * random.uniform(0.5, 1.0)))
        self._pause = min(self._pause * 1.5, self._longest)

    def ring(self) -> None:
        self._rung.set()

    def rung(self) -> bool:
        rung = self._rung.is_set() and not self._closed
        if rung:
            self._rung.clear()
        return rung

    def close(self) -> None:
        self._closed = True
        self._rung.set()


class ServerDatabase(Database, Generic[S]):
    """The connections of this process to one set of tables on a server; `S` is a driver's connection in our dress.

    Roles: `WORK` (up to `exchanges_at_once`), `KEEP` and `LISTEN` for a worker; `RESULT` for whoever waits for results;
    up to `ACCEPTING` for everything else. Each is opened when it is first needed.
    """

    errors: ClassVar[type[Exception]]
    """The root of the driver's errors."""
    exchanges_at_once: ClassVar[int] = 1
    """How many connections a worker's exchanges may use."""

    def __init__(self, url: str, prefix: str, migrate: bool, offset: Callable[[], float]) -> None:
        self.url = url
        self.prefix = prefix
        self.offset = offset
        self._migrates = migrate
        self._identity: str | None = None
        self._doorbell = Doorbell()
        self.connections: Connections[S] = Connections(
            self._open,
            self._disconnect,
            most={Role.ACCEPT: ACCEPTING, Role.WORK: self.exchanges_at_once, Role.KEEP: KEEPING},
            shared={Role.READ: Role.ACCEPT},
            quiet_forks=False,
        )

    # ---- what a driver does -----------------------------------------------------------------------------------------

    @abstractmethod
    def _connect(self, role: Role) -> S:
        """Raises the driver's errors, BrokerRefused."""

    @abstractmethod
    def _disconnect(self, session: S) -> None: ...

    @abstractmethod
    def _usable(self, session: S) -> bool:
        """Whether it is open and outside of any transaction, as far as can be told without asking the server."""

    @abstractmethod
    def _begin(self, session: S) -> ServerTransaction: ...

    @abstractmethod
    def _commit(self, session: S, rest: Sequence[Said]) -> None:
        """Say the rest, and commit."""

    @abstractmethod
    def _rollback(self, session: S) -> None: ...

    @abstractmethod
    def _reading(self, session: S) -> ServerTransaction:
        """For statements that stand alone."""

    @abstractmethod
    def _announce(self, session: S, tx: ServerTransaction) -> None:
        """Wake those who wait for what this transaction did."""

    @abstractmethod
    def _fault(self, error: Exception) -> Fault: ...

    @abstractmethod
    def explained(self, error: Exception) -> OutworkError:
        """The driver's error in one line: what, why, and what to do next."""

    @abstractmethod
    def _meta(self, session: S) -> dict[str, str]:
        """The rows of our meta table; empty if it does not exist."""

    @abstractmethod
    def _migrate(self, session: S, to: int | None) -> list[Step]:
        """Take the missing steps, under a lock of the database's."""

    # ---- transactions -----------------------------------------------------------------------------------------------

    def write(self, role: Role, work: Callable[[Transaction], T]) -> T:
        def transact(session: S) -> T:
            tx = self._begin(session)
            tx.pace, tx.defers = self.pace, True
            try:
                answer = work(tx)
                self._commit(session, tx.waiting())
            except BaseException:
                self._rollback(session)
                raise
            if tx.ready or tx.scheduled or tx.ends:
                self.told(lambda: self._announce(session, tx))
            return answer

        return self.patiently(role, transact)

    def read(self, role: Role, work: Callable[[Transaction], T]) -> T:
        return self.patiently(role, lambda session: work(self._reading(session)))

    @contextmanager
    def lend(self, role: Role) -> Iterator[S]:
        """The connection of a role, for somebody who sleeps on it."""
        try:
            with self.connections.borrow(role, self._usable) as session:
                yield session
        except self.errors as error:
            raise self.explained(error) from error

    def clock(self) -> float:
        """The server's clock."""
        return self.read(Role.READ, lambda tx: tx.now.wall)

    def told(self, ring: Callable[[], None]) -> None:
        """Ring after a commit: what was committed stays so whether or not anybody hears of it."""
        try:
            ring()
        except self.errors as error:
            logger.debug("%s: nobody could be woken: %s", self.url, error)

    def patiently(self, role: Role, run: Callable[[S], T], rather: Role | None = None) -> T:
        """Run something that may be run again. The worker's exchange is not, after a connection broke: its caller
        knows better how to repeat it."""
        began = time.monotonic()
        pause = FIRST_PAUSE
        while True:
            try:
                with self.connections.borrow(role, self._usable, rather) as session:
                    return run(session)
            except Overtaken as error:
                if time.monotonic() - began > CONTENTION_PATIENCE:
                    raise BrokerUnavailable(f"{self.url}: other transactions were always faster") from error
            except self.errors as error:
                fault = self._fault(error)
                waited = time.monotonic() - began
                if fault is Fault.LOST and role is Role.WORK:
                    raise Interrupted(str(self.explained(error)).partition(" ")[2]) from error
                limit = {Fault.AGAIN: CONTENTION_PATIENCE, Fault.LOST: PATIENCE, Fault.FINAL: 0.0}[fault]
                if waited >= limit:
                    raise self.explained(error) from error
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, LONGEST_PAUSE)

    # ---- the schema -------------------------------------------------------------------------------------------------

    def _open(self, role: Role) -> S:
        session = self._connect(role)
        try:
            meta = self._meta(session)
            if todo(self.steps(), standing(meta), self.url):
                if not self._migrates:
                    missing = "are not up to date" if meta else f"({self.prefix}meta and others) do not exist"
                    raise SchemaError(f"the tables {missing} in {self.url}. Create them:  outwork migrate")
                self._migrate(session, None)
                meta = self._meta(session)
            self._identity = meta["id"]
            self._agree_on_outbox(session, meta)
        except BaseException:
            self._disconnect(session)
            raise
        return session

    def _agree_on_outbox(self, session: S, meta: Mapping[str, str]) -> None:
        kept = pace_of([meta["outbox"]] if "outbox" in meta else None)
        if self.pace is None:
            self.pace = kept
        elif self.pace != kept:
            tx = self._begin(session)
            try:
                tx.keep_outbox(self.pace)
                self._commit(session, ())
            except BaseException:
                self._rollback(session)
                raise

    def steps(self) -> list[Step]:
        return steps(self.dialect, self.prefix)

    def standing(self) -> Standing:
        return self._alone(lambda session: standing(self._meta(session)))

    def apply(self, to: int | None) -> list[Step]:
        return self._alone(lambda session: self._migrate(session, to))

    def _alone(self, run: Callable[[S], T]) -> T:
        """Run something on a connection of its own, which does not ask for the tables."""
        try:
            session = self._connect(Role.READ)
            try:
                return run(session)
            finally:
                self._disconnect(session)
        except self.errors as error:
            raise self.explained(error) from error

    def identity(self) -> str:
        if self._identity is None:
            self.clock()
        assert self._identity is not None
        return self._identity

    def reserve(self, size: int) -> None:
        """A server watches over its own disk."""

    def relieve(self) -> None:
        """Nothing can be done from here."""

    def close(self) -> None:
        self.connections.close()


def shortened(error: object) -> str:
    """A driver's message on one line."""
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
