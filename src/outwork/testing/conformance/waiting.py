"""Promises of `wait` and `wait_result`: they end when there is something to do, when told to, and in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest

from outwork.brokers.base import Claimed
from outwork.job import Again, Dead, Done, Release
from outwork.testing.conformance.rig import (
    DEADLINE,
    Background,
    Promises,
    Rig,
    ids,
    new_failure,
    new_job,
    shares,
)

LONG = 120.0
"""A timeout that no passing test waits for."""


def claim_when_there_is_work(rig: Rig, *queues: str) -> Callable[[], Claimed]:
    """What a worker does: wait, claim one, wait again if the wake-up was a mere hint."""

    def run() -> Claimed:
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            if claimed := rig.claim(1, queues=shares(*queues)):
                return claimed[0]
            rig.broker.wait(queues, LONG)
        raise AssertionError(f"there was no work within {DEADLINE:.0f} seconds")

    return run


class WaitingPromises(Promises):
    def test_a_wait_ends_at_once_if_there_is_work(self, rig: Rig) -> None:
        rig.put_one()
        assert rig.broker.wait(["default"], LONG) is True

    def test_a_wait_ends_at_its_timeout(self, rig: Rig) -> None:
        begin = time.monotonic()
        assert rig.broker.wait(["default"], 0.2) is False
        assert 0.15 < time.monotonic() - begin < DEADLINE

    def test_a_wait_of_no_time_does_not_block(self, rig: Rig) -> None:
        assert rig.broker.wait(["default"], 0.0) is False

    def test_an_idle_wait_sleeps(self, rig: Rig) -> None:
        """The time of the whole process is counted, for a broker may wait in a thread of its own; so whatever else goes
        on in it may spoil a look, but not each."""
        rig.broker.wait(["default"], 0.01)
        assert any(self._sleeps(rig) for _ in range(5))

    def _sleeps(self, rig: Rig) -> bool:
        processor, wall = time.process_time(), time.monotonic()
        while (left := wall + 1.0 - time.monotonic()) > 0:
            rig.broker.wait(["default"], left)
        return time.process_time() - processor < 0.1

    def test_an_enqueue_wakes(self, rig: Rig) -> None:
        for _ in range(5):
            with Background(claim_when_there_is_work(rig, "default")) as worker:
                job_id = rig.put_one()
            assert worker.result().id == job_id

    def test_an_enqueue_through_another_object_wakes(self, rig: Rig) -> None:
        producer = rig.another()
        for _ in range(5):
            with Background(claim_when_there_is_work(rig, "default")) as worker:
                job_id = producer.put_one()
            assert worker.result().id == job_id

    def test_any_of_several_queues_wakes(self, rig: Rig) -> None:
        for queue in ("a", "b", "c"):
            with Background(claim_when_there_is_work(rig, "a", "b", "c")) as worker:
                job_id = rig.put_one(new_job(queue=queue))
            assert worker.result().id == job_id

    def test_work_in_other_queues_is_not_waited_for(self, rig: Rig) -> None:
        rig.put(new_job(queue="other"))
        assert rig.broker.wait(["default"], 0.1) is False

    def test_a_job_falling_due_wakes(self, rig: Rig) -> None:
        rig.need("defer")
        job_id = rig.put_one(new_job(delay=0.3))
        assert claim_when_there_is_work(rig, "default")().id == job_id

    def test_a_new_earliest_due_job_wakes(self, rig: Rig) -> None:
        rig.need("defer")
        rig.put_one(new_job(delay=3600.0))
        with Background(claim_when_there_is_work(rig, "default")) as worker:
            job_id = rig.another().put_one(new_job(delay=0.3))
        assert worker.result().id == job_id

    def test_a_retry_falling_due_wakes(self, rig: Rig) -> None:
        rig.need("defer", "fenced")
        job_id = rig.put_one()
        claimed = rig.take_one()
        with Background(claim_when_there_is_work(rig, "default")) as worker:
            rig.another().settle(claimed, Again(0.3))
        assert worker.result().id == job_id

    def test_a_job_given_back_wakes(self, rig: Rig) -> None:
        rig.need("fenced")
        job_id = rig.put_one()
        claimed = rig.take_one()
        with Background(claim_when_there_is_work(rig, "default")) as worker:
            rig.another().settle(claimed, Release())
        assert worker.result().id == job_id

    def test_a_rescued_job_wakes(self, rig: Rig) -> None:
        rig.need("fenced")
        job_id = rig.put_one()
        rig.take_one(worker="dead")
        with Background(claim_when_there_is_work(rig, "default")) as worker:
            rig.another().crash("dead")
        assert worker.result().id == job_id

    def test_a_job_retried_by_hand_wakes(self, rig: Rig) -> None:
        store = rig.another().store
        job_id = rig.end(Dead((new_failure(),)))
        with Background(claim_when_there_is_work(rig, "default")) as worker:
            store.retry([job_id])
        assert worker.result().id == job_id

    def test_one_ring_is_enough_for_all_workers(self, rig: Rig) -> None:
        """A batch rings once; each claim that leaves ready jobs rings again."""
        workers = [Background(claim_when_there_is_work(rig.another(), "default")).asleep() for _ in range(4)]
        jobs = rig.put(*(new_job() for _ in range(4)))
        assert sorted(ids([worker.result() for worker in workers])) == sorted(jobs)

    # ---- told to end ----

    def test_an_interrupt_ends_the_wait(self, rig: Rig) -> None:
        with Background(partial(rig.broker.wait, ["default"], LONG)) as waiting:
            rig.broker.interrupt()
        assert waiting.result() is False

    def test_an_interrupt_ends_the_next_wait_if_none_is_waiting(self, rig: Rig) -> None:
        rig.broker.interrupt()
        assert rig.broker.wait(["default"], LONG) is False

    def test_an_interrupt_ends_one_wait_only(self, rig: Rig) -> None:
        rig.broker.interrupt()
        rig.broker.wait(["default"], LONG)
        rig.put_one()
        assert rig.broker.wait(["default"], LONG) is True

    def test_closing_ends_the_wait(self, rig: Rig) -> None:
        with Background(partial(rig.broker.wait, ["default"], LONG)) as waiting:
            rig.broker.close()
        assert waiting.result() is False

    def test_closing_twice_is_fine(self, rig: Rig) -> None:
        rig.put_one()
        rig.broker.close()
        rig.broker.close()

    def test_closing_unused_is_fine(self, rig: Rig) -> None:
        rig.another().broker.close()

    # ---- results ----

    def test_a_result_that_is_there_is_not_waited_for(self, rig: Rig) -> None:
        store = rig.store
        done = rig.end(Done(b"1"))
        waiting = rig.put_one()
        assert store.wait_result([done, waiting], LONG) == {done}

    def test_failed_and_cancelled_jobs_have_ended_too(self, rig: Rig) -> None:
        rig.need("cancel")
        store = rig.store
        failed = rig.end(Dead((new_failure(),)))
        cancelled = rig.put_one()
        store.cancel([cancelled])
        assert store.wait_result([failed, cancelled], LONG) == {failed, cancelled}

    def test_an_unknown_job_counts_as_ended(self, rig: Rig) -> None:
        store = rig.store
        unknown = new_job().id
        assert store.wait_result([unknown, rig.put_one()], LONG) == {unknown}

    def test_waiting_for_a_result_ends_at_its_timeout(self, rig: Rig) -> None:
        store = rig.store
        job_id = rig.put_one()
        begin = time.monotonic()
        assert store.wait_result([job_id], 0.2) == set()
        assert 0.15 < time.monotonic() - begin < DEADLINE

    def test_a_settle_ends_waiting_for_its_result(self, rig: Rig) -> None:
        store = rig.another().store
        for outcome in (Done(b"1"), Dead((new_failure(),))):
            job_id = rig.put_one()
            claimed = rig.take_one()
            with Background(partial(store.wait_result, [job_id], LONG)) as waiting:
                rig.settle(claimed, outcome)
            assert waiting.result() == {job_id}

    def test_a_cancel_ends_waiting_for_the_result(self, rig: Rig) -> None:
        rig.need("cancel")
        store = rig.another().store
        job_id = rig.put_one()
        with Background(partial(store.wait_result, [job_id], LONG)) as waiting:
            rig.store.cancel([job_id])
        assert waiting.result() == {job_id}

    def test_a_burial_ends_waiting_for_the_result(self, rig: Rig) -> None:
        rig.need("fenced")
        store = rig.another().store
        job_id = rig.put_one(new_job(max_crashes=0))
        rig.take_one()
        with Background(partial(store.wait_result, [job_id], LONG)) as waiting:
            rig.crash()
        assert waiting.result() == {job_id}

    def test_a_job_that_will_be_run_again_has_not_ended(self, rig: Rig) -> None:
        store = rig.store
        job_id = rig.put_one()
        rig.settle(rig.take_one(), Again(0.0))
        assert store.wait_result([job_id], 0.1) == set()

    def test_several_threads_may_wait_for_the_same_result(self, rig: Rig) -> None:
        store = rig.store
        job_id = rig.put_one()
        claimed = rig.take_one()
        waiting = [Background(partial(store.wait_result, [job_id], LONG)).asleep() for _ in range(3)]
        rig.settle(claimed, Done(b"1"))
        assert [each.result() for each in waiting] == [{job_id}] * 3

    @pytest.mark.parametrize("way", ["interrupt", "close"])
    def test_waiting_for_a_result_can_be_ended(self, rig: Rig, way: str) -> None:
        store = rig.store
        job_id = rig.put_one()
        with Background(partial(store.wait_result, [job_id], LONG)) as waiting:
            if way == "close":
                rig.broker.close()
            else:
                store.interrupt_wait_result()
        assert waiting.result() == set()

    def test_an_interrupt_ends_the_next_waiting_for_a_result_if_none_is_waiting(self, rig: Rig) -> None:
        store = rig.store
        job_id = rig.put_one()
        store.interrupt_wait_result()
        assert store.wait_result([job_id], LONG) == set()
