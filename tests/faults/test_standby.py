"""A server that dies, and a standby that takes over. The scorecard (row 13) has it behind one address, under load."""

from __future__ import annotations

import secrets
import signal
from contextlib import closing

from outwork.brokers import open_broker
from outwork.brokers.base import Broker, Share
from outwork.errors import BrokerUnavailable
from outwork.testing.conformance import new_job
from support.postgres_server import PostgresServer
from support.waiting import until


def accepts(broker: Broker) -> bool:
    try:
        broker.enqueue([new_job()])
    except BrokerUnavailable:
        return False
    return True


def test_a_url_with_two_hosts_finds_the_one_that_was_promoted() -> None:
    with PostgresServer(wal_level="replica", max_wal_senders="4") as primary:
        standby = PostgresServer(None, primary)
        try:
            both = primary.url(target_session_attrs="read-write").replace(
                f"127.0.0.1:{primary.port}", f"127.0.0.1:{standby.port},127.0.0.1:{primary.port}"
            )
            with closing(open_broker(both)) as broker:
                accepted = sum(accepts(broker) for _ in range(20))
                primary.stop(signal.SIGKILL)
                accepted += sum(accepts(broker) for _ in range(2))  # nobody takes writes now
                standby.promote()
                until(lambda: accepts(broker), "a job accepted by the standby")
                found = broker.exchange(secrets.token_hex(16), [], [Share("default", 50)], 50, 50, "worker-1").claimed
                assert (accepted, len(found)) == (20, 21)
        finally:
            standby.clean_up()
