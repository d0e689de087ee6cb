"""Promises of leases: a worker that dies or freezes loses its jobs, and what it says later changes nothing."""

from __future__ import annotations

from threading import Event

import pytest
from msgspec.structs import replace

from outwork.brokers.base import Claim, Extended
from outwork.ids import new_claim_id
from outwork.job import Again, Answer, Dead, Done, Outcome, Release, State, Terms
from outwork.testing.conformance.rig import (
    Background,
    Promises,
    Rig,
    about,
    held,
    ids,
    new_failure,
    new_job,
    shares,
)

NOTHING_LOST = Extended(frozenset(), frozenset())


class LeasingPromises(Promises):
    # ---- the lease ----

    def test_a_job_is_not_rescued_while_its_lease_lasts(self, rig: Rig) -> None:
        rig.need("fenced")
        rig.put_one()
        claimed = rig.take_one()
        rig.advance(rig.broker.terms.lease - 5)
        assert rig.tend().rescued == 0
        assert rig.claim() == []
        assert rig.settle(claimed, Done(b"1")) is Answer.DONE

    def test_a_job_whose_lease_ran_out_is_run_again(self, rig: Rig) -> None:
        rig.need("fenced")
        job_id = rig.put_one()
        rig.take_one(worker="worker-1")
        rig.advance(rig.broker.terms.lease + 1)
        assert rig.tend().rescued == 1
        again = rig.take_one(worker="worker-2")
        assert (again.id, again.attempt, again.crashes, again.failures) == (job_id, 2, 1, 0)

    def test_a_rescued_job_says_what_happened_to_it(self, rig: Rig) -> None:
        rig.need("fenced")
        job_id = rig.put_one()
        rig.take_one(worker="worker-7")
        rig.advance(rig.broker.terms.lease + 1)
        rig.tend()
        record = rig.record(job_id)
        assert (record.state, record.claim_id, record.lease_until) == (State.READY, None, None)
        assert (record.attempts, record.crashes, record.failures) == (1, 1, 0)
        [failure] = record.errors
        assert failure.exception == "outwork.errors.WorkerDied"
        assert failure.message == "its worker died or lost the lease (1 of 3 crashes allowed)"
        assert (failure.worker, failure.attempt, failure.at) == ("worker-7", 1, about(rig.broker.now()))

    def test_nothing_is_rescued_unless_asked_for(self, rig: Rig) -> None:
        rig.need("fenced")
        job_id = rig.put_one()
        rig.take_one()
        rig.advance(rig.broker.terms.lease * 10)
        assert rig.tend(rescue=False).rescued == 0
        assert rig.record(job_id).state is State.RUNNING
        assert rig.claim() == []

    def test_a_lease_may_be_as_short_as_the_terms_say(self, rig: Rig) -> None:
        rig.need("fenced")
        short = rig.another(Terms(lease=2.0))
        job_id = short.put_one()
        short.take_one()
        rig.advance(3)
        assert short.tend().rescued == 1
        assert short.take_one().id == job_id

    def test_an_extended_lease_lasts_from_then_on(self, rig: Rig) -> None:
        rig.need("fenced")
        rig.put_one()
        claimed = rig.take_one()
        for _ in range(20):
            rig.advance(rig.broker.terms.lease - 5)
            assert rig.broker.extend([held(claimed)]) == NOTHING_LOST
            assert rig.tend().rescued == 0
        assert rig.settle(claimed, Done(b"1")) is Answer.DONE

    def test_extending_moves_nothing_but_the_lease(self, rig: Rig) -> None:
        rig.need("fenced")
        job_id = rig.put_one()
        claimed = rig.take_one()
        before = rig.record(job_id)
        rig.advance(10)
        rig.broker.extend([held(claimed)])
        after = rig.record(job_id)
        assert before.lease_until is not None
        assert after.lease_until == about(before.lease_until + 10)
        assert replace(after, lease_until=before.lease_until) == before

    def test_a_thousand_leases_are_extended_in_one_call(self, rig: Rig) -> None:
        rig.need("fenced")
        rig.put(*(new_job() for _ in range(1000)))
        claims = [held(job) for job in rig.take(1000)]
        rig.advance(rig.broker.terms.lease - 5)
        assert rig.broker.extend(claims) == NOTHING_LOST
        rig.advance(10)
        assert rig.tend().rescued == 0

    def test_extending_nothing_is_fine(self, rig: Rig) -> None:
        assert rig.broker.extend([]) == NOTHING_LOST

    def test_a_lease_that_is_not_held_is_lost(self, rig: Rig) -> None:
        rig.need("fenced")
        rig.put(*(new_job() for _ in range(4)))
        running, other, finished, waiting = rig.take(4)
        rig.settle(finished, Done(b"1"))
        rig.settle(waiting, Release())
        unknown = new_job().id
        answer = rig.broker.extend(
            [
                held(running),
                Claim(other.id, new_claim_id()),
                held(finished),
                held(waiting),
                Claim(unknown, new_claim_id()),
            ]
        )
        assert answer == Extended(frozenset({other.id, finished.id, waiting.id, unknown}), frozenset())

    def test_a_stale_extend_changes_nothing(self, rig: Rig) -> None:
        rig.need("fenced")
        job_id = rig.put_one()
        rig.take_one()
        before = rig.record(job_id)
        rig.advance(10)
        rig.broker.extend([Claim(job_id, new_claim_id())])
        assert rig.record(job_id) == before

    def test_extending_says_which_jobs_somebody_wants_cancelled(self, rig: Rig) -> None:
        rig.need("fenced", "cancel")
        rig.put(new_job(), new_job())
        unwanted, wanted = rig.take(2)
        rig.store.cancel([unwanted.id])
        answer = rig.broker.extend([held(unwanted), held(wanted)])
        assert answer == Extended(frozenset(), frozenset({unwanted.id}))

    def test_leases_are_extended_while_another_thread_exchanges(self, rig: Rig) -> None:
        rig.need("fenced")
        rig.put(new_job(queue="long"), *(new_job() for _ in range(500)))
        long = held(rig.take_one(queues=shares("long")))
        over = Event()

        def exchange() -> int:
            done = 0
            while not over.is_set() and (job := rig.claim(1)):
                done += rig.settle(job[0], Done(b"1")) is Answer.DONE
            return done

        with Background(exchange) as thread:
            answers = [rig.broker.extend([long]) for _ in range(50)]
            over.set()
        assert answers == [NOTHING_LOST] * 50
        assert thread.result() > 0

    # ---- zombies ----

    @pytest.mark.parametrize("outcome", [Done(b'"late"'), Again(0.0), Dead((new_failure(),)), Release()])
    def test_a_zombie_changes_nothing(self, rig: Rig, outcome: Outcome) -> None:
        rig.need("fenced")
        job_id = rig.put_one()
        zombie = rig.take_one(worker="worker-1")
        rig.advance(rig.broker.terms.lease + 1)
        rig.tend()
        waiting = rig.record(job_id)
        assert rig.settle(zombie, outcome) is Answer.STALE
        assert rig.broker.extend([held(zombie)]).lost == {job_id}
        assert rig.record(job_id) == waiting
        second = rig.take_one(worker="worker-2")
        running = rig.record(job_id)
        assert rig.settle(zombie, outcome) is Answer.STALE
        assert rig.broker.extend([held(zombie)]).lost == {job_id}
        assert rig.record(job_id) == running
        assert rig.settle(second, Done(b'"good"')) is Answer.DONE
        assert rig.settle(zombie, outcome) is Answer.STALE
        assert rig.record(job_id).result == b'"good"'

    def test_a_late_worker_that_nobody_replaced_may_still_settle(self, rig: Rig) -> None:
        rig.need("fenced")
        rig.put_one()
        claimed = rig.take_one()
        rig.advance(rig.broker.terms.lease * 3)
        assert rig.settle(claimed, Done(b"1")) is Answer.DONE

    def test_a_late_worker_that_nobody_replaced_may_still_extend(self, rig: Rig) -> None:
        rig.need("fenced")
        rig.put_one()
        claimed = rig.take_one()
        rig.advance(rig.broker.terms.lease * 3)
        assert rig.broker.extend([held(claimed)]) == NOTHING_LOST
        assert rig.tend().rescued == 0

    def test_a_claim_repeated_after_its_jobs_were_rescued_holds_none_of_them(self, rig: Rig) -> None:
        rig.need("fenced")
        job_id = rig.put_one()
        claim_id = new_claim_id()
        rig.claim(claim_id=claim_id, worker="worker-1")
        rig.crash("worker-1")
        rig.take_one(worker="worker-2")
        assert rig.claim(claim_id=claim_id, worker="worker-1") == []
        assert rig.record(job_id).worker == "worker-2"

    # ---- deaths ----

    def test_the_jobs_of_a_dead_worker_are_rescued_at_once(self, rig: Rig) -> None:
        rig.need("fenced")
        a, b, c = rig.put(new_job(), new_job(), new_job())
        rig.take(2, worker="dead")
        rig.take(1, worker="alive")
        assert rig.broker.tend(None, rescue=False, dead=["dead", "unheard-of"]).rescued == 2
        assert ids(rig.take(2, worker="alive")) == [a, b]
        assert rig.record(c).crashes == 0

    def test_a_rescued_job_is_at_its_old_place(self, rig: Rig) -> None:
        rig.need("fenced")
        jobs = rig.put(*(new_job() for _ in range(3)))
        rig.take_one(worker="dead")
        rig.crash("dead")
        assert ids(rig.take(3)) == jobs

    def test_a_job_that_kills_its_worker_every_time_is_buried(self, rig: Rig) -> None:
        rig.need("fenced")
        job_id = rig.put_one()
        for death in range(1, 5):
            assert rig.take_one(worker="victim").attempt == death
            tended = rig.crash("victim")
            assert (tended.rescued, tended.buried) == (1, int(death == 4))
        assert rig.claim() == []
        record = rig.record(job_id)
        assert (record.state, record.crashes, record.failures, record.attempts) == (State.FAILED, 4, 0, 4)
        assert len(record.errors) == 4
        assert record.errors[-1].message == "its worker died 4 times"
        assert record.finished_at == about(rig.broker.now())

    def test_leases_that_ran_out_bury_as_deaths_do(self, rig: Rig) -> None:
        rig.need("fenced")
        job_id = rig.put_one(new_job(max_crashes=1))
        for buried in (0, 1):
            rig.take_one()
            rig.advance(rig.broker.terms.lease + 1)
            assert rig.tend().buried == buried
        assert rig.record(job_id).errors[-1].message == "its worker died 2 times"

    def test_a_job_without_a_crash_to_spare_is_buried_at_the_first(self, rig: Rig) -> None:
        rig.need("fenced")
        job_id = rig.put_one(new_job(max_crashes=0))
        rig.take_one()
        assert rig.crash().buried == 1
        assert rig.record(job_id).state is State.FAILED

    def test_crashes_are_counted_apart_from_failures(self, rig: Rig) -> None:
        rig.need("fenced")
        job_id = rig.put_one(new_job(max_crashes=1))
        for _ in range(5):
            rig.settle(rig.take_one(), Again(0.0))
        rig.take_one()
        assert rig.crash().buried == 0
        record = rig.record(job_id)
        assert (record.state, record.failures, record.crashes, record.attempts) == (State.READY, 5, 1, 6)

    def test_a_long_list_of_failures_keeps_the_first_and_the_last(self, rig: Rig) -> None:
        rig.need("fenced")
        job_id = rig.put_one()
        failures = tuple(new_failure(str(number), number) for number in range(1, 11))
        rig.settle(rig.take_one(), Again(0.0, failures))
        rig.take_one()
        rig.crash()
        errors = rig.record(job_id).errors
        assert errors[:-1] == (failures[0], *failures[2:])
        assert errors[-1].exception == "outwork.errors.WorkerDied"

    def test_an_at_most_once_job_whose_worker_died_is_failed_and_never_started_again(self, rig: Rig) -> None:
        rig.need("fenced")
        job_id = rig.put_one(new_job(at_most_once=True))
        rig.take_one()
        tended = rig.crash()
        assert (tended.rescued, tended.buried) == (1, 1)
        assert rig.claim() == []
        record = rig.record(job_id)
        assert (record.state, record.crashes) == (State.FAILED, 1)
        assert record.errors[-1].message.startswith("worker died; the task is delivered at most once")

    def test_a_dead_worker_s_job_that_somebody_cancelled_is_cancelled(self, rig: Rig) -> None:
        rig.need("fenced", "cancel")
        job_id = rig.put_one()
        rig.take_one()
        rig.store.cancel([job_id])
        tended = rig.crash()
        assert (tended.rescued, tended.buried) == (1, 0)
        assert rig.claim() == []
        assert (rig.record(job_id).state, rig.record(job_id).crashes) == (State.CANCELLED, 1)

    def test_thousands_of_leases_that_ran_out_are_all_rescued(self, rig: Rig) -> None:
        rig.need("fenced")
        jobs = rig.put(*(new_job() for _ in range(2500)))
        rig.take(2500)
        rig.advance(rig.broker.terms.lease + 1)
        assert rig.tend().rescued == 2500
        assert sorted(ids(rig.take(2500))) == sorted(jobs)
