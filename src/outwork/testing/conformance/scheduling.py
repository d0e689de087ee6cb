"""Promises of due times and expiry: by the broker's clock, in the broker."""

from __future__ import annotations

import pytest

from outwork.job import Again, Answer, Done, Release, State
from outwork.testing.conformance.rig import Promises, Rig, about, ids, new_job, shares


class SchedulingPromises(Promises):
    def test_a_delayed_job_waits_until_it_is_due(self, rig: Rig) -> None:
        rig.need("defer")
        job_id = rig.put_one(new_job(delay=60.0))
        assert rig.claim() == []
        rig.advance(50)
        assert rig.claim() == []
        rig.advance(11)
        assert rig.take_one().id == job_id

    def test_a_job_with_a_due_time_waits_for_it(self, rig: Rig) -> None:
        rig.need("defer")
        job_id = rig.put_one(new_job(due=rig.broker.now() + 60))
        assert rig.claim() == []
        rig.advance(61)
        assert rig.take_one().id == job_id

    def test_a_due_time_in_the_past_means_at_once(self, rig: Rig) -> None:
        rig.need("defer")
        job_id = rig.put_one(new_job(due=rig.broker.now() - 3600))
        assert rig.take_one().id == job_id

    def test_a_waiting_job_is_scheduled_and_then_ready(self, rig: Rig) -> None:
        rig.need("defer")
        job_id = rig.put_one(new_job(delay=60.0))
        record = rig.record(job_id)
        assert record.state is State.SCHEDULED
        assert record.due == pytest.approx(record.enqueued_at + 60)
        rig.advance(61)
        after = rig.record(job_id)
        assert (after.state, after.due) == (State.READY, record.due)

    def test_a_delay_counts_from_the_broker_s_clock(self, rig: Rig) -> None:
        rig.need("defer")
        rig.advance(5000)
        record = rig.record(rig.put_one(new_job(delay=60.0)))
        assert record.enqueued_at == about(rig.broker.now())
        assert record.due == about(rig.broker.now() + 60)

    def test_the_offset_moves_the_broker_s_clock(self, rig: Rig) -> None:
        before = rig.broker.now()
        rig.broker.clock_offset += 1000
        assert rig.broker.now() == about(before + 1000)
        rig.broker.clock_offset -= 1000

    def test_promoted_jobs_stand_in_the_order_of_their_due_times(self, rig: Rig) -> None:
        rig.need("defer")
        third, second, first = rig.put(new_job(delay=30.0), new_job(delay=20.0), new_job(delay=10.0))
        rig.advance(60)
        fourth = rig.put_one()
        assert ids(rig.take(4)) == [first, second, third, fourth]

    def test_thousands_of_jobs_due_at_once_are_all_run(self, rig: Rig) -> None:
        rig.need("defer")
        jobs = rig.put(*(new_job(delay=60.0) for _ in range(2500)))
        rig.advance(61)
        taken: list[str] = []
        while len(taken) < len(jobs):
            taken += ids(rig.take(500))
        assert taken == jobs

    # ---- until the next one ----

    def test_an_exchange_says_when_the_next_job_is_due(self, rig: Rig) -> None:
        rig.need("defer", "results")
        assert rig.exchange().next_due is None
        rig.put(new_job(delay=600.0), new_job(delay=60.0), new_job(delay=3600.0))
        assert rig.exchange().next_due == about(60)
        rig.advance(30)
        assert rig.exchange().next_due == about(30)

    def test_the_next_due_job_is_one_of_the_queues_asked_for(self, rig: Rig) -> None:
        rig.need("defer", "results")
        rig.put(new_job(queue="a", delay=100.0), new_job(queue="b", delay=1000.0))
        assert rig.exchange(queues=shares("a", "b")).next_due == about(100)
        assert rig.exchange(queues=shares("b")).next_due == about(1000)
        assert rig.exchange(queues=shares("c")).next_due is None

    def test_a_job_that_is_no_longer_scheduled_is_not_the_next_due(self, rig: Rig) -> None:
        rig.need("defer", "cancel")
        _, first, _ = rig.put(new_job(queue="other", delay=30.0), new_job(delay=60.0), new_job(delay=600.0))
        rig.store.cancel([first])
        assert rig.exchange().next_due == about(600)

    def test_a_retry_just_settled_is_the_next_due(self, rig: Rig) -> None:
        rig.need("defer", "results")
        rig.put_one()
        rig.settle(rig.take_one(), Again(200.0))
        assert rig.exchange().next_due == about(200)

    # ---- expiry ----

    def test_a_job_is_run_until_it_expires(self, rig: Rig) -> None:
        rig.put_one(new_job(expires=60.0))
        rig.advance(45)
        assert rig.tend().expired == 0
        rig.take_one()

    def test_an_expired_job_is_never_claimed(self, rig: Rig) -> None:
        rig.put_one(new_job(expires=60.0))
        neighbour = rig.put_one()
        rig.advance(61)
        assert ids(rig.claim()) == [neighbour]

    def test_an_expired_job_ends_failed_with_the_reason(self, rig: Rig) -> None:
        job_id = rig.put_one(new_job(expires=60.0))
        assert rig.record(job_id).state is State.READY
        rig.advance(61)
        assert rig.tend(rescue=False).expired == 1
        record = rig.record(job_id)
        assert (record.state, record.attempts) == (State.FAILED, 0)
        assert record.errors[-1].exception == "outwork.errors.Expired"
        assert record.errors[-1].message == "it waited longer than its `expires` allows"
        assert record.finished_at == about(rig.broker.now())
        assert rig.claim() == []

    def test_the_time_to_expire_counts_from_the_due_time(self, rig: Rig) -> None:
        rig.need("defer")
        job_id = rig.put_one(new_job(delay=100.0, expires=60.0))
        rig.advance(140)
        assert rig.tend().expired == 0
        assert rig.take_one().id == job_id

    def test_a_scheduled_job_that_nobody_saw_falling_due_expires(self, rig: Rig) -> None:
        rig.need("defer", "results")
        job_id = rig.put_one(new_job(delay=100.0, expires=60.0))
        rig.advance(161)
        assert rig.tend().expired == 1
        assert rig.claim() == []
        assert rig.record(job_id).state is State.FAILED

    def test_a_running_job_does_not_expire(self, rig: Rig) -> None:
        rig.put_one(new_job(expires=10.0))
        claimed = rig.take_one()
        rig.advance(20)
        assert rig.tend().expired == 0
        assert rig.settle(claimed, Done(b"1")) is Answer.DONE

    def test_a_job_given_back_too_late_expires(self, rig: Rig) -> None:
        rig.need("results")
        job_id = rig.put_one(new_job(expires=10.0))
        claimed = rig.take_one()
        rig.advance(20)
        rig.settle(claimed, Release())
        assert rig.claim() == []
        assert rig.tend().expired == 1
        assert rig.record(job_id).state is State.FAILED

    def test_thousands_of_expired_jobs_all_end(self, rig: Rig) -> None:
        rig.need("results")
        rig.put(*(new_job(expires=60.0) for _ in range(2500)))
        rig.advance(61)
        assert rig.tend().expired == 2500

    def test_an_expired_job_retried_by_hand_does_not_expire_again(self, rig: Rig) -> None:
        job_id = rig.put_one(new_job(expires=60.0))
        rig.advance(61)
        rig.tend()
        assert rig.store.retry([job_id]) == [State.READY]
        assert rig.take_one().id == job_id
