"""The pytest plugin: one fixture for each way to run jobs in a test.

- `outwork_recorder`: jobs are recorded and never run
- `outwork_inline`: jobs run in their callers
- `outwork_worker`: jobs wait until `drain()` runs them; `outwork_clock` moves its clock
- `outwork_app`: the application they are about; override it if yours is not the default one
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from outwork import app as applications
from outwork.testing import Clock, Inline, LocalWorker, Recorder, inline, local_worker, recording


@pytest.fixture
def outwork_app() -> applications.Outwork:
    """The application under test: the default one. Override it to return your own."""
    return applications.default_app


@pytest.fixture
def outwork_recorder(outwork_app: applications.Outwork) -> Iterator[Recorder]:
    """Jobs are recorded and never run: `assert_enqueued(task, ...)`, `jobs`."""
    with recording(outwork_app) as recorder:
        yield recorder


@pytest.fixture
def outwork_inline(outwork_app: applications.Outwork) -> Iterator[Inline]:
    """Jobs run in their callers, before `enqueue` returns, whatever broker is configured."""
    with inline(outwork_app) as jobs:
        yield jobs


@pytest.fixture
def outwork_worker(outwork_app: applications.Outwork) -> Iterator[LocalWorker]:
    """Jobs wait in memory until `drain()` (or `await adrain()`) runs them in the test's thread."""
    with local_worker(outwork_app) as worker:
        yield worker


@pytest.fixture
def outwork_clock(outwork_worker: LocalWorker) -> Clock:
    """The clock of `outwork_worker`: `move(timedelta(hours=1))` makes scheduled jobs and retries due."""
    return outwork_worker.clock
