"""PostgreSQL and MariaDB that lose connections, replies, or are stopped, while jobs go in and workers run them."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec import Raw

from outwork import Outwork
from outwork.brokers import open_broker
from outwork.brokers.base import Claim, Claimed, Settlement, Share
from outwork.brokers.sql.postgresql.session import connect
from outwork.errors import BrokerRefused, BrokerUnavailable, SchemaError
from outwork.ids import new_job_id
from outwork.job import Again, Answer, Dead, Done, Job, Outcome, Release, State
from support import chores
from support.ledger import Ledger, write
from support.mariadb_server import MariaDBServer, shared_mariadb
from support.ports import free_port
from support.postgres_server import PostgresServer, program, shared_postgres
from support.programs import find
from support.proxy import Proxy
from support.waiting import until
from support.workers import Workers, workers_in

TARGET = "support.chores"
Server = PostgresServer | MariaDBServer


def a_job(queue: str = "default") -> Job:
    return Job(v=1, id=new_job_id(), task="suite.task", args=Raw(b'{"x":1}'), queue=queue)


@pytest.fixture(params=["postgresql", "mysql"])
def server(request: pytest.FixtureRequest) -> Server:
    """The shared server, without jobs."""
    found = shared_postgres() if request.param == "postgresql" else shared_mariadb()
    found.empty()
    return found


@pytest.fixture(params=["postgresql", "mysql"])
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of the test's own, which it may stop."""
    with PostgresServer() if request.param == "postgresql" else MariaDBServer() as found:
        yield found


class Producer:
    """Enqueues one job after another, and again what was not acknowledged, each with the id it had."""

    def __init__(self, url: str) -> None:
        self._app = Outwork(url)
        self._over = threading.Event()
        self.acknowledged: list[str] = []
        self.refused = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        args = chores.step.payload
        while not self._over.is_set():
            key = f"job-{number}"
            job = Job(
                v=1,
                id=new_job_id(),
                task=chores.step.name,
                args=args.encode((key, 0.01), {}, 1_000_000),
                queue="default",
            )
            while not self._over.is_set():
                try:
                    self._app.broker.enqueue([job])
                except BrokerUnavailable:
                    self.refused += 1
                    continue
                write("K", key)
                self.acknowledged.append(job.id)
                break
            number += 1

    def stop(self) -> None:
        self._over.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._app.close()


@contextmanager
def producing(url: str) -> Iterator[Producer]:
    producer = Producer(url)
    try:
        yield producer
    finally:
        producer.stop()


@contextmanager
def at_work(folder: Path, url: str, environ: dict[str, str]) -> Iterator[Workers]:
    with workers_in(folder, url, environ) as workers:
        yield workers


def all_done(url: str, ledger: Ledger, acknowledged: list[str]) -> None:
    """What was acknowledged is done, and nothing failed."""
    app = Outwork(url)
    try:
        until(
            lambda: {r.state for r in app.store.get(acknowledged) if r is not None} == {State.SUCCESSFUL},
            "the end of all jobs",
            seconds=90,
            pause=0.2,
        )
        assert None not in app.store.get(acknowledged)
        assert ledger.lost() == set()
        bad = [count for count in app.store.counts() if count.state not in (State.SUCCESSFUL,)]
        assert [count for count in bad if count.state in (State.FAILED, State.CANCELLED)] == []
    finally:
        app.close()


def test_connections_are_killed_all_the_time(
    server: Server, ledger: Ledger, environ: dict[str, str], tmp_path: Path
) -> None:
    with at_work(tmp_path, server.url(), environ) as workers:
        running = workers.start(TARGET, "--concurrency", "4").ready()
        with producing(server.url()) as producer:
            until(lambda: ledger.count("E") > 20, "some work")
            for _ in range(6):
                before = ledger.count("E")
                until(lambda: server.end_connections() >= 2, "connections to kill")
                until(lambda before=before: ledger.count("E") > before + 20, "work after it")  # type: ignore[misc]
        all_done(server.url(), ledger, producer.acknowledged)
        assert len(ledger.twice()) <= 6 * 4
        assert running.text().lower().count("trying again") <= 3
        assert running.stop() == 0


def test_a_server_is_stopped_and_started(
    own_server: Server, ledger: Ledger, environ: dict[str, str], tmp_path: Path
) -> None:
    """At once, so that it recovers from its log at the next start."""
    url = own_server.url()
    with at_work(tmp_path, url, environ) as workers:
        running = workers.start(TARGET, "--concurrency", "4").ready()
        with producing(url) as producer:
            until(lambda: ledger.count("E") > 20, "some work")
            own_server.stop()
            until(lambda: producer.refused > 0, "a refusal")
            own_server.start()
            before = ledger.count("E")
            until(lambda: ledger.count("E") > before + 50, "work after it", seconds=60)
        all_done(url, ledger, producer.acknowledged)
        assert len(ledger.twice()) <= 4
        assert running.stop() == 0


