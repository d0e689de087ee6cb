"""MySQL and MariaDB keep every promise, on a private server."""

from __future__ import annotations

import pytest

from outwork.brokers.base import Broker
from outwork.brokers.sql.mysql import MySQLBroker
from outwork.job import Terms
from outwork.testing.conformance import BrokerConformance, MakeBroker, OutboxConformance
from support.mariadb_server import shared_mariadb


class TestMySQL(BrokerConformance, OutboxConformance):
    @pytest.fixture
    def make_broker(self) -> MakeBroker:
        server = self.server = shared_mariadb()
        server.empty()

        def make(terms: Terms | None = None) -> MySQLBroker:
            return MySQLBroker.from_url(server.url(), terms)

        return make

    def plant_garbage(self, broker: Broker, job_id: str, body: bytes) -> None:
        self.server.ask("UPDATE outwork_job SET body = %s WHERE id = %s", [body, job_id])
