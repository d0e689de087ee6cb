"""What an application wants done wherever a worker of it runs."""

from __future__ import annotations

import threading

import pytest

from outwork import Outwork
from outwork.worker.chores import Chores


def test_a_draining_worker_does_them_first_and_to_their_end() -> None:
    app, left = Outwork("immediate:"), [1, 2, 3]

    def chore() -> bool:
        left.pop()
        return bool(left)

    app.chores.append(chore)
    with Chores(app, drain=True):
        assert left == []


def test_what_goes_wrong_is_logged_and_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    app, done = Outwork("immediate:"), threading.Event()

    def wrong() -> bool:
        raise ZeroDivisionError("as asked")

    def right() -> bool:
        done.set()
        return False

    app.chores += [wrong, right]
    with Chores(app):
        assert done.wait(60)
    assert [record.getMessage() for record in caplog.records] == ["a chore failed: as asked"]


def test_a_worker_inside_the_web_process_does_them_too() -> None:
    app, done = Outwork("thread:"), threading.Event()

    def chore() -> bool:
        done.set()
        return False

    app.chores.append(chore)
    try:
        app.start_worker(serving=True)
        assert done.wait(60)
    finally:
        app.close()