def through(server: Server, proxy: Proxy) -> str:
    return server.url(port=proxy.port)


def test_an_enqueue_whose_reply_is_lost_is_one_job(server: Server) -> None:
    with Proxy(server.port) as proxy, closing(open_broker(through(server, proxy))) as broker:
        for _ in range(20):
            broker.enqueue([a_job("warm")])
            proxy.eat_replies(1)
            broker.enqueue([a_job()])
        assert proxy.eaten == 20
    with closing(open_broker(server.url())) as broker:
        counts = broker.counts()  # type: ignore[attr-defined]
        assert {count.queue: count.jobs for count in counts} == {"default": 20, "warm": 20}


def test_an_exchange_whose_reply_is_lost_is_told_when_it_is_repeated(server: Server) -> None:
    with Proxy(server.port) as proxy, closing(open_broker(through(server, proxy))) as broker:
        broker.enqueue([a_job() for _ in range(40)])
        settled: list[Answer] = []
        held: list[Settlement] = []
        for _ in range(10):
            claim_id = secrets.token_hex(16)
            proxy.eat_replies(1)
            answer = None
            while answer is None:
                with suppress(BrokerUnavailable):
                    answer = broker.exchange(claim_id, held, [Share("default", 4)], 4, 4, "worker-1")
            settled += answer.answers
            assert len(answer.claimed) == 4
            held = [Settlement(one.id, one.claim_id, Done(b"1")) for one in answer.claimed]
        settled += broker.exchange(secrets.token_hex(16), held, [], 0, 0, "worker-1").answers
        assert len(settled) == 40
        assert Answer.STALE not in settled
        assert proxy.eaten >= 10
        states = {count.state: count.jobs for count in broker.counts()}  # type: ignore[attr-defined]
        assert states == {State.SUCCESSFUL: 40}


def waits_for_a_lock(server: Server) -> bool:
    if isinstance(server, PostgresServer):
        return server.ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") != [(0,)]
    waiting = "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    return server.ask(waiting, user="root", database=None) != [(0,)]


def test_a_settle_that_waits_for_a_rescue_is_stale(server: Server) -> None:
    """The job is taken from its worker, and given to another, while the first says how it ended."""
    with closing(open_broker(server.url())) as broker, closing(server.connect()) as other:
        broker.enqueue([a_job()])
        [one] = broker.exchange(secrets.token_hex(16), [], [Share("default", 1)], 1, 1, "worker-1").claimed
        broker.exchange(secrets.token_hex(16), [], [], 0, 0, "worker-1")  # the connection has been used
        told: list[Answer] = []
        done = [Settlement(one.id, one.claim_id, Done(b"1"))]
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("UPDATE outwork_running SET claim_id = 'of another', worker = 'worker-2'")
            thread = threading.Thread(
                target=lambda: told.extend(broker.exchange(secrets.token_hex(16), done, [], 0, 0, "worker-1").answers)
            )
            thread.start()
            until(lambda: waits_for_a_lock(server), "the settle to wait")
            cursor.execute("COMMIT")
        thread.join(60)
        assert told == [Answer.STALE]
        [record] = broker.get([one.id])  # type: ignore[attr-defined]
        assert (record.state, record.claim_id) == (State.RUNNING, "of another")


@pytest.mark.parametrize("size", [4, 12])
def test_a_frozen_worker_is_in_nobodys_way(server: Server, size: int) -> None:
    """One that stands still in a transaction keeps rows locked: its own only, however few there are beside them."""
    with closing(open_broker(server.url())) as broker, closing(server.connect()) as frozen:
        broker.enqueue([a_job() for _ in range(size + 3)])

        def claim(worker: str, count: int) -> list[Claimed]:
            return broker.exchange(secrets.token_hex(16), [], [Share("default", count)], count, count, worker).claimed

        [its] = claim("frozen", 1)
        ours = claim("healthy", size)
        outcomes: tuple[Outcome, ...] = (Done(b"1"), Again(0.0), Dead(()), Release())
        ends = [Settlement(one.id, one.claim_id, outcomes[n % 4]) for n, one in enumerate(ours[: size - 1])]
        done: list[Claimed] = []

        def work() -> None:
            broker.extend([Claim(one.id, one.claim_id) for one in ours])
            for some in (ends[:2], ends[2:]):
                assert set(broker.exchange(secrets.token_hex(16), some, [], 0, 0, "healthy").answers) == {Answer.DONE}
            done.extend(claim("healthy", 1))

        with frozen.cursor() as cursor:
            if isinstance(server, MariaDBServer):  # as workers do
                cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            cursor.execute("BEGIN")
            for table in ("running", "job"):
                cursor.execute(f"SELECT id FROM outwork_{table} WHERE id = %s FOR UPDATE", [its.id])
            cursor.execute("SELECT id FROM outwork_ready ORDER BY queue, solo, turn, due, id LIMIT 1 FOR UPDATE")
            thread = threading.Thread(target=work)
            thread.start()
            until(lambda: len(done) == 1, "work beside it")
            cursor.execute("ROLLBACK")
        thread.join(60)


