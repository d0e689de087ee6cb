"""Ids that are made before the first byte is sent."""

from __future__ import annotations

import threading
import time
import uuid

import pytest

from outwork.ids import new_claim_id, new_job_id


def test_a_job_id_is_a_uuid_of_version_seven() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(new_job_id())
    after = time.time_ns() // 1_000_000
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert before - 1 <= made.int >> 80 <= after + 1
    assert str(made) == str(uuid.UUID(str(made)))


def test_job_ids_sort_in_the_order_of_their_making() -> None:
    made = [new_job_id() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_a_clock_that_is_set_back_does_not_disturb_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    first = new_job_id()
    past = time.time_ns() - 3_600_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: past)
    assert first < new_job_id() < new_job_id()


def test_threads_make_different_ids() -> None:
    made: list[str] = []

    def make() -> None:
        made.extend(new_job_id() for _ in range(2_000))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 16_000


def test_a_claim_id_is_random() -> None:
    made = {new_claim_id() for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(len(one) == 32 and int(one, 16) >= 0 for one in made)
