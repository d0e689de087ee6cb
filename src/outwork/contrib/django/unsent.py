"""The outbox: jobs for a broker elsewhere, kept in the caller's transaction until that broker has them.

    enqueue    a row of `outwork_unsent` in the transaction
    commit     the job is sent, the row removed
    keeper     whatever worker of the backend finds a row whose 30 seconds are over sends it again

So neither the death of the process nor an outage of the broker between commit and send loses a job. Sending one twice
does no harm where the broker is idempotent (`Capabilities.idempotent`), because its id stays the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from django.apps import apps
from django.db import DatabaseError, InterfaceError, connections, router, transaction
from django.db.models import FloatField, Func, Value

from outwork import codec
from outwork.brokers.base import Accepted, Standing
from outwork.errors import BrokerFull, BrokerRefused, BrokerUnavailable, EnqueueError, SchemaError, Undecodable
from outwork.ids import new_claim_id
from outwork.job import Job

if TYPE_CHECKING:
    from outwork.contrib.django.application import Application

logger = logging.getLogger("outwork.django")

GRACE: Final = 30.0
"""Seconds that whoever enqueued a job has for sending it."""
BATCH: Final = 200
EVERY: Final = 60.0
"""Seconds between two lines about the same trouble, and between two looks for a table that is not there."""


class Clock(Func):
    """The clock of the database, in Unix seconds: those who write rows and those who look may be on different hosts."""

    output_field: Any = FloatField()
    arity = 0

    def as_sql(self, compiler: Any, connection: Any, *args: Any, **context: Any) -> Any:
        """Of other databases than those below this machine's clock is good enough."""
        return Value(time.time(), output_field=FloatField()).as_sql(compiler, connection)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, list[Any]]:
        return "((julianday('now') - 2440587.5) * 86400.0)", []

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, list[Any]]:
        return "EXTRACT(EPOCH FROM clock_timestamp())::float8", []

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, list[Any]]:
        return "(UNIX_TIMESTAMP() + MICROSECOND(NOW(6)) / 1e6)", []


class Sending(NamedTuple):
    """A job that is to be sent at the commit, and who is to hear of it."""

    job: Job
    sent: Callable[[Standing | None], None]