def test_a_partition_heals(server: Server, ledger: Ledger, environ: dict[str, str], tmp_path: Path) -> None:
    with Proxy(server.port) as proxy, at_work(tmp_path, through(server, proxy), environ) as workers:
        running = workers.start(TARGET, "--concurrency", "4").ready()
        app = Outwork(server.url())
        jobs = app.enqueue_many(chores.step.bind(f"job-{n}", 0.01) for n in range(300))
        until(lambda: ledger.count("E") > 20, "some work")
        proxy.refuse()
        time.sleep(1.0)  # this long it lasts
        proxy.refuse(False)
        until(lambda: ledger.count("E") >= 300, "all of it", seconds=60)
        ids = [job.id for job in jobs]
        until(lambda: {r and r.state for r in app.store.get(ids)} == {State.SUCCESSFUL}, "all settled", seconds=60)
        assert len(ledger.twice()) == 0
        app.close()
        assert running.stop() == 0


# ---- what is refused, and how it is said ----------------------------------------------------------------------------


def refusal(url: str, kind: type[Exception], seconds: float = 6.0) -> str:
    """What an enqueue says, within seconds, on one line."""
    begin = time.monotonic()
    with closing(open_broker(url)) as broker, pytest.raises(kind) as caught:
        broker.enqueue([a_job()])
    assert time.monotonic() - begin < seconds
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_a_server_that_is_away(server: Server) -> None:
    said = refusal(server.url(port=free_port()), BrokerUnavailable)
    assert "cannot be reached" in said
    assert "Is it running" in said


def test_a_database_that_is_missing(server: Server) -> None:
    assert "nowhere" in refusal(server.url("nowhere"), BrokerRefused)


def test_a_user_that_is_unknown(server: Server) -> None:
    assert "Check the URL" in refusal(server.url().replace("tester@", "nobody:secret@"), BrokerRefused)
    assert "secret" not in refusal(server.url().replace("tester@", "nobody:secret@"), BrokerRefused)


def test_tables_that_nobody_may_make(server: Server) -> None:
    assert "outwork migrate" in refusal(server.url(migrate="false", table_prefix="none_"), SchemaError)


def test_tables_that_are_newer(server: Server) -> None:
    with closing(open_broker(server.url(table_prefix="newer_"))) as broker:
        broker.enqueue([a_job()])
    server.ask("UPDATE newer_meta SET value = '99' WHERE name IN ('version', 'oldest')")
    try:
        assert "Upgrade outwork" in refusal(server.url(table_prefix="newer_"), SchemaError)
    finally:
        server.ask("UPDATE newer_meta SET value = '1' WHERE name IN ('version', 'oldest')")


def test_many_processes_make_the_tables_at_once(server: Server, environ: dict[str, str]) -> None:
    prefix = f"race{secrets.token_hex(4)}_"
    code = (
        "import sys; from outwork.brokers import open_broker; b = open_broker(sys.argv[1]); b.queues();"
        " print(b.identity()); b.close()"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, server.url(table_prefix=prefix)], stdout=subprocess.PIPE, env=environ
        )
        for _ in range(6)
    ]
    said = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 6
    assert len(said) == 1


def test_no_more_connections() -> None:
    with PostgresServer(max_connections="6", superuser_reserved_connections="0") as server:
        held = [server.connect() for _ in range(5)]
        try:
            with suppress(psycopg.OperationalError):
                held.append(server.connect())
            assert "takes no more connections" in refusal(server.url(), BrokerUnavailable)
        finally:
            for one in held:
                one.close()


def test_a_standby_is_not_written_to() -> None:
    with PostgresServer() as server:
        with closing(open_broker(server.url())) as broker:
            broker.enqueue([a_job()])
        server.ask("ALTER DATABASE postgres SET default_transaction_read_only = on")
        assert "read-only" in refusal(server.url(), BrokerUnavailable)


def test_a_child_after_a_fork_has_connections_of_its_own(server: Server) -> None:
    """As under a server that loads the application first and forks then."""
    with closing(open_broker(server.url())) as broker:
        broker.enqueue([a_job()])
        claim = secrets.token_hex(16)
        [one] = broker.exchange(claim, [], [Share("default", 1)], 1, 1, "worker-1").claimed
        children: list[int] = []
        for _ in range(3):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # this is what such servers do
                child = os.fork()
            if not child:
                refused = any(broker.enqueue([a_job("child") for _ in range(5)]))
                broker.close()
                os._exit(refused)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
        done = Settlement(one.id, claim, Done(b"null"))
        assert broker.exchange(secrets.token_hex(16), [done], [], 0, 0, "worker-1").answers == [Answer.DONE]
        found = broker.exchange(secrets.token_hex(16), [], [Share("child", 20)], 20, 20, "worker-1").claimed
        assert len({one.id for one in found}) == 15


