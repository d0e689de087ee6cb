"""The broker of the servers, looked at from outside."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from outwork.brokers.base import Filter
from outwork.brokers.sql.sqlite import SQLiteBroker
from outwork.job import Record, State
from outwork.testing.conformance.rig import new_job

DAY: Final = 86_400.0


class Books:
    """A SQLite file, on a connection of the test's own."""

    def __init__(self, path: Path) -> None:
        self.broker = SQLiteBroker(path)

    def schedule_for_yesterday(self, key: str, task: str = "embedded.shop.step") -> str:
        """A job that was scheduled two days ago for yesterday, when nobody was there to run it."""
        now = time.time()
        self.broker.clock_offset = -2 * DAY
        [refusal] = self.broker.enqueue([new_job(task, args=b'{"key":"%s"}' % key.encode(), due=now - DAY)])
        assert refusal is None
        [record] = self.records()
        assert record.state is State.SCHEDULED
        self.broker.clock_offset = 0.0
        return record.id

    def records(self, *states: State) -> list[Record]:
        return self.broker.find(Filter(states=states or tuple(State)), limit=1000).records

    def workers(self) -> set[int]:
        """The pids of the processes in which a worker lives."""
        return {presence.pid for presence in self.broker.workers()}

    def given_back(self) -> list[str]:
        """The ids of jobs that wait as if they had never been started. All that wait must be so."""
        waiting = self.records(State.READY)
        assert {(record.attempts, record.crashes, record.failures) for record in waiting} <= {(0, 0, 0)}
        assert self.records(State.RUNNING) == []
        return [record.id for record in waiting]