class Outbox:
    """The rows of one backend in the database whose transactions its callers use.

    `wanted` says whether that is another database than the one with the jobs.
    """

    def __init__(self, app: Application, using: str, wanted: Callable[[], bool]) -> None:
        self._app = app
        self.using = using
        self._wanted = wanted
        self._lock = Lock()
        self._there = False
        self._look_again = 0.0
        self._said: dict[str, float] = {}
        self._parcels: WeakKeyDictionary[Any, dict[str, Sending]] = WeakKeyDictionary()

    @property
    def _rows(self) -> Any:
        from outwork.contrib.django.models import Unsent

        model: Any = Unsent
        return model._base_manager.using(self.using).filter(backend=self._app.alias)

    def is_kept(self) -> bool:
        """Whether a row can be written: the application is installed, and its table exists."""
        if self._there:
            return True
        if time.monotonic() < self._look_again or not self._wanted():
            return False
        if self.is_missing() and self._is_due("missing"):
            logger.warning(
                "the database %r has no table outwork_unsent, so a job is lost if its process dies between the commit "
                "and the send. Create it:  manage.py migrate --database %s",
                self.using,
                self.using,
            )
        if not self._there:
            self._look_again = time.monotonic() + EVERY
        return self._there

    def is_missing(self) -> bool:
        """Whether there should be a table, and is none."""
        if not (self._wanted() and apps.is_installed("outwork.contrib.django")):
            return False
        from outwork.contrib.django.models import Unsent

        model: Any = Unsent
        if not router.allow_migrate_model(self.using, model):
            return False
        connection = connections[self.using]
        with connection.cursor() as cursor:
            self._there = model._meta.db_table in connection.introspection.table_names(cursor)
        return not self._there

    def _is_due(self, what: str) -> bool:
        """Once in a while."""
        now = time.monotonic()
        with self._lock:
            due = now - self._said.get(what, -EVERY) >= EVERY
            if due:
                self._said[what] = now
            return due

    # ---- in the caller's transaction, and at its commit -------------------------------------------------------------

    def put(self, job: Job, sent: Callable[[Standing | None], None]) -> None:
        """Keep a job as part of the transaction, and send it when that is committed. `sent` hears of it then; from that
        moment on it is known to reach the broker, even if that is away."""
        self._rows.create(
            id=job.id, backend=self._app.alias, body=codec.encode_job(job), send_at=Clock() + Value(GRACE)
        )
        parcel = self._parcel()
        parcel[job.id] = Sending(job, sent)
        transaction.on_commit(lambda: self._send_all(parcel, job.id), using=self.using)

    def _parcel(self) -> dict[str, Sending]:
        """The jobs of this transaction. Of one that was rolled back some may be in it, too: they have no rows."""
        connection = connections[self.using]
        with self._lock:
            parcel = self._parcels.get(connection)
            if not parcel or not connection.run_on_commit:
                parcel = self._parcels[connection] = {}
        return parcel

    def _send_all(self, parcel: dict[str, Sending], first: str) -> None:
        """Send what a transaction has committed, together. Raises what the broker refused, once all is done."""
        left, refused = list(parcel.values()), None
        if connections[self.using].in_atomic_block:  # a test runs the callbacks that it wants to run
            left = [one for one in left if one.job.id == first]
        for one in left:
            del parcel[one.job.id]
        for some in (left[start : start + BATCH] for start in range(0, len(left), BATCH)):
            if len(left) > 1:  # some of them may have been in a savepoint that was rolled back
                ids = [one.job.id for one in some]
                there = set(self._rows.filter(pk__in=ids).values_list("pk", flat=True))
                some = [one for one in some if one.job.id in there]
            if not some:
                continue
            answers = self.send([one.job for one in some]) or [None] * len(some)
            for (_, sent), answer in zip(some, answers, strict=True):
                if not isinstance(answer, EnqueueError):
                    sent(answer)
                elif isinstance(answer, BrokerFull):
                    sent(None)
                else:
                    refused = refused or answer
        if refused is not None:
            raise refused

    def find(self, job_id: str) -> Job | None:
        """A job that the broker may not have yet."""
        body = self._rows.filter(pk=job_id).values_list("body", flat=True).first() if self.is_kept() else None
        return None if body is None else codec.decode_job(bytes(body))

    def send(self, jobs: Sequence[Job]) -> list[Accepted] | None:
        """Send jobs and remove their rows; what the broker answered, None if it could not be asked. Whatever it cannot
        take now stays here."""
        broker = self._app.broker
        try:
            answers = broker.enqueue(jobs)
        except (BrokerUnavailable, BrokerFull, SchemaError, BrokerRefused) as error:
            self._complain(broker.url, error)
            return None
        accepted = [job for job, answer in zip(jobs, answers, strict=True) if answer is None]
        if accepted and self._app.hooks.listens:
            self._app.hooks.tell_enqueued(accepted)
        if accepted and broker.runs_in == "embedded":
            self._app.start_worker()
        for answer in answers:
            if isinstance(answer, BrokerFull):
                self._complain(broker.url, answer)
        self._remove([job.id for job, answer in zip(jobs, answers, strict=True) if not isinstance(answer, BrokerFull)])
        return answers

    def _complain(self, url: str, error: Exception) -> None:
        if self._is_due("complain"):
            logger.warning("jobs wait in the database %r until %s takes them: %s", self.using, url, error)

    def _remove(self, ids: Sequence[str]) -> None:
        try:
            self._rows.filter(pk__in=ids).delete()
        except DatabaseError as error:  # they are sent once more, which most brokers notice
            logger.warning("%d jobs were sent and stay in the outbox: %s", len(ids), error)

    # ---- the keeper -------------------------------------------------------------------------------------------------

    def send_old(self) -> bool:
        """Send what others should have sent; whether there may be more."""
        try:
            return self._send_old()
        except (DatabaseError, InterfaceError) as error:
            if self._is_due("away"):
                logger.warning("the outbox in the database %r cannot be looked at: %s", self.using, error)
            return False

    def _send_old(self) -> bool:
        with self._hung_up():
            found, jobs = self._take() if self.is_kept() else (0, [])
        if not jobs:
            return False
        with self._hung_up():
            answers = self.send(jobs)
        if answers is None:
            return False
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, EnqueueError) and not isinstance(answer, BrokerFull):
                logger.error("job %s of %s cannot be sent, and is forgotten: %s", job.id, job.task, answer)
        logger.info("sent %d jobs that were committed and not sent", len(jobs))
        return found == BATCH and len(jobs) == found

    @contextmanager
    def _hung_up(self) -> Iterator[None]:
        """A connection for the length of a block: none is held while there is nothing to do."""
        try:
            yield
        finally:
            if not connections[self.using].in_atomic_block:
                connections[self.using].close()

    def _take(self) -> tuple[int, list[Job]]:
        """The jobs that are to be sent again, which no other keeper sends for a while; and how many rows there were."""
        due = self._rows.filter(send_at__lte=Clock())
        ids = list(due.order_by("send_at").values_list("pk", flat=True)[:BATCH])
        if not ids:
            return 0, []
        token = new_claim_id()
        due.filter(pk__in=ids).update(send_at=Clock() + Value(GRACE), taken_by=token)
        jobs: list[Job] = []
        for job_id, body in self._rows.filter(pk__in=ids, taken_by=token).order_by("pk").values_list("pk", "body"):
            try:
                jobs.append(codec.decode_job(bytes(body)))
            except Undecodable as error:
                if self._is_due("undecodable"):
                    logger.error("job %s in the outbox cannot be read, and stays there: %s", job_id, error)
        return len(ids), jobs
