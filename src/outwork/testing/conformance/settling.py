"""Promises of the settling half of `exchange`: every outcome, once, by the claim that holds the job and no other."""

from __future__ import annotations

import pytest

from outwork.brokers.base import Settlement
from outwork.ids import new_claim_id
from outwork.job import Again, Answer, Cancelled, Dead, Done, Outcome, Release, State
from outwork.testing.conformance.rig import Promises, Rig, about, ids, new_failure, new_job

OUTCOMES = [
    Done(b"1"),
    Again(0.0),
    Again(60.0, (new_failure(),)),
    Again(0.0, counted=False),
    Dead((new_failure(),)),
    Release(),
    Release(30.0, missed=True),
    Cancelled(),
]


def names(outcome: Outcome) -> str:
    return type(outcome).__name__


class SettlingPromises(Promises):
    # ---- fencing ----

    @pytest.mark.parametrize("outcome", OUTCOMES, ids=names)
    def test_an_outcome_is_accepted_once_and_then_known_already(self, rig: Rig, outcome: Outcome) -> None:
        rig.need("fenced")
        rig.put_one()
        claimed = rig.take_one()
        assert rig.settle(claimed, outcome) is Answer.DONE
        before = rig.record(claimed.id)
        assert rig.settle(claimed, outcome) is Answer.ALREADY
        assert rig.record(claimed.id) == before

    @pytest.mark.parametrize("outcome", OUTCOMES, ids=names)
    def test_an_outcome_of_another_claim_changes_nothing(self, rig: Rig, outcome: Outcome) -> None:
        rig.need("fenced")
        rig.put_one()
        claimed = rig.take_one()
        before = rig.record(claimed.id)
        assert rig.settle(claimed._replace(claim_id=new_claim_id()), outcome) is Answer.STALE
        assert rig.record(claimed.id) == before
        assert rig.settle(claimed, Done(b"1")) is Answer.DONE

    def test_the_first_outcome_stands(self, rig: Rig) -> None:
        rig.need("fenced")
        rig.put_one()
        claimed = rig.take_one()
        rig.settle(claimed, Done(b'"first"'))
        assert rig.settle(claimed, Dead((new_failure(),))) is Answer.ALREADY
        assert rig.settle(claimed, Done(b'"second"')) is Answer.ALREADY
        assert (rig.record(claimed.id).state, rig.record(claimed.id).result) == (State.SUCCESSFUL, b'"first"')

    def test_the_outcome_of_an_earlier_attempt_is_stale(self, rig: Rig) -> None:
        rig.need("fenced")
        rig.put_one()
        first = rig.take_one()
        rig.settle(first, Again(0.0))
        second = rig.take_one()
        before = rig.record(first.id)
        assert rig.settle(first, Done(b'"late"')) is Answer.STALE
        assert rig.record(first.id) == before
        assert rig.settle(second, Done(b'"good"')) is Answer.DONE

    def test_an_outcome_of_an_unknown_job_is_stale(self, rig: Rig) -> None:
        rig.need("fenced")
        settlement = Settlement(new_job().id, new_claim_id(), Done(b"1"))
        assert rig.exchange([settlement]).answers == [Answer.STALE]

    def test_an_outcome_of_a_waiting_job_is_stale(self, rig: Rig) -> None:
        rig.need("fenced")
        job_id = rig.put_one()
        assert rig.exchange([Settlement(job_id, new_claim_id(), Done(b"1"))]).answers == [Answer.STALE]
        assert rig.record(job_id).state is State.READY

    def test_answers_come_in_the_order_of_the_outcomes(self, rig: Rig) -> None:
        rig.need("fenced")
        rig.put(*(new_job() for _ in range(4)))
        a, b, c, d = rig.take(4)
        rig.settle(b, Done(b"1"))
        mixed = [
            Settlement(c.id, c.claim_id, Again(5.0)),
            Settlement(b.id, b.claim_id, Done(b"1")),
            Settlement(a.id, new_claim_id(), Done(b"1")),
            Settlement(a.id, a.claim_id, Dead((new_failure(),))),
            Settlement(d.id, d.claim_id, Done(b"1")),
        ]
        answers = rig.exchange(mixed).answers
        assert answers == [Answer.DONE, Answer.ALREADY, Answer.STALE, Answer.DONE, Answer.DONE]

    def test_the_same_outcome_twice_in_one_exchange_is_done_and_already(self, rig: Rig) -> None:
        rig.need("fenced")
        rig.put_one()
        claimed = rig.take_one()
        settlement = Settlement(claimed.id, claimed.claim_id, Done(b"1"))
        assert rig.exchange([settlement, settlement]).answers == [Answer.DONE, Answer.ALREADY]

    def test_a_thousand_outcomes_fit_in_one_exchange(self, rig: Rig) -> None:
        jobs = rig.put(*(new_job() for _ in range(1000)))
        outcomes = [Settlement(job.id, job.claim_id, Done(b"%d" % n)) for n, job in enumerate(rig.take(1000))]
        assert rig.exchange(outcomes).answers == [Answer.DONE] * 1000
        assert rig.claim() == []
        assert [record and record.result for record in rig.store.get(jobs)] == [b"%d" % n for n in range(1000)]

    # ---- each outcome ----

    def test_a_job_done_is_successful_with_its_result(self, rig: Rig) -> None:
        job_id = rig.put_one()
        claimed = rig.take_one(worker="worker-7")
        assert rig.settle(claimed, Done(b'{"sum":3}')) is Answer.DONE
        assert rig.claim() == []
        record = rig.record(job_id)
        assert (record.state, record.result, record.worker) == (State.SUCCESSFUL, b'{"sum":3}', "worker-7")
        assert (record.attempts, record.failures, record.crashes, record.errors) == (1, 0, 0, ())
        assert record.lease_until is None
        assert record.started_at == about(rig.broker.now())
        assert record.finished_at == about(rig.broker.now())

    def test_a_running_job_says_who_runs_it(self, rig: Rig) -> None:
        rig.put_one()
        claimed = rig.take_one(worker="worker-7")
        record = rig.record(claimed.id)
        assert (record.state, record.worker, record.claim_id) == (State.RUNNING, "worker-7", claimed.claim_id)
        assert (record.attempts, record.finished_at) == (1, None)
        assert record.lease_until is not None
        assert record.started_at == about(rig.broker.now())

    def test_a_failed_attempt_is_counted_and_its_failure_handed_on(self, rig: Rig) -> None:
        failure = new_failure("connection refused: 日本")
        job_id = rig.put_one()
        assert rig.settle(rig.take_one(), Again(0.0, (failure,))) is Answer.DONE
        record = rig.record(job_id)
        assert (record.state, record.failures, record.attempts) == (State.READY, 1, 1)
        assert (record.errors, record.lease_until) == ((failure,), None)
        second = rig.take_one()
        assert (second.id, second.attempt, second.failures, second.errors) == (job_id, 2, 1, (failure,))

    def test_a_retry_waits_for_its_delay(self, rig: Rig) -> None:
        rig.need("defer")
        job_id = rig.put_one()
        rig.settle(rig.take_one(), Again(60.0, (new_failure(),)))
        assert rig.claim() == []
        rig.advance(50)
        assert rig.claim() == []
        rig.advance(11)
        assert rig.take_one().id == job_id

    def test_a_retry_that_waits_is_scheduled(self, rig: Rig) -> None:
        rig.need("defer")
        job_id = rig.put_one()
        rig.settle(rig.take_one(), Again(60.0, (new_failure(),)))
        record = rig.record(job_id)
        assert (record.state, record.attempts) == (State.SCHEDULED, 1)
        assert record.due == about(rig.broker.now() + 60)

    def test_a_snoozed_attempt_is_not_counted_and_the_failures_stay(self, rig: Rig) -> None:
        failure = new_failure()
        rig.put_one()
        rig.settle(rig.take_one(), Again(0.0, (failure,)))
        rig.settle(rig.take_one(), Again(0.0, counted=False))
        third = rig.take_one()
        assert (third.attempt, third.failures, third.errors) == (2, 1, (failure,))

    def test_a_dead_job_is_failed_with_its_failures(self, rig: Rig) -> None:
        failures = (new_failure("one"), new_failure("two", 2))
        job_id = rig.put_one()
        rig.settle(rig.take_one(), Again(0.0, failures[:1]))
        assert rig.settle(rig.take_one(), Dead(failures)) is Answer.DONE
        assert rig.claim() == []
        record = rig.record(job_id)
        assert (record.state, record.failures, record.attempts) == (State.FAILED, 2, 2)
        assert (record.errors, record.result) == (failures, None)
        assert record.finished_at == about(rig.broker.now())

    def test_a_job_given_back_is_not_counted(self, rig: Rig) -> None:
        job_id = rig.put_one()
        rig.settle(rig.take_one(), Release())
        again = rig.take_one()
        assert (again.id, again.attempt, again.failures, again.crashes, again.misses) == (job_id, 1, 0, 0, 0)

    def test_the_record_of_a_job_given_back_is_ready_at_its_old_due(self, rig: Rig) -> None:
        job_id = rig.put_one()
        before = rig.record(job_id)
        rig.settle(rig.take_one(), Release())
        record = rig.record(job_id)
        assert (record.state, record.due, record.attempts) == (State.READY, before.due, 0)
        assert record.lease_until is None

    def test_a_job_given_back_with_a_delay_waits_for_it(self, rig: Rig) -> None:
        rig.need("defer")
        job_id = rig.put_one()
        rig.settle(rig.take_one(), Release(30.0))
        assert rig.claim() == []
        rig.advance(31)
        assert (again := rig.take_one()).id == job_id
        assert again.attempt == 1

    def test_misses_are_counted_apart(self, rig: Rig) -> None:
        rig.need("defer")
        rig.put_one()
        for misses in range(3):
            claimed = rig.take_one()
            assert (claimed.misses, claimed.attempt) == (misses, 1)
            rig.settle(claimed, Release(30.0, missed=True))
            rig.advance(31)

    def test_a_cancelled_attempt_ends_the_job_cancelled(self, rig: Rig) -> None:
        job_id = rig.end(Cancelled())
        assert rig.claim() == []
        record = rig.record(job_id)
        assert (record.state, record.result) == (State.CANCELLED, None)
        assert record.finished_at == about(rig.broker.now())

    def test_a_cancelled_attempt_may_say_why(self, rig: Rig) -> None:
        rig.put_one()
        first = new_failure("first")
        rig.settle(rig.take_one(), Again(0.0, (first,)))
        claimed = rig.take_one()
        why = (first, new_failure("it is not needed any more"))
        rig.settle(claimed, Cancelled(why))
        record = rig.record(claimed.id)
        assert (record.state, record.errors) == (State.CANCELLED, why)

    def test_attempts_are_failures_and_crashes_and_the_one_that_runs(self, rig: Rig) -> None:
        rig.need("fenced")
        job_id = rig.put_one()
        life: list[tuple[int, Outcome | None]] = [
            (1, Again(0.0)),
            (2, Release()),
            (2, None),
            (3, Again(0.0, counted=False)),
            (3, None),
        ]
        for attempt, outcome in life:
            claimed = rig.take_one()
            assert (claimed.attempt, rig.record(job_id).attempts) == (attempt, attempt)
            if outcome is None:
                rig.crash()
            else:
                rig.settle(claimed, outcome)
        last = rig.take_one()
        assert (last.failures, last.crashes, last.attempt) == (1, 2, 4)
        rig.settle(last, Done(b"1"))
        assert rig.record(job_id).attempts == 4

    def test_settling_and_claiming_in_one_exchange(self, rig: Rig) -> None:
        rig.put(new_job(), new_job(), new_job())
        first = rig.take_one()
        rig.broker.wait(["default"], 1.0)
        both = rig.exchange([Settlement(first.id, first.claim_id, Done(b"1"))], limit=2)
        assert both.answers == [Answer.DONE]
        taken = both.claimed + rig.take(2 - len(both.claimed))
        assert len(set(ids(taken))) == 2
