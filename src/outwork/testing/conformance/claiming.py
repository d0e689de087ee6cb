"""Promises of the claiming half of `exchange`: who gets what, in which order, and only once."""

from __future__ import annotations

import time
from functools import partial

from outwork.brokers.base import Settlement, Share
from outwork.ids import new_claim_id
from outwork.job import Again, Answer, Done, Release
from outwork.testing.conformance.rig import DEADLINE, Background, Promises, Rig, ids, new_job, shares


class ClaimingPromises(Promises):
    # ---- order ----

    def test_jobs_are_claimed_in_the_order_of_enqueueing(self, rig: Rig) -> None:
        jobs = rig.put(*(new_job() for _ in range(10)))
        assert ids(rig.take(4)) + ids(rig.take(6)) == jobs

    def test_higher_priority_goes_first(self, rig: Rig) -> None:
        rig.need_priorities(3)
        low, middle, high = rig.put(new_job(priority=-100), new_job(), new_job(priority=100))
        assert ids(rig.take(3)) == [high, middle, low]

    def test_every_priority_is_told_apart(self, rig: Rig) -> None:
        rig.need_priorities(201)
        jobs = rig.put(*(new_job(priority=priority) for priority in range(-100, 101)))
        assert ids(rig.take(201)) == jobs[::-1]

    def test_the_earlier_due_goes_first(self, rig: Rig) -> None:
        rig.need("defer", "ordered")
        now = rig.broker.now()
        late, early = rig.put(new_job(due=now - 100), new_job(due=now - 200))
        assert ids(rig.take(2)) == [early, late]

    def test_priority_beats_due(self, rig: Rig) -> None:
        rig.need("defer", "ordered")
        rig.need_priorities(201)
        old, urgent = rig.put(new_job(due=rig.broker.now() - 1000), new_job(priority=1))
        assert ids(rig.take(2)) == [urgent, old]

    def test_a_job_given_back_is_at_its_old_place(self, rig: Rig) -> None:
        rig.need("ordered")
        jobs = rig.put(*(new_job() for _ in range(4)))
        first, second = rig.take(2)
        rig.settle(second, Release())
        rig.settle(first, Release())
        assert ids(rig.take(4)) == jobs

    def test_a_job_to_run_again_now_stands_behind_those_that_waited_before(self, rig: Rig) -> None:
        rig.need("defer")
        first, second = rig.put(new_job(), new_job())
        rig.advance(10)
        rig.settle(rig.take_one(), Again(0.0))
        assert ids(rig.take(2)) == [second, first]

    # ---- how many, and from where ----

    def test_a_claim_takes_up_to_its_limit(self, rig: Rig) -> None:
        rig.put(*(new_job() for _ in range(5)))
        assert len(rig.take(3)) == 3
        assert len(rig.claim(10)) == 2
        assert rig.claim(10) == []

    def test_a_limit_of_zero_claims_nothing(self, rig: Rig) -> None:
        rig.put_one()
        assert rig.claim(0) == []
        assert len(rig.take(1)) == 1

    def test_only_the_queues_asked_for_are_touched(self, rig: Rig) -> None:
        other, mine = rig.put(new_job(queue="other"), new_job(queue="mine"))
        assert ids(rig.take(1, queues=shares("mine", "empty"))) == [mine]
        assert rig.claim(queues=shares("mine", "empty")) == []
        assert ids(rig.take(1, queues=shares("other"))) == [other]

    def test_without_queues_nothing_is_claimed(self, rig: Rig) -> None:
        rig.put_one()
        assert rig.claim(queues=()) == []

    def test_queues_are_served_in_the_order_of_their_turn(self, rig: Rig) -> None:
        a1, b1, a2, b2 = rig.put(*(new_job(queue=queue) for queue in "abab"))
        assert ids(rig.take(3, queues=shares("b", "a"))) == [b1, b2, a1]
        assert ids(rig.take(1, queues=shares("b", "a"))) == [a2]

    def test_the_turn_of_the_queues_beats_priority(self, rig: Rig) -> None:
        rig.need_priorities(3)
        a, _ = rig.put(new_job(queue="a", priority=-100), new_job(queue="b", priority=100))
        assert ids(rig.take(1, queues=shares("a", "b"))) == [a]

    def test_a_queue_gives_no_more_than_its_share(self, rig: Rig) -> None:
        rig.put(*(new_job(queue="a") for _ in range(5)), *(new_job(queue="b") for _ in range(5)))
        rig.broker.wait(["a", "b"], 1.0)
        claimed = rig.claim(10, queues=[Share("a", 2), Share("b", 3)])
        assert len(claimed) == 5
        assert len(rig.take(3, queues=shares("a"))) == 3
        assert rig.claim(10, queues=[Share("a", 10), Share("b", 0)]) == []

    # ---- once ----

    def test_a_claimed_job_is_not_claimed_again(self, rig: Rig) -> None:
        rig.put_one()
        rig.take_one()
        assert rig.claim(worker="worker-2") == []
        assert rig.another().claim(worker="worker-3") == []

    def test_a_claim_repeated_returns_the_same_jobs_and_no_others(self, rig: Rig) -> None:
        jobs = rig.put(*(new_job() for _ in range(5)))
        claim_id = new_claim_id()
        rig.broker.wait(["default"], 1.0)
        first = rig.claim(3, claim_id=claim_id)
        again = rig.claim(3, claim_id=claim_id)
        assert sorted(first) == sorted(again)
        assert ids(first) == jobs[:3]
        assert ids(rig.claim()) == jobs[3:]

    def test_a_claim_repeated_through_another_object_returns_the_same_jobs(self, rig: Rig) -> None:
        rig.need("shared", "fenced")
        rig.put(*(new_job() for _ in range(3)))
        claim_id = new_claim_id()
        first = rig.claim(2, claim_id=claim_id)
        assert sorted(rig.another().claim(2, claim_id=claim_id)) == sorted(first)

    def test_a_claim_repeated_returns_only_what_it_still_holds(self, rig: Rig) -> None:
        rig.put(*(new_job() for _ in range(4)))
        claim_id = new_claim_id()
        rig.broker.wait(["default"], 1.0)
        first, second = rig.claim(2, claim_id=claim_id)
        rig.settle(first, Done(b"1"))
        assert rig.claim(2, claim_id=claim_id) == [second]

    def test_a_claim_that_found_nothing_may_find_something_when_it_is_repeated(self, rig: Rig) -> None:
        claim_id = new_claim_id()
        assert rig.claim(claim_id=claim_id) == []
        job_id = rig.put_one()
        rig.broker.wait(["default"], 1.0)
        assert ids(rig.claim(claim_id=claim_id)) == [job_id]

    def test_an_exchange_repeated_settles_once(self, rig: Rig) -> None:
        rig.put(new_job(), new_job())
        first = rig.take_one()
        claim_id = new_claim_id()
        outcomes = [Settlement(first.id, first.claim_id, Done(b"1"))]
        lost = rig.exchange(outcomes, limit=1, claim_id=claim_id)
        again = rig.exchange(outcomes, limit=1, claim_id=claim_id)
        assert (lost.answers, again.answers) == ([Answer.DONE], [Answer.ALREADY])
        assert not lost.claimed or lost.claimed == again.claimed  # a transport may need a moment to deliver

    def test_a_job_settled_for_again_can_be_claimed_in_the_same_exchange(self, rig: Rig) -> None:
        job_id = rig.put_one()
        claimed = rig.take_one()
        done = rig.exchange([Settlement(claimed.id, claimed.claim_id, Again(0.0))], limit=1)
        assert done.answers == [Answer.DONE]
        taken = done.claimed or rig.take(1)
        assert (taken[0].id, taken[0].attempt) == (job_id, 2)

    def test_two_thousand_jobs_claimed_by_eight_threads_are_each_claimed_once(self, rig: Rig) -> None:
        jobs = rig.put(*(new_job() for _ in range(2000)))
        taken: list[str] = []
        deadline = time.monotonic() + DEADLINE

        def drain(one: Rig, worker: str) -> None:
            while len(taken) < len(jobs) and time.monotonic() < deadline:
                taken.extend(ids(one.claim(7, worker=worker)))

        threads = [Background(partial(drain, rig.another(), f"worker-{n}")) for n in range(8)]
        for thread in threads:
            thread.result()
        assert sorted(taken) == sorted(jobs)
        assert rig.claim() == []

    # ---- solo jobs ----

    def test_an_at_most_once_job_is_never_prefetched(self, rig: Rig) -> None:
        solo, normal = rig.put(new_job(at_most_once=True), new_job())
        rig.broker.wait(["default"], 1.0)
        assert ids(rig.claim(5, free=0)) == [normal]
        assert ids(rig.take(1)) == [solo]

    def test_a_job_that_crashed_is_never_prefetched(self, rig: Rig) -> None:
        rig.need("fenced")
        crashed = rig.put_one()
        rig.take_one()
        rig.crash()
        normal = rig.put_one()
        assert ids(rig.claim(5, free=0)) == [normal]
        assert ids(rig.claim(5, free=1)) == [crashed]

    def test_no_more_solo_jobs_than_free_slots_are_claimed(self, rig: Rig) -> None:
        solo1, solo2, normal1, normal2 = rig.put(
            new_job(at_most_once=True), new_job(at_most_once=True), new_job(), new_job()
        )
        rig.broker.wait(["default"], 1.0)
        assert ids(rig.claim(10, free=1)) == [solo1, normal1, normal2]
        rig.broker.wait(["default"], 1.0)
        assert ids(rig.claim(10, free=1)) == [solo2]

    def test_the_free_slots_are_shared_by_all_queues(self, rig: Rig) -> None:
        a, b = rig.put(new_job(queue="a", at_most_once=True), new_job(queue="b", at_most_once=True))
        rig.broker.wait(["a", "b"], 1.0)
        assert ids(rig.claim(10, free=1, queues=shares("a", "b"))) == [a]
        assert ids(rig.take(1, queues=shares("b"))) == [b]

    def test_jobs_that_are_not_solo_do_not_use_up_the_free_slots(self, rig: Rig) -> None:
        jobs = rig.put(new_job(), new_job(), new_job(at_most_once=True))
        rig.broker.wait(["default"], 1.0)
        assert ids(rig.claim(10, free=1)) == jobs

    def test_a_solo_job_passed_over_keeps_its_place(self, rig: Rig) -> None:
        jobs = rig.put(new_job(at_most_once=True), *(new_job() for _ in range(3)))
        rig.broker.wait(["default"], 1.0)
        assert ids(rig.claim(2, free=0, queues=[Share("default", 1)])) == [jobs[1]]
        assert ids(rig.claim(3)) == [jobs[0], jobs[2], jobs[3]]