def test_an_idle_connection_that_was_closed_is_replaced_unseen(server: Server) -> None:
    with closing(open_broker(server.url())) as broker:
        broker.enqueue([a_job()])
        [one] = broker.exchange(secrets.token_hex(16), [], [Share("default", 1)], 1, 1, "worker-1").claimed
        server.end_connections()
        broker.enqueue([a_job()])
        done = [Settlement(one.id, one.claim_id, Done(b"1"))]
        answer = broker.exchange(secrets.token_hex(16), done, [Share("default", 1)], 1, 1, "worker-1")
        assert answer.answers == [Answer.DONE]
        assert len(answer.claimed) == 1


def test_a_listener_whose_connection_was_killed_hears_again(server: Server) -> None:
    with closing(open_broker(server.url())) as broker, closing(open_broker(server.url())) as producer:
        producer.enqueue([a_job("warm")])
        woken: list[bool] = []

        def listen() -> None:
            while not woken:
                with suppress(BrokerUnavailable):
                    if broker.wait(["default"], 600.0):
                        woken.append(True)

        thread = threading.Thread(target=listen)
        thread.start()
        until(lambda: server.end_connections() > 0, "a connection to kill")
        producer.enqueue([a_job()])
        thread.join(60)
        assert woken


def test_a_silent_server_does_not_stop_the_other_threads() -> None:
    server = shared_postgres()
    where = {"host": "127.0.0.1", "port": str(server.port), "user": "tester", "dbname": "postgres"}
    with closing(connect(where, prepare=True, settings={})) as session:
        session.lie_down("outwork_silent", 1, 1)
        pid = session.connection.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
        session.stand_up(1, 1)
        with subprocess.Popen(["/bin/sh", "-c", f"sleep 1; kill -CONT {pid}"]):
            usable: list[bool] = []
            thread = threading.Thread(target=lambda: usable.append(session.usable))
            thread.start()
            turns = 0
            while thread.is_alive():
                thread.join(0.01)
                turns += 1
        assert usable == [True]
        assert turns > 5, "this thread stood still as long as the server did"


# ---- behind PgBouncer -----------------------------------------------------------------------------------------------


@contextmanager
def pgbouncer(server: PostgresServer, folder: Path) -> Iterator[int]:
    """A PgBouncer in transaction mode before the server; its port."""
    binary = find("pgbouncer")
    if binary is None:
        pytest.skip("pgbouncer is not installed")
    port = free_port()
    place = server.folder / f"bouncer-{port}"
    place.mkdir()
    (place / "users.txt").write_text('"tester" ""\n')
    (place / "pgbouncer.ini").write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={server.port} dbname=postgres user=tester\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n"
        f"auth_file = {place}/users.txt\npool_mode = transaction\ndefault_pool_size = 5\nunix_socket_dir =\n"
    )
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        for path in (place, *place.iterdir()):
            shutil.chown(path, user, user)
    process = subprocess.Popen(
        [binary, "-q", str(place / "pgbouncer.ini")], user=user, group=user, stderr=subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def test_behind_pgbouncer(ledger: Ledger, environ: dict[str, str], tmp_path: Path) -> None:
    """Enough jobs and threads for every statement to meet every server connection."""
    assert program("postgres")
    server = shared_postgres()
    server.empty()
    with pgbouncer(server, tmp_path) as port:
        url = server.url(port=port, prepare="false", listen="false")
        until(lambda: _answers(url), "the pooler")
        with at_work(tmp_path, url, environ) as workers:
            running = [workers.start(TARGET, "--concurrency", "4").ready() for _ in range(2)]
            app = Outwork(url)
            assert not app.broker.capabilities.push
            batches: list[Any] = []
            threads = [threading.Thread(target=_enqueue, args=(app, number, batches)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            ids = [result.id for batch in batches for result in batch]
            assert len(ids) == 400
            until(lambda: {r and r.state for r in app.store.get(ids)} == {State.SUCCESSFUL}, "all done", seconds=60)
            assert set(ledger.keys("E").values()) == {1}
            assert all(one.stop() == 0 for one in running)
            app.close()


def _enqueue(app: Outwork, number: int, batches: list[Any]) -> None:
    batches.append(app.enqueue_many(chores.step.bind(f"many-{number}-{n}", 0.0) for n in range(100)))


def _answers(url: str) -> bool:
    with closing(open_broker(url)) as broker, suppress(BrokerUnavailable):
        broker.queues()
        return True
    return False
