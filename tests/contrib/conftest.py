"""An application in memory and its worker, for the tests of ready-made tasks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from outwork import Outwork
from outwork.testing import LocalWorker, local_worker


@pytest.fixture
def app() -> Outwork:
    return Outwork()


@pytest.fixture
def worker(app: Outwork) -> Iterator[LocalWorker]:
    with local_worker(app) as worker:
        yield worker
